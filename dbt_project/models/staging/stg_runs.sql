select
    trade_date,
    step,
    view,
    slot_30m,
    batch,
    attempt,
    ingest_id,
    status,
    coalesce(pacing_errors, 0) as pacing_errors,
    started_at,
    ended_at
from {{ lake_source('ops', 'runs') }}
