with

source as (
    select * from {{ lake_source('raw', 'option_quotes') }}
),

cleaned as (
    select
        trade_date,
        view,
        slot_30m,
        underlying,
        conid,
        {{ select_columns(contract_columns()) }},
        {{ known_bid() }} as bid,
        {{ known_amount('ask') }} as ask,
        {{ known_amount('last') }} as last,
        {{ is_bid_seen() }} as bid_seen,
        {{ known_count('bid_size') }} as bid_size,
        {{ known_count('ask_size') }} as ask_size,
        {{ known_count('last_size') }} as last_size,
        {{ known_count('volume') }} as volume,
        {{ known_amount('iv') }} as iv,
        {{ known_greek('delta') }} as delta,
        {{ known_greek('gamma', '-1, -2, -999') }} as gamma,
        {{ known_greek('theta') }} as theta,
        {{ known_greek('vega', '-1, -2, -999') }} as vega,
        {{ known_amount('model_price') }} as model_price,
        {{ known_amount('pv_dividend') }} as pv_dividend,
        {{ known_amount('underlying_price') }} as underlying_price,
        {{ known_count('open_interest') }} as open_interest,
        {{ known_count('market_data_type') }} as market_data_type,
        requested_at,
        asof_ts,
        ingest_id,
        attempt,
        coalesce(data_quality_flag, {{ empty_list() }}) as data_quality_flag,
        coalesce(snapshot_error, false) as snapshot_error,
        error_code,
        error_type,
        error_message,
        source,
        sample_time as captured_sample_time
    from source
),

-- Rows of a slot that the session does not have stay here, marked; the close view belongs to the close slot.
in_sessions as (
    select
        cleaned.*,
        coalesce(sessions.sample_time, cleaned.captured_sample_time) as sample_time,
        coalesce(cleaned.view = 'intraday' or (cleaned.view = 'close' and sessions.is_close), false)
        and sessions.trade_date is not null as in_session,
        sessions.is_close,
        sessions.is_pre_close,
        case
            when cleaned.view = 'close' then {{ new_york_instant('cleaned.trade_date', var('close_deadline')) }}
            else sessions.window_end
        end as window_end
    from cleaned
    left join {{ ref('stg_sessions') }} as sessions
        on cleaned.trade_date = sessions.trade_date and cleaned.slot_30m = sessions.slot_30m
)

select
    trade_date,
    view,
    slot_30m,
    sample_time,
    underlying,
    conid,
    {{ select_columns(contract_columns()) }},
    bid,
    ask,
    last,
    bid_seen,
    bid_size,
    ask_size,
    last_size,
    volume,
    iv,
    delta,
    gamma,
    theta,
    vega,
    model_price,
    pv_dividend,
    underlying_price,
    open_interest,
    market_data_type,
    requested_at,
    asof_ts,
    ingest_id,
    attempt,
    data_quality_flag,
    snapshot_error,
    error_code,
    error_type,
    error_message,
    source,
    in_session,
    coalesce(is_close, false) as is_close,
    coalesce(is_pre_close, false) as is_pre_close,
    in_session and {{ is_good_quote() }} as is_good
from in_sessions
