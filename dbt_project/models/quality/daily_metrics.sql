{{ config(sorted_by=['trade_date', 'metric']) }}

with

due as (
    {{ due_instants() }}
),

dates as (
    select
        due.trade_date,
        due.open_interest_due,
        max(sessions.window_end) as session_over
    from due
    left join {{ ref('stg_sessions') }} as sessions on due.trade_date = sessions.trade_date
    group by due.trade_date, due.open_interest_due
),

coverage as (
    select
        trade_date,
        underlying,
        sum(captured) / nullif(cast(sum(frozen) as double), 0) as coverage,
        sum(case when captured = 0 then 1 else 0 end) as missing_slots
    from {{ ref('slot_coverage') }}
    where {{ in_build() }}
    group by trade_date, underlying
),

worst_coverage as (
    select
        trade_date,
        min(coalesce(coverage, 0)) as coverage
    from coverage
    group by trade_date
),

error_free as (
    select
        trade_date,
        market_data_type
    from {{ ref('intraday') }}
    where {{ in_build() }} and not snapshot_error
    union all
    select
        trade_date,
        market_data_type
    from {{ ref('int_close_outcomes') }}
    where not snapshot_error
),

retries as (
    select
        trade_date,
        data_quality_flag
    from {{ ref('intraday') }}
    where {{ in_build() }}
    union all
    select
        trade_date,
        data_quality_flag
    from {{ ref('int_close_outcomes') }}
),

daily as (
    select
        daily.trade_date,
        count(*) as contracts,
        sum(case when daily.rollup_strategy = 'close' then 1 else 0 end) as from_close,
        sum(case when daily.open_interest is not null then 1 else 0 end) as with_open_interest,
        -- What expired on the trade date is not listed next morning: no open interest of it will ever be due.
        sum(case when daily.open_interest is null and daily.last_trade_date <= daily.trade_date then 1 else 0 end)
            as expired
    from {{ ref('daily_clean') }} as daily
    where {{ in_build('daily.trade_date') }}
    group by daily.trade_date
),

unresolved as (
    select
        trade_date,
        count(*) as contracts
    from {{ ref('daily_unresolved') }}
    where {{ in_build() }}
    group by trade_date
),

repeated_keys as (
    select trade_date
    from {{ ref('intraday') }}
    where {{ in_build() }}
    group by trade_date, sample_time, conid
    having count(*) > 1
    union all
    select trade_date
    from {{ ref('daily_clean') }}
    where {{ in_build() }}
    group by trade_date, conid
    having count(*) > 1
),

changes as (
    select
        trade_date,
        count(*) as compared,
        sum(case when abs(open_interest - previous_open_interest) > volume then 1 else 0 end) as implausible
    from {{ ref('int_open_interest_changes') }}
    group by trade_date
),

