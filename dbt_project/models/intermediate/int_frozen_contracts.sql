with

ranked as (
    select
        contracts.*,
        row_number() over (
            partition by contracts.trade_date, contracts.conid
            order by contracts.first_seen_slot, contracts.frozen_at, contracts.ingest_id
        ) as preference
    from {{ ref('stg_contracts') }} as contracts
    where
        {{ in_build('contracts.trade_date') }}
        -- A date without a session has no rows.
        and contracts.trade_date in (select sessions.trade_date from {{ ref('stg_sessions') }} as sessions)
)

select
    trade_date,
    underlying,
    conid,
    {{ select_columns(contract_columns()) }},
    first_seen_slot
from ranked
where preference = 1
