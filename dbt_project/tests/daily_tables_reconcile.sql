-- For every trade date the frozen contracts, those of intraday and those of the close snapshot are, each exactly once,
-- the contracts of daily_clean and daily_unresolved. Counted from raw itself, not from the models in between.
-- depends_on: {{ ref('daily_metrics') }}
with

close_slots as (
    select
        trade_date,
        slot_30m
    from {{ lake_source('raw', 'sessions') }}
    where {{ in_build() }} and is_close
),

expected as (
    select
        contracts.trade_date,
        contracts.conid
    from {{ lake_source('raw', 'contracts') }} as contracts
    inner join close_slots on contracts.trade_date = close_slots.trade_date
    where {{ in_build('contracts.trade_date') }}
    union
    select
        trade_date,
        conid
    from {{ ref('intraday') }}
    where {{ in_build() }}
    union
    select
        quotes.trade_date,
        quotes.conid
    from {{ lake_source('raw', 'option_quotes') }} as quotes
    inner join close_slots
        on quotes.trade_date = close_slots.trade_date and quotes.slot_30m = close_slots.slot_30m
    where {{ in_build('quotes.trade_date') }} and quotes.view = 'close'
),

resolved as (
    select
        trade_date,
        conid
    from {{ ref('daily_clean') }}
    where {{ in_build() }}
    union all
    select
        trade_date,
        conid
    from {{ ref('daily_unresolved') }}
    where {{ in_build() }}
),

found as (
    select
        trade_date,
        conid,
        count(*) as times
    from resolved
    group by trade_date, conid
)

select
    coalesce(expected.trade_date, found.trade_date) as trade_date,
    coalesce(expected.conid, found.conid) as conid,
    case
        when found.conid is null then 'lost'
        when expected.conid is null then 'from nowhere'
        else 'more than once'
    end as problem
from expected
full outer join found
    on expected.trade_date = found.trade_date and expected.conid = found.conid
where expected.conid is null or found.conid is null or found.times <> 1
