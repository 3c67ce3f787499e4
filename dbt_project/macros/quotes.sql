{#- Columns and rules of option quotes that several models share. -#}

{#- What identifies and describes a contract, in the order of every table that carries it. -#}
{% macro contract_columns() -%}
  {{ return(['symbol', 'trading_class', 'expiry', 'last_trade_date', 'right', 'strike', 'multiplier', 'exchange']) }}
{%- endmacro %}

{#- What a quote says, in the order of every table that carries it. -#}
{% macro quote_columns() -%}
  {{ return([
    'bid', 'ask', 'last', 'bid_seen', 'bid_size', 'ask_size', 'last_size', 'volume', 'mid', 'spread',
    'iv', 'delta', 'gamma', 'theta', 'vega', 'model_price', 'pv_dividend', 'underlying_price',
  ]) }}
{%- endmacro %}

{#- `alias.column, …` for a list of columns. -#}
{% macro select_columns(columns, alias=none) -%}
  {%- for column in columns -%}
    {{ alias ~ '.' if alias }}{{ quoted(column) if column == 'right' else column }}{{ ',\n    ' if not loop.last }}
  {%- endfor -%}
{%- endmacro %}

{#- Sentinels, per column: IB's unset double is 1.79e308, "not computed" is -1 for prices, sizes and implied volatility
    and -2 for greeks (a delta of -1 is a value); vendors use -999. A NaN compares as greater than every number. -#}
{% macro known_amount(column) -%}
  case when {{ column }} >= 0 and {{ column }} < 1e300 then {{ column }} end
{%- endmacro %}

{% macro known_count(column) -%}
  case when {{ column }} >= 0 and {{ column }} < 2147483647 then {{ column }} end
{%- endmacro %}

{% macro known_greek(column, sentinels='-2, -999') -%}
  case when abs({{ column }}) < 1e300 and {{ column }} not in ({{ sentinels }}) then {{ column }} end
{%- endmacro %}

{#- 3 is delayed, 4 delayed-frozen; a row without a type is taken for what was asked. -#}
{% macro is_delayed(column='market_data_type') -%}coalesce({{ column }} in (3, 4), false){%- endmacro %}

{#- Which of several outcomes of one contract in one slot stands: a good one before one without error before a failure,
    live before delayed, then the latest, then the latest written. The rest only keeps exact ties in a fixed order. -#}
{% macro preference_order() -%}
  case when is_good then 0 when not snapshot_error then 1 else 2 end,
  case when {{ is_delayed() }} then 1 else 0 end,
  asof_ts desc nulls last,
  ingest_id desc,
  requested_at desc nulls last,
  attempt desc nulls last,
  bid nulls last,
  ask nulls last,
  iv nulls last
{%- endmacro %}

{#- A call's delta lies in [0, 1], a put's in [-1, 0]. -#}
{% macro delta_out_of_range() -%}
  abs(delta) > 1 or ({{ quoted('right') }} = 'C' and delta < 0) or ({{ quoted('right') }} = 'P' and delta > 0)
{%- endmacro %}
