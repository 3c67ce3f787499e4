with

contracts as (
    select
        trade_date,
        conid,
        underlying,
        min(conid) over (partition by trade_date, underlying, trading_class, multiplier, expiry) as smile,
        {{ quoted('right') }},
        strike,
        {{ is_european('trading_class') }} as is_european,
        {{ delivers_shares('trading_class') }} as delivers_shares
    from {{ ref('int_frozen_contracts') }}
),

underlying_quotes as (
    select
        trade_date,
        view,
        slot_30m,
        underlying,
        case when ask > 0 and bid <= ask and bid > 0 then (bid + ask) / 2 else last end as price,
        asof_ts,
        row_number() over (
            partition by trade_date, view, slot_30m, underlying
            order by case when {{ is_delayed() }} then 1 else 0 end, asof_ts desc nulls last, ingest_id desc
        ) as preference
    from {{ ref('stg_underlying_quotes') }}
    where {{ in_build() }} and not snapshot_error
)

-- The underlying as the option's own model saw it, else as it was quoted close enough in time.
select
    quotes.trade_date,
    quotes.view,
    quotes.slot_30m,
    quotes.conid,
    contracts.smile,
    contracts.{{ quoted('right') }},
    contracts.strike,
    contracts.is_european,
    quotes.bid,
    quotes.ask,
    quotes.bid_size,
    quotes.ask_size,
    quotes.delta,
    {{ seconds_between('quotes.sample_time', 'quotes.asof_ts') }} as asof_s,
    case
        when not contracts.delivers_shares then null
        when quotes.underlying_price > 0 then quotes.underlying_price
        when
            abs({{ seconds_between('underlying_quotes.asof_ts', 'quotes.asof_ts') }}) <= {{ var('max_pair_skew') }}
            and underlying_quotes.price > 0
            then underlying_quotes.price
    end as spot
from {{ ref('int_best_outcomes') }} as quotes
inner join contracts
    on quotes.trade_date = contracts.trade_date and quotes.conid = contracts.conid
left join underlying_quotes
    on
        quotes.trade_date = underlying_quotes.trade_date
        and quotes.view = underlying_quotes.view
        and quotes.slot_30m = underlying_quotes.slot_30m
        and contracts.underlying = underlying_quotes.underlying
        and underlying_quotes.preference = 1
where quotes.is_good
