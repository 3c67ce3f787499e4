-- What enrichment newly filled is the fall in missing_oi: the contracts of daily_clean that have open interest are
-- those that raw observed of this session, each with a value observed, and all others are flagged missing_oi.
-- depends_on: {{ ref('daily_metrics') }}
with

observed as (
    select distinct
        trade_date,
        conid,
        open_interest
    from {{ lake_source('raw', 'open_interest') }}
    where {{ in_build() }} and oi_asof_date = trade_date and not snapshot_error and open_interest >= 0
),

filled as (
    select distinct
        trade_date,
        conid
    from observed
)

select
    daily.trade_date,
    daily.conid,
    daily.open_interest,
    filled.conid is not null as was_observed
from {{ ref('daily_clean') }} as daily
left join filled
    on daily.trade_date = filled.trade_date and daily.conid = filled.conid
left join observed
    on
        daily.trade_date = observed.trade_date
        and daily.conid = observed.conid
        and daily.open_interest = observed.open_interest
where
    {{ in_build('daily.trade_date') }}
    and (
        (filled.conid is null) <> {{ has_flag('daily.data_quality_flag', 'missing_oi') }}
        or (filled.conid is null) <> (daily.open_interest is null)
        or (daily.open_interest is not null and observed.conid is null)
    )
