{#- The instant as of which the build answers: var `as_of`, else when dbt started. -#}
{% macro as_of() -%}
  cast('{{ var('as_of') or run_started_at.isoformat() }}' as {{ type_instant() }})
{%- endmacro %}

{#- A price or strike rounded to cents, half a cent up. In decimals: 46.425 has no exact double, and would fall. -#}
{% macro round_to_cents(expression) -%}
  cast(round(cast({{ expression }} as decimal(18, 8)), 2) as double)
{%- endmacro %}

{#- The trading class under which a contract is known today: a class that begins with the old symbol follows a change of
    symbol (FB1 becomes META1). IB writes classes without the blank of a symbol. -#}
{% macro class_today(trading_class, underlying, underlying_today) -%}
  {%- set root = "replace(" ~ underlying ~ ", ' ', '')" -%}
  case
    when {{ underlying_today }} <> {{ underlying }} and {{ trading_class }} like {{ root }} || '%'
      then replace({{ underlying_today }}, ' ', '') || substr({{ trading_class }}, length({{ root }}) + 1)
    else {{ trading_class }}
  end
{%- endmacro %}
