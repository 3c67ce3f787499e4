{% set smile = ['trade_date', 'view', 'slot_30m', 'smile'] -%}

with

quotes as (
    select
        {{ select_columns(smile) }},
        {{ list_of_rows({
            'conid': 'conid',
            'call': quoted('right') ~ " = 'C'",
            'strike': 'strike',
            'bid': 'bid',
            'ask': 'ask',
        }) }} as quotes
    from {{ ref('int_comparable_quotes') }}
    group by {{ select_columns(smile) }}
)

-- The options of a smile share forward, discount and time: they are valued together.
select
    forwards.*,
    chainlake_vols(
        forwards.tte,
        forwards.forward,
        forwards.discount,
        forwards.spot,
        not forwards.is_european,
        quotes.quotes
    ) as vols
from {{ ref('int_forwards') }} as forwards
inner join quotes on {{ same(smile, 'forwards', 'quotes') }}
where forwards.forward is not null
