{#- What engines spell differently. Each macro has DuckDB's form as its default and Spark's (Sail, Databricks) beside it. -#}

{#- `right` is a reserved word of SQL. -#}
{% macro quoted(column) -%}{{ adapter.quote(column) }}{%- endmacro %}

{#- A symbol as IB writes it: brk.b, BRK-B and BRK/B are BRK B. ingest/universe.py states the same rule. -#}
{% macro ib_symbol(column) -%}
  {{ return(adapter.dispatch('ib_symbol', 'chainlake')(column)) }}
{%- endmacro %}
{% macro default__ib_symbol(column) -%}upper(trim(regexp_replace({{ column }}, '[\s./-]+', ' ', 'g'))){%- endmacro %}
{% macro spark__ib_symbol(column) -%}upper(trim(regexp_replace({{ column }}, '[ \t./-]+', ' '))){%- endmacro %}

{#- The instant at which New York clocks show `clock` (HH:MM or HH:MM:SS) on the date `day`. -#}
{% macro new_york_instant(day, clock) -%}
  {{ return(adapter.dispatch('new_york_instant', 'chainlake')(day, clock)) }}
{%- endmacro %}
{% macro default__new_york_instant(day, clock) -%}
  timezone('America/New_York', cast({{ day }} as timestamp) + interval '{{ clock.split(':')[0] }} hours {{ clock.split(':')[1] }} minutes {{ clock.split(':')[2] | default('0') }} seconds')
{%- endmacro %}
{% macro spark__new_york_instant(day, clock) -%}
  to_utc_timestamp(cast({{ day }} as timestamp) + interval '{{ clock.split(':')[0] }}' hour + interval '{{ clock.split(':')[1] }}' minute + interval '{{ clock.split(':')[2] | default('0') }}' second, 'America/New_York')
{%- endmacro %}

{#- The flags `conditions` ([name, condition] pairs) that hold, together with those in the list column `existing`:
    sorted, each once. Most rows have none, and an empty list costs nothing. -#}
{% macro flags(existing, conditions) -%}
  case
    when {{ list_length(existing) }} = 0{% for name, condition in conditions %} and not coalesce({{ condition }}, false){% endfor %}
      then {{ empty_list() }}
    else {{ adapter.dispatch('flags_of', 'chainlake')(existing, conditions) }}
  end
{%- endmacro %}
{% macro default__flags_of(existing, conditions) -%}
  list_sort(list_distinct(list_concat({{ existing }}, [{{ flag_cases(conditions) }}])))
{%- endmacro %}
{% macro spark__flags_of(existing, conditions) -%}
  array_sort(array_distinct(filter(concat({{ existing }}, array({{ flag_cases(conditions) }})), flag -> flag is not null)))
{%- endmacro %}
{% macro flag_cases(conditions) -%}
  {%- for name, condition in conditions -%}
    case when {{ condition }} then '{{ name }}' end{{ ', ' if not loop.last }}
  {%- endfor -%}
{%- endmacro %}

{% macro has_flag(column, name) -%}
  {{ return(adapter.dispatch('has_flag', 'chainlake')(column, name)) }}
{%- endmacro %}
{% macro default__has_flag(column, name) -%}list_contains({{ column }}, '{{ name }}'){%- endmacro %}
{% macro spark__has_flag(column, name) -%}array_contains({{ column }}, '{{ name }}'){%- endmacro %}

{% macro list_length(column) -%}
  {{ return(adapter.dispatch('list_length', 'chainlake')(column)) }}
{%- endmacro %}
{% macro default__list_length(column) -%}coalesce(len({{ column }}), 0){%- endmacro %}
{% macro spark__list_length(column) -%}greatest(coalesce(size({{ column }}), 0), 0){%- endmacro %}

{% macro empty_list() -%}
  {{ return(adapter.dispatch('empty_list', 'chainlake')()) }}
{%- endmacro %}
{% macro default__empty_list() -%}cast([] as varchar[]){%- endmacro %}
{% macro spark__empty_list() -%}cast(array() as array<string>){%- endmacro %}

{#- The list `column` with `item` at its end. -#}
{% macro list_with(column, item) -%}
  {{ return(adapter.dispatch('list_with', 'chainlake')(column, item)) }}
{%- endmacro %}
{% macro default__list_with(column, item) -%}list_append({{ column }}, {{ item }}){%- endmacro %}
{% macro spark__list_with(column, item) -%}array_append({{ column }}, {{ item }}){%- endmacro %}

{#- A number as text with two decimals, 92.1 as 92.10. -#}
{% macro cents(expression) -%}cast(cast({{ expression }} as decimal(18, 2)) as {{ dbt.type_string() }}){%- endmacro %}

{#- A date as text, YYYY-MM-DD. -#}
{% macro iso_date(expression) -%}cast({{ expression }} as {{ dbt.type_string() }}){%- endmacro %}

{#- A multiplier as text: 100, not 100.0. -#}
{% macro multiplier_text(column) -%}cast(cast({{ column }} as bigint) as {{ dbt.type_string() }}){%- endmacro %}

{#- Whether all items of the list `column` are among `names`. -#}
{% macro contains_only(column, names) -%}
  {{ return(adapter.dispatch('contains_only', 'chainlake')(column, names)) }}
{%- endmacro %}
{% macro default__contains_only(column, names) -%}list_has_all(['{{ names | join("', '") }}'], {{ column }}){%- endmacro %}
{% macro spark__contains_only(column, names) -%}size(array_except({{ column }}, array('{{ names | join("', '") }}'))) = 0{%- endmacro %}

{#- The type of an instant. -#}
{% macro type_instant() -%}
  {{ return(adapter.dispatch('type_instant', 'chainlake')()) }}
{%- endmacro %}
{% macro default__type_instant() -%}timestamp with time zone{%- endmacro %}
{% macro spark__type_instant() -%}timestamp{%- endmacro %}
