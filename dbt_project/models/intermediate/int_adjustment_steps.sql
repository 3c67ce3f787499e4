with recursive

actions as (
    select * from {{ ref('int_actions_in_force') }}
),

-- Rows of an underlying between two of its dates of action see the same actions ahead of them.
action_dates as (
    select distinct
        symbol,
        effective_date
    from actions
),

regimes as (
    select
        symbol as underlying,
        coalesce(
            lag(effective_date) over (partition by symbol order by effective_date), cast('0001-01-01' as date)
        ) as valid_from,
        effective_date as valid_until
    from action_dates
),

-- Where the history under a symbol ends: the company takes another symbol, or another company takes this one.
endings as (
    select
        symbol,
        effective_date,
        max(new_symbol) as new_symbol,
        lag(effective_date) over (partition by symbol order by effective_date) as previous_ending
    from actions
    where event_type in ('symbol_change', 'symbol_reused')
    group by symbol, effective_date
),

-- The symbols that the rows of a regime go through. `since`: actions after this date count.
lineage as (
    select
        regimes.underlying,
        regimes.valid_from,
        regimes.valid_until,
        0 as generation,
        regimes.underlying as symbol,
        regimes.valid_from as since,
        endings.effective_date as until,
        endings.new_symbol
    from regimes
    left join endings
        on
            regimes.underlying = endings.symbol
            and regimes.valid_from < endings.effective_date
            and (endings.previous_ending is null or regimes.valid_from >= endings.previous_ending)
    union all
    select
        lineage.underlying,
        lineage.valid_from,
        lineage.valid_until,
        lineage.generation + 1 as generation,
        lineage.new_symbol as symbol,
        lineage.until as since,
        endings.effective_date as until,
        endings.new_symbol
    from lineage
    left join endings
        on
            lineage.new_symbol = endings.symbol
            and lineage.until < endings.effective_date
            and (endings.previous_ending is null or lineage.until >= endings.previous_ending)
    where lineage.new_symbol is not null
),

-- On the day of a change of symbol the new one's own splits and dividends follow; a change or takeover of that day is
-- the one that led here.
reached as (
    select
        lineage.underlying,
        lineage.valid_from,
        lineage.valid_until,
        lineage.generation,
        actions.effective_date,
        actions.position,
        actions.event_type,
        actions.contract_factor,
        actions.cash_amount,
        actions.new_symbol
    from lineage
    inner join actions on lineage.symbol = actions.symbol
    where
        (
            actions.effective_date > lineage.since
            or (
                lineage.generation > 0
                and actions.effective_date = lineage.since
                and actions.event_type not in ('symbol_change', 'symbol_reused')
            )
        )
        and (
            lineage.until is null
            or actions.effective_date < lineage.until
            or (
                actions.effective_date = lineage.until
                and (lineage.new_symbol is not null or actions.event_type = 'symbol_reused')
            )
        )
),

-- A split comes before a dividend of the same date, also when it is listed under the symbol that the company takes.
splits as (
    select
        reached.*,
        max(case when reached.event_type = 'split' then reached.generation else 0 end)
            over (partition by reached.underlying, reached.valid_until, reached.effective_date)
            as last_split
    from reached
)

select
    underlying,
    valid_from,
    valid_until,
    row_number() over (
        partition by underlying, valid_until
        order by
            effective_date,
            case when event_type = 'special_dividend' and last_split > generation then last_split else generation end,
            position
    ) as step,
    effective_date,
    event_type,
    contract_factor,
    cash_amount,
    new_symbol
from splits
