with

source as (
    select * from {{ ref('corporate_actions') }}
),

cleaned as (
    select
        {{ ib_symbol('symbol') }} as symbol,
        trim(event_type) as listed_event_type,
        effective_date,
        ratio_new / nullif(ratio_old, 0) as ratio,
        cash_amount,
        {{ ib_symbol('new_symbol') }} as new_symbol,
        known_at,
        source
    from source
)

select
    symbol,
    listed_event_type,
    -- OCC divides strikes for whole ratios only; any other split changes what the old contracts deliver.
    case
        when listed_event_type <> 'split' then listed_event_type
        when ratio >= 1 and abs(ratio - round(ratio)) < 1e-9 then 'split'
        else 'deliverable_change'
    end as event_type,
    effective_date,
    case when listed_event_type = 'split' then ratio end as ratio,
    cash_amount,
    new_symbol,
    known_at,
    source
from cleaned
