with

-- Calls by rising strike and puts by falling strike: either way the price falls from row to row.
neighbours as (
    select
        trade_date,
        view,
        slot_30m,
        conid,
        strike,
        bid,
        ask,
        asof_s,
        spot,
        lag(conid) over ladder as previous_conid,
        lag(strike) over ladder as previous_strike,
        lag(bid) over ladder as previous_bid,
        lag(ask) over ladder as previous_ask,
        lag(asof_s) over ladder as previous_asof_s,
        lag(spot) over ladder as previous_spot,
        lag(conid, 2) over ladder as second_conid,
        lag(strike, 2) over ladder as second_strike,
        lag(ask, 2) over ladder as second_ask,
        lag(asof_s, 2) over ladder as second_asof_s,
        lag(spot, 2) over ladder as second_spot
    from {{ ref('int_comparable_quotes') }}
    window ladder as (
        partition by trade_date, view, slot_30m, smile, {{ quoted('right') }}
        order by case when {{ quoted('right') }} = 'C' then strike else -strike end, conid
    )
),

-- While the underlying moves between two quotes, an option moves by no more than that: its delta is at most 1.
disorders as (
    select
        trade_date,
        view,
        slot_30m,
        conid,
        previous_conid
    from neighbours
    where
        strike <> previous_strike
        and abs(asof_s - previous_asof_s) <= {{ var('max_pair_skew') }}
        and bid - previous_ask > {{ var('price_tolerance') }} + coalesce(abs(spot - previous_spot), 0)
),

-- The middle strike may cost what its neighbours cost together, each weighted by its nearness.
humps as (
    select
        trade_date,
        view,
        slot_30m,
        conid,
        previous_conid,
        second_conid
    from neighbours
    where
        strike <> previous_strike
        and previous_strike <> second_strike
        and {{ spread_of(['asof_s', 'previous_asof_s', 'second_asof_s']) }} <= {{ var('max_pair_skew') }}
        and previous_bid
        - (
            second_ask * (strike - previous_strike) + ask * (previous_strike - second_strike)
        ) / nullif(strike - second_strike, 0)
        > {{ var('price_tolerance') }} + coalesce({{ spread_of(['spot', 'previous_spot', 'second_spot']) }}, 0)
)

select
    trade_date,
    view,
    slot_30m,
    conid,
    'strike_monotonicity' as flag
from disorders
union all
select
    trade_date,
    view,
    slot_30m,
    previous_conid as conid,
    'strike_monotonicity' as flag
from disorders
union all
select
    trade_date,
    view,
    slot_30m,
    conid,
    'butterfly_violation' as flag
from humps
union all
select
    trade_date,
    view,
    slot_30m,
    previous_conid as conid,
    'butterfly_violation' as flag
from humps
union all
select
    trade_date,
    view,
    slot_30m,
    second_conid as conid,
    'butterfly_violation' as flag
from humps
