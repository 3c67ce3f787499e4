select
    trade_date,
    slot_30m,
    min(sample_time) as sample_time,
    max(window_end) as window_end,
    max(is_close) as is_close,
    max(is_pre_close) as is_pre_close
from {{ lake_source('raw', 'sessions') }}
group by trade_date, slot_30m
