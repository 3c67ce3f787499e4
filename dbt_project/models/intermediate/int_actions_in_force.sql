with

-- The last date that has begun by the as-of instant: an action of a later date has not happened yet.
latest_dates as (
    select max(daily.trade_date) as trade_date
    from {{ ref('daily_clean') }} as daily
    inner join {{ ref('stg_sessions') }} as sessions
        on daily.trade_date = sessions.trade_date and sessions.slot_30m = 0
    where sessions.sample_time <= {{ as_of() }}
),

known as (
    select
        actions.*,
        row_number() over (
            partition by actions.symbol, actions.listed_event_type, actions.effective_date
            order by actions.known_at desc, actions.ratio desc, actions.cash_amount desc, actions.new_symbol desc
        ) as edition
    from {{ ref('stg_corporate_actions') }} as actions
    cross join latest_dates
    where
        actions.known_at <= {{ as_of() }}
        and actions.effective_date <= latest_dates.trade_date
),

-- The last edition that was known stands. A special dividend below the minimum adjusts nothing.
standing as (
    select * from known
    where
        edition = 1
        and (event_type <> 'special_dividend' or cash_amount >= {{ var('special_dividend_minimum') }})
),

-- A company that takes over a symbol ends the history of whoever had it before.
takeovers as (
    select distinct
        changes.new_symbol as symbol,
        changes.effective_date
    from standing as changes
    left join standing as leaving
        on
            changes.new_symbol = leaving.symbol
            and changes.effective_date = leaving.effective_date
            and leaving.event_type = 'symbol_change'
    where changes.event_type = 'symbol_change' and leaving.symbol is null
)

-- `position` is the order on one date.
select
    symbol,
    effective_date,
    case event_type
        when 'split' then 1
        when 'special_dividend' then 2
        when 'deliverable_change' then 3
        else 4
    end as position,
    event_type,
    cast(case when event_type = 'split' then round(ratio) else 1 end as bigint) as contract_factor,
    case when event_type = 'special_dividend' then cash_amount else 0 end as cash_amount,
    case when event_type = 'symbol_change' then new_symbol end as new_symbol
from standing
union all
select
    symbol,
    effective_date,
    0 as position,
    'symbol_reused' as event_type,
    cast(1 as bigint) as contract_factor,
    0 as cash_amount,
    cast(null as {{ dbt.type_string() }}) as new_symbol
from takeovers
