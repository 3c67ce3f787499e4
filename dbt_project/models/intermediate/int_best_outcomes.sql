{{ config(materialized='view') }}

with

-- Nearly every contract was asked once in a slot. Only the others are ranked, so that a day of millions of rows costs
-- one narrow aggregation and no sort of whole rows.
contested as (
    select * from {{ ref('int_contested_outcomes') }}
),

ranked as (
    select
        quotes.*,
        row_number() over (
            partition by quotes.trade_date, quotes.view, quotes.slot_30m, quotes.conid
            order by {{ preference_order() }}
        ) as preference
    from {{ ref('stg_option_quotes') }} as quotes
    inner join contested
        on
            quotes.trade_date = contested.trade_date
            and quotes.view = contested.view
            and quotes.slot_30m = contested.slot_30m
            and quotes.conid = contested.conid
    where {{ in_build('quotes.trade_date') }} and quotes.in_session
),

uncontested as (
    select
        quotes.*,
        1 as preference
    from {{ ref('stg_option_quotes') }} as quotes
    left join contested
        on
            quotes.trade_date = contested.trade_date
            and quotes.view = contested.view
            and quotes.slot_30m = contested.slot_30m
            and quotes.conid = contested.conid
    where {{ in_build('quotes.trade_date') }} and quotes.in_session and contested.conid is null
),

best as (
    select * from uncontested
    union all
    select * from ranked
    where preference = 1
)

select
    trade_date,
    view,
    slot_30m,
    sample_time,
    underlying,
    conid,
    {{ select_columns(contract_columns()) }},
    bid,
    ask,
    last,
    bid_seen,
    bid_size,
    ask_size,
    last_size,
    volume,
    case when ask > 0 then (bid + ask) / 2 end as mid,
    case when ask > 0 then ask - bid end as spread,
    iv,
    delta,
    gamma,
    theta,
    vega,
    model_price,
    pv_dividend,
    underlying_price,
    open_interest,
    market_data_type,
    asof_ts,
    source,
    snapshot_error,
    error_code,
    error_type,
    error_message,
    is_good,
    is_close,
    is_pre_close,
    {{ flags('data_quality_flag', [
        ('snapshot_error', 'snapshot_error'),
        ('delayed_fallback', is_delayed()),
        ('missing_greeks', 'iv is null or delta is null or gamma is null or theta is null or vega is null'),
        ('zero_quote', 'coalesce(bid, 0) <= 0 and coalesce(ask, 0) <= 0'),
        ('no_bid', 'bid is null and bid_seen and ask > 0'),
        ('crossed_market', 'ask > 0 and bid > ask'),
        ('locked_market', 'ask > 0 and bid = ask'),
        ('iv_out_of_range', 'iv < 0 or iv > 10'),
        ('delta_out_of_range', delta_out_of_range()),
    ]) }} as data_quality_flag
from best
