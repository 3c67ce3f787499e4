{% set smile = ['trade_date', 'view', 'slot_30m', 'smile'] -%}

with

legs as (
    select * from {{ ref('int_comparable_quotes') }}
    where bid > 0
)

select
    {{ select_columns(smile, 'calls') }},
    {{ list_of_rows({
        'strike': 'calls.strike',
        'call_bid': 'calls.bid',
        'call_ask': 'calls.ask',
        'put_bid': 'puts.bid',
        'put_ask': 'puts.ask',
    }) }} as pairs
from legs as calls
inner join legs as puts on {{ same(smile + ['strike'], 'calls', 'puts') }}
where
    calls.{{ quoted('right') }} = 'C'
    and puts.{{ quoted('right') }} = 'P'
    and abs(calls.asof_s - puts.asof_s) <= {{ var('max_pair_skew') }}
group by {{ select_columns(smile, 'calls') }}