-- A date has no number of a metric for which it has no rows: the value stays null, and null never passes.
measured as (
    select
        worst_coverage.trade_date,
        'slot_coverage' as metric,
        worst_coverage.coverage as value,
        min(coverage.underlying) as detail
    from worst_coverage
    inner join coverage
        on
            worst_coverage.trade_date = coverage.trade_date
            and worst_coverage.coverage = coalesce(coverage.coverage, 0)
    group by worst_coverage.trade_date, worst_coverage.coverage
    union all
    select
        trade_date,
        'missing_slots' as metric,
        cast(sum(missing_slots) as double) as value,
        min(case when missing_slots > 0 then underlying end) as detail
    from coverage
    group by trade_date
    union all
    select
        daily.trade_date,
        'fallback' as metric,
        1 - cast(daily.from_close as double) / (daily.contracts + coalesce(unresolved.contracts, 0)) as value,
        cast(null as {{ dbt.type_string() }}) as detail
    from daily
    left join unresolved on daily.trade_date = unresolved.trade_date
    union all
    select
        trade_date,
        'delayed' as metric,
        avg(case when {{ is_delayed() }} then 1.0 else 0.0 end) as value,
        cast(null as {{ dbt.type_string() }}) as detail
    from error_free
    group by trade_date
    union all
    select
        trade_date,
        'oi_filled' as metric,
        coalesce(cast(with_open_interest as double) / nullif(contracts - expired, 0), 1) as value,
        cast(null as {{ dbt.type_string() }}) as detail
    from daily
    union all
    select
        trade_date,
        'slot_retry_exceeded' as metric,
        cast(
            sum(case when {{ has_flag('data_quality_flag', 'slot_retry_exceeded') }} then 1 else 0 end) as double
        ) as value,
        cast(null as {{ dbt.type_string() }}) as detail
    from retries
    group by trade_date
    union all
    select
        daily.trade_date,
        'duplicates' as metric,
        cast(count(repeated_keys.trade_date) as double) as value,
        cast(null as {{ dbt.type_string() }}) as detail
    from daily
    left join repeated_keys on daily.trade_date = repeated_keys.trade_date
    group by daily.trade_date
    union all
    select
        trade_date,
        'out_of_session' as metric,
        cast(sum(case when in_session then 0 else 1 end) as double) as value,
        cast(null as {{ dbt.type_string() }}) as detail
    from {{ ref('stg_option_quotes') }}
    where {{ in_build() }}
    group by trade_date
    union all
    select
        trade_date,
        'pacing_errors' as metric,
        cast(sum(pacing_errors) as double) as value,
        cast(null as {{ dbt.type_string() }}) as detail
    from {{ ref('stg_runs') }}
    where {{ in_build() }}
    group by trade_date
    union all
    select
        trade_date,
        'spot_check' as metric,
        cast(sum(live_or_marked) as double) / nullif(sum(outcomes), 0) as value,
        concat_ws(
            ', ',
            max(case when draw = 1 then underlying end),
            max(case when draw = 2 then underlying end),
            max(case when draw = 3 then underlying end)
        ) as detail
    from {{ ref('int_spot_checks') }}
    group by trade_date
    union all
    -- What has no open interest of the session before contradicts nothing.
    select
        daily.trade_date,
        'oi_plausibility' as metric,
        coalesce(changes.implausible / nullif(cast(changes.compared as double), 0), 0) as value,
        cast(coalesce(changes.compared, 0) as {{ dbt.type_string() }}) || ' contracts compared' as detail
    from daily
    left join changes on daily.trade_date = changes.trade_date
    where daily.with_open_interest > 0
    union all
    select
        trade_date,
        flag as metric,
        flag_share as value,
        cast(null as {{ dbt.type_string() }}) as detail
    from {{ ref('int_flag_shares') }}
),

thresholds as (
    {{ thresholds() }}
),

judged as (
    select
        dates.trade_date,
        dates.session_over,
        dates.open_interest_due,
        thresholds.metric,
        measured.value,
        thresholds.comparison,
        thresholds.threshold,
        coalesce(
            case thresholds.comparison
                when '>=' then measured.value >= thresholds.threshold
                when '<=' then measured.value <= thresholds.threshold
                when '<' then measured.value < thresholds.threshold
            end,
            false
        ) as holds,
        thresholds.severity,
        measured.detail
    from dates
    cross join thresholds
    left join measured
        on dates.trade_date = measured.trade_date and thresholds.metric = measured.metric
),

filled as (
    select trade_date
    from judged
    where metric = 'oi_filled' and holds
),

timed as (
    select
        judged.*,
        coalesce(
            case
                when judged.metric in ('oi_filled', 'oi_plausibility')
                    then {{ as_of() }} < judged.open_interest_due and filled.trade_date is null
                else {{ as_of() }} < judged.session_over
            end,
            false
        ) as is_early
    from judged
    left join filled on judged.trade_date = filled.trade_date
)

-- Before it is due a number neither passes nor fails, except that open interest may be complete early: it only grows. A
-- date that is no session is never over, and so never pending.
select
    trade_date,
    metric,
    value,
    comparison,
    threshold,
    holds and not is_early as passed,
    is_early as pending,
    severity,
    detail
from timed
