{{ config(sorted_by=['trade_date', 'underlying', 'expiry', 'strike', 'right', 'conid', 'slot_30m']) }}

select
    trade_date,
    slot_30m,
    sample_time,
    underlying,
    conid,
    {{ select_columns(contract_columns() + quote_columns()) }},
    open_interest,
    market_data_type,
    asof_ts,
    source,
    snapshot_error,
    error_code,
    error_type,
    error_message,
    is_good,
    data_quality_flag
from {{ ref('int_flagged_outcomes') }}
where view = 'intraday'
