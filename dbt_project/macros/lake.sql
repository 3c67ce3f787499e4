{#- Where the Delta tables are, and how to read one that may not be there yet. -#}

{#- The profile's `external_root`, absolute: views keep it. -#}
{% macro lake_root() -%}
  {{ return(adapter.external_root().rstrip('/')) }}
{%- endmacro %}

{#- Where the models are kept: in the lake, or in the scratch lake that var `models_root` names. -#}
{% macro models_root() -%}
  {{ return((var('models_root') or lake_root()).rstrip('/')) }}
{%- endmacro %}

{% macro delta_path(table) -%}
  {%- set root = lake_root() if table.split('/')[0] in ('raw', 'ops') else models_root() -%}
  {{ return(root ~ '/' ~ table) }}
{%- endmacro %}

{#- Whether the Delta table `schema/name` has a log. Asked of the file system: binding delta_scan to a missing table
    would break the transaction of the model that asks. -#}
{% macro delta_exists(table) -%}
  {%- set query -%}
    select count(*) from glob('{{ delta_path(table) | replace("'", "''") }}/_delta_log/*.json')
  {%- endset -%}
  {{ return(run_query(query).columns[0].values()[0] > 0) }}
{%- endmacro %}

{% macro delta_relation(table) -%}
  {{ return("delta_scan('" ~ (delta_path(table) | replace("'", "''")) ~ "')") }}
{%- endmacro %}

{#- A select without rows that has the columns of `columns` (name -> column with name and data_type). -#}
{% macro no_rows(columns) -%}
  (select
    {%- for column in columns.values() %}
    cast(null as {{ column.data_type }}) as {{ adapter.quote(column.name) }}{{ ',' if not loop.last }}
    {%- endfor %}
  where 1 = 0)
{%- endmacro %}

{#- The source `schema.name` at the version that this run has pinned, or no rows of its columns while the lake has no such
    table. -#}
{% macro lake_source(schema, name) -%}
  {%- set relation = source(schema, name) -%}
  {#- In a unit test the relation is a fixture, and has no external location. -#}
  {%- if not execute or not relation.external -%}{{ return(relation) }}{%- endif -%}
  {%- set pinned = pinned_relation(schema ~ '/' ~ name) -%}
  {%- if pinned -%}{{ return(pinned) }}{%- endif -%}
  {%- set node = graph.sources.values() | selectattr('source_name', 'equalto', schema) | selectattr('name', 'equalto', name) | first -%}
  {{ return(no_rows(node.columns)) }}
{%- endmacro %}

{#- The rows a model of the lake had before this build: its Delta table, or no rows of its columns. -#}
{% macro stored(schema, name) -%}
  {%- if not execute -%}{{ return('stored') }}{%- endif -%}
  {%- if delta_exists(schema ~ '/' ~ name) -%}{{ return(delta_relation(schema ~ '/' ~ name)) }}{%- endif -%}
  {%- set node = graph.nodes.values() | selectattr('resource_type', 'equalto', 'model') | selectattr('name', 'equalto', name) | first -%}
  {{ return(no_rows(node.columns)) }}
{%- endmacro %}

{#- Layers keep their names: staging, intermediate, clean, quality, without the target's schema in front. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
  {{ return((custom_schema_name or target.schema) | trim) }}
{%- endmacro %}
