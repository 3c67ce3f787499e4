select
    trade_date,
    oi_asof_date,
    conid,
    underlying,
    {{ known_count('open_interest') }} as open_interest,
    observed_at,
    ingest_id,
    method,
    coalesce(snapshot_error, false) as snapshot_error,
    error_code,
    error_message,
    source
from {{ lake_source('raw', 'open_interest') }}
