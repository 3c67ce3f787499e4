{{ config(sorted_by=['trade_date', 'underlying', 'expiry', 'strike', 'right', 'conid']) }}

with

{% set row_columns = ['sample_time', 'underlying'] + contract_columns() + quote_columns()
    + ['market_data_type', 'asof_ts', 'source', 'is_good', 'data_quality_flag'] -%}

chosen as (
    select
        choices.trade_date,
        choices.conid,
        choices.rollup_strategy,
        choices.rollup_source_view,
        choices.rollup_source_slot,
        choices.slots_before_close,
        {{ select_columns(row_columns, 'quotes') }}
    from {{ ref('int_rollup_choices') }} as choices
    inner join {{ ref('intraday') }} as quotes
        on
            choices.trade_date = quotes.trade_date
            and choices.conid = quotes.conid
            and choices.rollup_source_slot = quotes.slot_30m
    where {{ in_build('quotes.trade_date') }} and choices.rollup_source_view = 'intraday'
    union all
    select
        choices.trade_date,
        choices.conid,
        choices.rollup_strategy,
        choices.rollup_source_view,
        choices.rollup_source_slot,
        choices.slots_before_close,
        {{ select_columns(row_columns, 'quotes') }}
    from {{ ref('int_rollup_choices') }} as choices
    inner join {{ ref('int_close_outcomes') }} as quotes
        on choices.trade_date = quotes.trade_date and choices.conid = quotes.conid
    where choices.rollup_source_view = 'close'
),

-- Neither a morning nor the next session's own snapshots showed it: it is missing for good.
given_up as (
    select distinct
        trade_date,
        conid
    from {{ ref('stg_open_interest') }}
    where {{ in_build() }} and method = 'next_session_snapshot' and snapshot_error
),

enriched as (
    select
        chosen.*,
        closes.underlying_close,
        closes.underlying_source,
        interest.open_interest,
        interest.oi_asof_date,
        given_up.conid is not null as is_given_up
    from chosen
    left join {{ ref('int_underlying_closes') }} as closes
        on chosen.trade_date = closes.trade_date and chosen.underlying = closes.underlying
    left join {{ ref('int_open_interest') }} as interest
        on chosen.trade_date = interest.trade_date and chosen.conid = interest.conid
    left join given_up
        on chosen.trade_date = given_up.trade_date and chosen.conid = given_up.conid
)

select
    trade_date,
    underlying,
    conid,
    {{ select_columns(contract_columns() + quote_columns()) }},
    underlying_close,
    underlying_source,
    underlying_close / nullif(strike, 0) - 1 as moneyness_pct,
    strike * 100 / nullif(multiplier, 0) as strike_per_100,
    open_interest,
    oi_asof_date,
    market_data_type,
    source,
    is_good,
    rollup_strategy,
    sample_time as rollup_source_time,
    asof_ts as rollup_source_asof,
    rollup_source_slot,
    rollup_source_view,
    {{ flags('data_quality_flag', [
        ('missing_oi', 'open_interest is null'),
        ('oi_enrichment_failed', 'open_interest is null and is_given_up'),
        ('eod_rollup_fallback', "rollup_strategy <> 'close'"),
        ('eod_rollup_stale', 'slots_before_close > ' ~ var('rollup_max_age_slots')),
    ]) }} as data_quality_flag
from enriched
