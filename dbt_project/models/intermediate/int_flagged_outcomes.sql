{{ config(materialized='view') }}

{% set outcome_columns = ['trade_date', 'view', 'slot_30m', 'sample_time', 'underlying', 'conid'] + contract_columns()
    + quote_columns() + ['open_interest', 'market_data_type', 'asof_ts', 'source', 'snapshot_error', 'error_code',
    'error_type', 'error_message', 'is_good', 'is_close', 'is_pre_close'] -%}

select
    {{ select_columns(outcome_columns, 'outcomes') }},
    {{ flags('outcomes.data_quality_flag', [
        ('stale_quote', 'found.stale_quote'),
        ('below_intrinsic', 'found.below_intrinsic'),
        ('parity_violation', 'found.parity_violation'),
        ('strike_monotonicity', 'found.strike_monotonicity'),
        ('butterfly_violation', 'found.butterfly_violation'),
    ]) }} as data_quality_flag
from {{ ref('int_best_outcomes') }} as outcomes
left join {{ ref('int_quote_flags') }} as found
    on {{ same(['trade_date', 'view', 'slot_30m', 'conid'], 'outcomes', 'found') }}
