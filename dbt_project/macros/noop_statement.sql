{#- dbt's own, except that it writes nothing for seeds. dbt keeps a copy of what it ran under target/run/<package>/<path>;
    for a seed from outside the project that path can be the CSV file itself, which would then hold SQL (dbt-core 1.11).
    universe.csv and corporate_actions.csv are such seeds, and are edited by people. -#}
{% macro noop_statement(name=none, message=none, code=none, rows_affected=none, res=none) -%}
  {%- set sql = caller() -%}
  {%- if name == 'main' and model.resource_type != 'seed' -%}
    {{ write(sql) }}
  {%- endif -%}
  {%- if name is not none -%}
    {{ store_raw_result(name, message=message, code=code, rows_affected=rows_affected, agate_table=res) }}
  {%- endif -%}
{%- endmacro %}
