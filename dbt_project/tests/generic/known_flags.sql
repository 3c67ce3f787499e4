{#- Every flag in the list column is one that the design names; gives the rows with another. -#}
{% test known_flags(model, column) %}
select *
from {{ model }}
where not {{ contains_only(column, [
    'delayed_fallback', 'missing_greeks', 'missing_oi', 'snapshot_error', 'slot_retry_exceeded', 'late_sample',
    'crossed_market', 'locked_market', 'no_bid', 'zero_quote', 'stale_quote', 'below_intrinsic', 'iv_out_of_range',
    'delta_out_of_range', 'parity_violation', 'strike_monotonicity', 'butterfly_violation', 'discovery_stale',
    'eod_rollup_fallback', 'eod_rollup_stale', 'oi_enrichment_failed',
]) }}
{% endtest %}
