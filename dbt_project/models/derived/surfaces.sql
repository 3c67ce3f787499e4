{{ config(sorted_by=['trade_date', 'underlying', 'expiry', 'trading_class', 'slot_30m']) }}

with

fits as (
    select
        {{ select_columns(['trade_date', 'view', 'slot_30m']) }},
        {{ rows_of(field('fits', 'smiles')) }} as fit
    from {{ ref('int_surface_fits') }}
)

select
    smiles.trade_date,
    smiles.view,
    smiles.slot_30m,
    smiles.sample_time,
    smiles.underlying,
    smiles.trading_class,
    smiles.multiplier,
    smiles.expiry,
    smiles.tte,
    smiles.forward,
    {{ field('fits.fit', 'atm_iv') }} as atm_iv,
    {{ field('fits.fit', 'atm_error') }} as atm_error,
    {{ field('fits.fit', 'skew') }} as skew,
    {{ field('fits.fit', 'curvature') }} as curvature,
    {{ field('fits.fit', 'quotes') }} as quotes,
    {{ field('fits.fit', 'used') }} as quotes_used,
    {{ field('fits.fit', 'rms') }} as rms,
    {{ field('fits.fit', 'inside_share') }} as inside_share,
    {{ field('fits.fit', 'delta_low') }} as delta_low,
    {{ field('fits.fit', 'delta_high') }} as delta_high,
    {{ field('fits.fit', 'butterfly') }} as butterfly,
    {{ field('fits.fit', 'calendar') }} as calendar,
    {{ field('fits.fit', 'arbitrage_free') }} as arbitrage_free,
    {{ field('fits.fit', 'repaired') }} as repaired,
    {{ field('fits.fit', 'confidence') }} as confidence,
    {{ field('fits.fit', 'a') }} as svi_a,
    {{ field('fits.fit', 'b') }} as svi_b,
    {{ field('fits.fit', 'rho') }} as svi_rho,
    {{ field('fits.fit', 'm') }} as svi_m,
    {{ field('fits.fit', 'sigma') }} as svi_sigma
from {{ ref('int_forwards') }} as smiles
inner join fits
    on {{ same(['trade_date', 'view', 'slot_30m'], 'smiles', 'fits') }}
        and smiles.smile = {{ field('fits.fit', 'smile') }}
where {{ field('fits.fit', 'atm_iv') }} is not null
