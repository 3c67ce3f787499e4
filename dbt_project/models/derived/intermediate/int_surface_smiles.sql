-- A class whose deliverable has changed is no part of its underlying's surface, but has one of its own.
select
    *,
    dense_rank() over (
        partition by trade_date, view, slot_30m
        order by underlying, case when is_standard then '' else trading_class end
    ) as surface
from {{ ref('int_smile_vols') }}
