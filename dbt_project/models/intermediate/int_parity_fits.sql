{% set smile = ['trade_date', 'view', 'slot_30m', 'smile'] -%}

with

centres as (
    select
        {{ select_columns(smile) }},
        median(strike) as strike,
        median(asof_s) as asof_s
    from {{ ref('int_parity_pairs') }}
    group by {{ smile | join(', ') }}
),

pairs as (
    select
        {{ select_columns(smile, 'pairs') }},
        pairs.strike,
        centres.asof_s,
        (pairs.bought + pairs.sold) / 2 as paid,
        pairs.strike <= centres.strike as is_low,
        pairs.strike >= centres.strike as is_high
    from {{ ref('int_parity_pairs') }} as pairs
    inner join centres on {{ same(smile, 'pairs', 'centres') }}
    where abs(pairs.asof_s - centres.asof_s) <= {{ var('max_pair_skew') }}
),

-- The line through the medians of both halves (Brown and Mood 1951): one pair in four may be wrong altogether.
halves as (
    select
        {{ select_columns(smile) }},
        max(asof_s) as asof_s,
        count(*) as pairs,
        median(case when is_low then strike end) as low_strike,
        median(case when is_high then strike end) as high_strike,
        median(case when is_low then paid end) as low_paid,
        median(case when is_high then paid end) as high_paid
    from pairs
    group by {{ smile | join(', ') }}
    having count(*) >= {{ var('parity_min_pairs') }}
),

tilts as (
    select
        {{ select_columns(smile) }},
        asof_s,
        pairs,
        (high_paid - low_paid) / nullif(high_strike - low_strike, 0) as tilt
    from halves
)

select
    {{ select_columns(smile, 'tilts') }},
    tilts.asof_s,
    tilts.pairs,
    tilts.tilt,
    median(pairs.paid - tilts.tilt * pairs.strike) as level
from tilts
inner join pairs on {{ same(smile, 'tilts', 'pairs') }}
group by {{ select_columns(smile + ['asof_s', 'pairs', 'tilt'], 'tilts') }}
