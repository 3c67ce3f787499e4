select
    trade_date,
    underlying,
    conid,
    {{ select_columns(contract_columns()) }},
    reference_price,
    frozen_at,
    first_seen_slot,
    ingest_id,
    source
from {{ lake_source('raw', 'contracts') }}
