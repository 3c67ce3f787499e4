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

{#- Sentinels, per column, by the rule of lake/sentinels.py: IB's unset values are 2147483647, 9223372036854775807 and
    1.79e308, and nothing else is as large; "not computed" is -1 for prices, sizes and implied volatility and -2 for
    greeks (a delta of -1 is a value); vendors use -999. A NaN compares as greater than every number. -#}
{% macro known_amount(column) -%}
  case when {{ column }} >= 0 and {{ column }} < 2147483647 then {{ column }} end
{%- endmacro %}

{% macro known_count(column) -%}
  case when {{ column }} >= 0 and {{ column }} < 2147483647 then {{ column }} end
{%- endmacro %}

{% macro known_greek(column, sentinels='-2, -999') -%}
  case when abs({{ column }}) < 2147483647 and {{ column }} not in ({{ sentinels }}) then {{ column }} end
{%- endmacro %}

{#- A bid of 0 for 0 contracts beside a valid ask says that nobody bids: null, like the tick of -1. -#}
{% macro known_bid() -%}
  case
            when bid = 0 and bid_size = 0 and {{ known_amount('ask') }} > 0 then null
            else {{ known_amount('bid') }}
        end
{%- endmacro %}

{#- A bid arrived, or a tick that says that there is none (-1; or null, or another sentinel, where `bid_seen` is set).
    A price below 0 that is no sentinel says neither. -#}
{% macro is_bid_seen() -%}
  coalesce(bid_seen or bid = -1 or (bid >= 0 and bid < 2147483647), false)
  and not coalesce(bid < 0 and bid > -2147483647 and bid not in (-1, -2, -999), false)
{%- endmacro %}

{#- The rule of a good quote, of a row with its sentinels nulled: free of error, arrived in its window, with something to
    buy, and not crossed; a bid is not needed when a tick has said that there is none. Of raw rows lake/reads.py states
    the same (GOOD_QUOTE), of what capture has in hand `Quote.has_market`; a test holds the three together. -#}
{% macro is_good_quote(opens='sample_time', closes='window_end') -%}
  coalesce(
        not snapshot_error
        and asof_ts >= {{ opens }}
        and asof_ts < {{ closes }}
        and ask > 0
        and (bid <= ask or (bid is null and bid_seen)),
        false
    )
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
