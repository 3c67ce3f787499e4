{#- Capture appends to raw while a build runs. All models and tests of a run read raw and ops at the versions that stood
    when it started, or a row that comes in between would be in one table and not in the next. -#}

{% macro pinned_table() -%}
  {{ return(api.Relation.create(database=target.database, schema=target.schema, identifier='pinned_versions', type='table')) }}
{%- endmacro %}

{#- Note the versions: those of var `source_versions`, else the latest in each table's log. -#}
{% macro pin_versions() -%}
  {%- set query -%}
    {%- for table, version in var('source_versions').items() %}
    select '{{ table }}' as name, cast({{ version }} as bigint) as version{{ ' union all' if not loop.last }}
    {%- else %}
    {#- One pattern a table: in an object store all that begins like the text before the asterisk is listed. #}
    {%- for source in graph.sources.values() %}
    {%- set table = source.schema ~ '/' ~ source.name %}
    select '{{ table }}' as name, max(cast(regexp_extract(file, '([0-9]{20})[.]json$', 1) as bigint)) as version
    from glob('{{ delta_path(table) | replace("'", "''") }}/_delta_log/*.json')
    having count(*) > 0{{ ' union all' if not loop.last }}
    {%- endfor %}
    {%- endfor %}
  {%- endset -%}
  {%- do run_query('create schema if not exists ' ~ pinned_table().without_identifier()) -%}
  {%- do run_query('create or replace table ' ~ pinned_table() ~ ' as ' ~ query) -%}
{%- endmacro %}

{#- The Delta table `schema/name` at its pinned version, or nothing when there was no such table. -#}
{% macro pinned_relation(table) -%}
  {#- Commands without hooks, such as `dbt show`, pin nothing. -#}
  {%- if not has_table('pinned_versions') -%}{{ return(delta_relation(table) if delta_exists(table) else none) }}{%- endif -%}
  {%- set rows = run_query("select version from " ~ pinned_table() ~ " where name = '" ~ table ~ "'").columns[0].values() -%}
  {{ return("delta_scan('" ~ (delta_path(table) | replace("'", "''")) ~ "', version = " ~ rows[0] ~ ")" if rows else none) }}
{%- endmacro %}
