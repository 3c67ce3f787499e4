{{ config(sorted_by=['trade_date', 'underlying', 'expiry', 'trading_class', 'slot_30m']) }}

select
    trade_date,
    view,
    slot_30m,
    sample_time,
    underlying,
    trading_class,
    multiplier,
    expiry,
    tte,
    not is_european as is_american,
    spot,
    rate,
    forward,
    forward_error,
    discount,
    carry,
    dividends,
    pairs,
    residual,
    r2,
    confidence,
    data_quality_flag
from {{ ref('int_forwards') }}
