-- For every trade date the frozen contracts, those of intraday and those of the close snapshot are, each exactly once,
-- the contracts of daily_clean and daily_unresolved.
-- depends_on: {{ ref('daily_metrics') }}
with

expected as (
    select
        trade_date,
        conid
    from {{ ref('stg_contracts') }}
    where {{ in_build() }} and trade_date in (select sessions.trade_date from {{ ref('stg_sessions') }} as sessions)
    union
    select
        trade_date,
        conid
    from {{ ref('intraday') }}
    where {{ in_build() }}
    union
    select
        trade_date,
        conid
    from {{ ref('stg_option_quotes') }}
    where {{ in_build() }} and view = 'close' and in_session
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
