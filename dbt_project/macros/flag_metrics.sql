{#- The flags whose share of a day's error-free rows is a metric of the same name. -#}
{% macro flags_with_a_metric() -%}
  {{ return([
    'missing_greeks', 'crossed_market', 'locked_market', 'stale_quote', 'below_intrinsic', 'parity_violation',
    'strike_monotonicity', 'butterfly_violation',
  ]) }}
{%- endmacro %}

{#- A column for each of the flags: its share of a group's rows. -#}
{% macro flag_share_columns(flags) -%}
  {%- for flag in flags -%}
    avg(case when {{ has_flag('data_quality_flag', flag) }} then 1.0 else 0.0 end) as {{ flag }}{{ ', ' if not loop.last }}
  {%- endfor -%}
{%- endmacro %}

{#- These columns of `shares` as rows: trade_date, flag, flag_share. -#}
{% macro flag_share_rows(flags, shares) -%}
  {%- for flag in flags -%}
    select trade_date, '{{ flag }}' as flag, {{ flag }} as flag_share from {{ shares }}{{ ' union all ' if not loop.last }}
  {%- endfor -%}
{%- endmacro %}
