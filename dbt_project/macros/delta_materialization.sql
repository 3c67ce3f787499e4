{#- A model kept as the Delta table <models root>/<schema>/<model>, partitioned by trade_date. The trade dates of the build
    are replaced by its rows, in one commit; all other dates stay. Downstream models read a view over delta_scan.

    Config: sorted_by (columns that cluster the files), dates ('build' or 'adjusted': which macro names the dates).

    The commit is outside dbt's transaction: a test that fails later undoes nothing, and is not meant to. -#}

{% materialization delta, adapter='duckdb' %}

  {%- set table = this.schema ~ '/' ~ this.identifier -%}
  {%- set target_relation = this.incorporate(type='view') -%}
  {%- set new_rows = make_intermediate_relation(target_relation, suffix='__new') -%}
  {%- set restated = restatements() if config.get('dates') == 'adjusted' else {} -%}
  {%- set dates = adjusted_dates() if config.get('dates') == 'adjusted' else build_dates() -%}
  {%- if config.get('contract').enforced -%}
    {{ get_assert_columns_equivalent(sql) }}
  {%- endif -%}

  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {{ run_hooks(pre_hooks, inside_transaction=True) }}

  {%- if dates -%}
    {#- The rows stay a query until they are streamed into the table; a table in between would be written for nothing. -#}
    {%- call statement('new_rows') -%}
      create or replace view {{ new_rows }} as {{ sql }}
    {%- endcall -%}
    {{ adapter.commit() }}
    {%- do adapter.store_relation('delta_plugin', new_rows, [], delta_path(table), 'delta', {
      'root': models_root(),
      'table': table,
      'dates': dates,
      'sorted_by': config.get('sorted_by', []),
      'required': required_columns(model.columns),
      'model': model.unique_id,
      'restated': restated,
    }) -%}
  {%- endif -%}

  {%- call statement('main') -%}
    create or replace view {{ target_relation }} as
    select * from {{ delta_relation(table) if delta_exists(table) else no_rows(model.columns) }}
  {%- endcall -%}
  {%- if dates -%}
    {%- call statement('drop_new_rows') -%}drop view if exists {{ new_rows }}{%- endcall -%}
  {%- endif -%}

  {{ run_hooks(post_hooks, inside_transaction=True) }}
  {{ adapter.commit() }}
  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {%- for day, underlyings in restated.items() -%}
    {%- do log(table ~ ': corporate actions restated ' ~ day ~ ' (' ~ underlyings | join(', ') ~ ')', info=True) -%}
  {%- endfor -%}

  {{ return({'relations': [target_relation]}) }}

{% endmaterialization %}

{#- Columns whose contract says not_null: Delta refuses a row without them. -#}
{% macro required_columns(columns) -%}
  {%- set names = [] -%}
  {%- for column in columns.values() if column.constraints | selectattr('type', 'equalto', 'not_null') | list -%}
    {%- do names.append(column.name) -%}
  {%- endfor -%}
  {{ return(names) }}
{%- endmacro %}
