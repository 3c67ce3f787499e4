with

contracts as (
    select distinct
        trade_date,
        min(conid) over (partition by trade_date, underlying, trading_class, multiplier, expiry) as smile,
        underlying,
        trading_class,
        multiplier,
        expiry,
        {{ delivers_shares('trading_class') }} as is_standard,
        min({{ expiry_instant('trading_class', 'expiry', 'last_trade_date') }})
            over (partition by trade_date, underlying, trading_class, multiplier, expiry) as expires_at
    from {{ ref('int_frozen_contracts') }}
),

-- The quotes of a smile arrive within seconds of each other, and it is valued at their middle. After the close, when
-- what is shown is the close's, it is valued at the close.
captured as (
    select
        quotes.trade_date,
        quotes.view,
        quotes.slot_30m,
        quotes.smile,
        min(sessions.sample_time) as sample_time,
        case
            when min(quotes.view) = 'close' then 0.0
            else
                least(
                    median(quotes.asof_s),
                    min({{ seconds_between('sessions.sample_time', 'closes.sample_time') }})
                )
        end as valued_s,
        min(quotes.is_european) as is_european,
        median(quotes.spot) as spot
    from {{ ref('int_comparable_quotes') }} as quotes
    inner join {{ ref('stg_sessions') }} as sessions
        on quotes.trade_date = sessions.trade_date and quotes.slot_30m = sessions.slot_30m
    inner join {{ ref('stg_sessions') }} as closes
        on quotes.trade_date = closes.trade_date and closes.is_close
    group by quotes.trade_date, quotes.view, quotes.slot_30m, quotes.smile
),

timed as (
    select
        captured.*,
        contracts.underlying,
        contracts.trading_class,
        contracts.multiplier,
        contracts.expiry,
        contracts.is_standard,
        ({{ seconds_between('captured.sample_time', 'contracts.expires_at') }} - captured.valued_s)
        / {{ year_seconds() }} as tte
    from captured
    inner join contracts
        on captured.trade_date = contracts.trade_date and captured.smile = contracts.smile
),

rated as (
    select
        *,
        chainlake_rate(trade_date, tte * 365) as curve
    from timed
)

select
    trade_date,
    view,
    slot_30m,
    smile,
    sample_time,
    underlying,
    trading_class,
    multiplier,
    expiry,
    is_standard,
    is_european,
    tte,
    spot,
    {{ field('curve', 'rate') }} as rate,
    {{ field('curve', 'curve_date') }} as rate_date
from rated
