with

previous_dates as (
    {{ previous_sessions() }}
),

previous as (
    select
        previous_dates.trade_date,
        observed.conid,
        observed.open_interest,
        row_number() over (
            partition by previous_dates.trade_date, observed.conid
            order by observed.observed_at desc, observed.ingest_id desc, observed.open_interest desc
        ) as preference
    from {{ ref('stg_open_interest') }} as observed
    inner join previous_dates on observed.trade_date = previous_dates.previous_date
    where
        {{ dates_filter(previous_dates(), 'observed.trade_date') }}
        and observed.oi_asof_date = observed.trade_date
        and not observed.snapshot_error
        and observed.open_interest is not null
)

-- The volume of an earlier slot than the close is not yet all that may have changed the open interest.
select
    daily.trade_date,
    daily.conid,
    daily.volume,
    daily.open_interest,
    previous.open_interest as previous_open_interest
from {{ ref('daily_clean') }} as daily
inner join previous
    on daily.trade_date = previous.trade_date and daily.conid = previous.conid and previous.preference = 1
where
    {{ in_build('daily.trade_date') }}
    and daily.rollup_strategy = 'close'
    and daily.volume is not null
    and daily.open_interest is not null
