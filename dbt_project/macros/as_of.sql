{#- The instant as of which the build answers: var `as_of`, else when dbt started. -#}
{% macro as_of() -%}
  cast('{{ var('as_of') or run_started_at.isoformat() }}' as {{ type_instant() }})
{%- endmacro %}

{#- A price or strike rounded to cents, half a cent up. In decimals: 46.425 has no exact double, and would fall. -#}
{% macro round_to_cents(expression) -%}
  cast(round(cast({{ expression }} as decimal(18, 8)), 2) as double)
{%- endmacro %}

{#- A strike of daily_adjusted's `strikes` after one of the `steps`: divided, less a dividend, in cents. -#}
{% macro lowered_strike() -%}
  case
    when steps.event_type in ('split', 'special_dividend')
      then {{ round_to_cents('strikes.strike_adj / steps.contract_factor - steps.cash_amount') }}
    else strikes.strike_adj
  end
{%- endmacro %}

{#- The company of a row in the key: its symbol today, and where another company took that since, until when it had it. -#}
{% macro company_today(underlying_today, symbol_until) -%}
  {{ underlying_today }} || case when {{ symbol_until }} is null then '' else '@' || {{ iso_date(symbol_until) }} end
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
