{#- What a generic test reads. Two things differ from dbt's own:

    - Tests see the trade dates of the build, not the whole history: these are what the build answers for.
    - `dbt build` skips whatever lies downstream of a failed test. Here a breach must not stop a table from being
      written (it makes the publication `failed`), so every test also refers to the last models of the graph and thereby
      runs after all of them. -#}
{% macro get_where_subquery(relation) -%}
  {%- set last_models = [ref('daily_metrics'), ref('int_restatements')] -%}
  {%- if not execute -%}{{ return(relation) }}{%- endif -%}
  {%- set conditions = [] -%}
  {%- if config.get('where') -%}{%- do conditions.append('(' ~ config.get('where') ~ ')') -%}{%- endif -%}
  {%- if relation.identifier == 'daily_adjusted' -%}
    {%- do conditions.append(dates_filter(adjusted_dates())) -%}
  {%- elif relation.schema in ('raw', 'clean', 'quality') -%}
    {%- do conditions.append(in_build()) -%}
  {%- endif -%}
  {%- set rows = lake_source(relation.schema, relation.identifier) if relation.schema in ('raw', 'ops') else relation -%}
  {%- if not conditions -%}{{ return(rows) }}{%- endif -%}
  {{ return('(select * from ' ~ rows ~ ' where ' ~ conditions | join(' and ') ~ ') as tested') }}
{%- endmacro %}
