{{ config(sorted_by=['trade_date', 'underlying', 'slot_30m']) }}

with

slots as (
    select
        trade_date,
        slot_30m,
        sample_time
    from {{ ref('stg_sessions') }}
    where {{ in_build() }}
),

frozen as (
    select
        trade_date,
        underlying,
        conid,
        first_seen_slot
    from {{ ref('int_frozen_contracts') }}
),

-- An underlying of the universe that discovery froze nothing for counts as not captured.
underlyings as (
    select distinct
        trade_date,
        underlying
    from frozen
    union
    select
        session_dates.trade_date,
        universe.underlying
    from (select distinct trade_date from slots) as session_dates
    cross join {{ ref('stg_universe') }} as universe
    where universe.views in ('intraday', 'both')
),

frozen_by_slot as (
    select
        slots.trade_date,
        frozen.underlying,
        slots.slot_30m,
        count(*) as frozen
    from slots
    inner join frozen
        on slots.trade_date = frozen.trade_date and slots.slot_30m >= frozen.first_seen_slot
    group by slots.trade_date, frozen.underlying, slots.slot_30m
),

captured_by_slot as (
    select
        quotes.trade_date,
        frozen.underlying,
        quotes.slot_30m,
        count(*) as asked,
        sum(case when quotes.snapshot_error then 0 else 1 end) as captured,
        sum(case when quotes.is_good then 1 else 0 end) as good
    from {{ ref('intraday') }} as quotes
    inner join frozen
        on
            quotes.trade_date = frozen.trade_date
            and quotes.conid = frozen.conid
            and quotes.slot_30m >= frozen.first_seen_slot
    where {{ in_build('quotes.trade_date') }}
    group by quotes.trade_date, frozen.underlying, quotes.slot_30m
)

select
    slots.trade_date,
    underlyings.underlying,
    slots.slot_30m,
    slots.sample_time,
    cast(coalesce(frozen_by_slot.frozen, 0) as bigint) as frozen,
    cast(coalesce(captured_by_slot.asked, 0) as bigint) as asked,
    cast(coalesce(captured_by_slot.captured, 0) as bigint) as captured,
    cast(coalesce(captured_by_slot.good, 0) as bigint) as good
from slots
inner join underlyings on slots.trade_date = underlyings.trade_date
left join frozen_by_slot
    on
        slots.trade_date = frozen_by_slot.trade_date
        and underlyings.underlying = frozen_by_slot.underlying
        and slots.slot_30m = frozen_by_slot.slot_30m
left join captured_by_slot
    on
        slots.trade_date = captured_by_slot.trade_date
        and underlyings.underlying = captured_by_slot.underlying
        and slots.slot_30m = captured_by_slot.slot_30m
