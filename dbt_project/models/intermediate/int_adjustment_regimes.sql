with recursive

steps as (
    select * from {{ ref('int_adjustment_steps') }}
),

-- Prices go from old to later terms step by step: divided by a split, less a dividend.
folded as (
    select
        underlying,
        valid_from,
        valid_until,
        cast(0 as bigint) as step,
        cast(1 as bigint) as contract_factor,
        cast(0 as double) as strike_shift,
        underlying as underlying_today,
        cast(null as date) as series_until,
        cast(null as date) as symbol_until,
        {{ empty_list() }} as adjustment_events
    from steps
    where step = 1
    union all
    select
        folded.underlying,
        folded.valid_from,
        folded.valid_until,
        steps.step,
        folded.contract_factor * steps.contract_factor as contract_factor,
        folded.strike_shift / steps.contract_factor + steps.cash_amount as strike_shift,
        coalesce(steps.new_symbol, folded.underlying_today) as underlying_today,
        -- What follows the first of them is another series, whatever else comes later.
        coalesce(
            folded.series_until,
            case when steps.event_type in ('deliverable_change', 'symbol_reused') then steps.effective_date end
        ) as series_until,
        coalesce(
            folded.symbol_until, case when steps.event_type = 'symbol_reused' then steps.effective_date end
        ) as symbol_until,
        {{ list_with('folded.adjustment_events', "steps.event_type || ':' || " ~ iso_date('steps.effective_date')) }}
            as adjustment_events
    from folded
    inner join steps
        on
            folded.underlying = steps.underlying
            and folded.valid_until = steps.valid_until
            and steps.step = folded.step + 1
),

last_steps as (
    select
        underlying,
        valid_until,
        max(step) as step
    from steps
    group by underlying, valid_until
)

select
    folded.underlying,
    folded.valid_from,
    folded.valid_until,
    folded.contract_factor,
    1 / cast(folded.contract_factor as double) as price_factor,
    folded.strike_shift,
    folded.underlying_today,
    folded.symbol_until,
    folded.series_until,
    folded.adjustment_events
from folded
inner join last_steps
    on
        folded.underlying = last_steps.underlying
        and folded.valid_until = last_steps.valid_until
        and folded.step = last_steps.step
