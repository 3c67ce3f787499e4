{% set smile = ['trade_date', 'view', 'slot_30m', 'smile'] -%}

with

implied as (
    select
        smiles.*,
        chainlake_forwards(
            smiles.tte,
            coalesce(smiles.rate, 0.0),
            smiles.spot,
            not smiles.is_european,
            pairs.pairs
        ) as parity
    from {{ ref('int_smiles') }} as smiles
    left join {{ ref('int_smile_pairs') }} as pairs on {{ same(smile, 'smiles', 'pairs') }}
    where smiles.tte > 0
)

select
    {{ select_columns(smile) }},
    sample_time,
    underlying,
    trading_class,
    multiplier,
    expiry,
    is_standard,
    is_european,
    tte,
    spot,
    rate,
    {{ field('parity', 'forward') }} as forward,
    {{ field('parity', 'forward_error') }} as forward_error,
    case when {{ field('parity', 'forward') }} is not null then {{ field('parity', 'discount') }} end as discount,
    {{ field('parity', 'carry') }} as carry,
    {{ field('parity', 'dividends') }} as dividends,
    {{ field('parity', 'pairs') }} as pairs,
    {{ field('parity', 'residual') }} as residual,
    {{ field('parity', 'r2') }} as r2,
    {{ field('parity', 'confidence') }} as confidence,
    {{ flags(empty_list(), [
        ('discount_implied', field('parity', 'discount_implied')),
        ('outliers', field('parity', 'outliers')),
        ('few_pairs', field('parity', 'few_pairs')),
        ('no_pairs', field('parity', 'forward') ~ ' is null'),
        ('no_rate', 'rate is null'),
        ('stale_rate', 'rate_date < trade_date - ' ~ var('rate_fresh_days')),
    ]) }} as data_quality_flag
from implied
