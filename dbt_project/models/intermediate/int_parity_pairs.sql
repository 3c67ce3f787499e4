with

-- Near the money only: there quotes are tight, and the right to exercise early bends the line of pairs but little.
legs as (
    select *
    from {{ ref('int_comparable_quotes') }}
    where
        bid > 0
        and spot is not null
        and abs(delta) between {{ var('parity_deltas') | join(' and ') }}
)

-- What a call less a put costs beyond underlying less strike at the same moment: bought at once, and sold at once.
select
    calls.trade_date,
    calls.view,
    calls.slot_30m,
    calls.smile,
    calls.strike,
    calls.is_european,
    calls.conid as call_conid,
    puts.conid as put_conid,
    (calls.asof_s + puts.asof_s) / 2 as asof_s,
    calls.ask - puts.bid - ((calls.spot + puts.spot) / 2 - calls.strike) as bought,
    calls.bid - puts.ask - ((calls.spot + puts.spot) / 2 - calls.strike) as sold,
    greatest(calls.bid + calls.ask, puts.bid + puts.ask) / 2 as dearer_mid
from legs as calls
inner join legs as puts
    on
        calls.trade_date = puts.trade_date
        and calls.view = puts.view
        and calls.slot_30m = puts.slot_30m
        and calls.smile = puts.smile
        and calls.strike = puts.strike
where
    calls.{{ quoted('right') }} = 'C'
    and puts.{{ quoted('right') }} = 'P'
    and abs(calls.asof_s - puts.asof_s) <= {{ var('max_pair_skew') }}
