with

-- Only what describes the session itself. A failed observation erases nothing.
observations as (
    select
        trade_date,
        conid,
        open_interest,
        oi_asof_date,
        row_number() over (
            partition by trade_date, conid
            order by observed_at desc, ingest_id desc, open_interest desc
        ) as preference
    from {{ ref('stg_open_interest') }}
    where
        {{ in_build() }}
        and oi_asof_date = trade_date
        and not snapshot_error
        and open_interest is not null
)

select
    trade_date,
    conid,
    open_interest,
    oi_asof_date
from observations
where preference = 1
