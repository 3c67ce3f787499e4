{{ config(sorted_by=['trade_date', 'underlying', 'slot_30m', 'days', 'right', 'delta']) }}

with

surfaces as (
    select
        trade_date,
        view,
        slot_30m,
        surface,
        min(underlying) as underlying,
        min(sample_time) as sample_time
    from {{ ref('int_surface_smiles') }}
    where is_standard
    group by trade_date, view, slot_30m, surface
),

points as (
    select
        {{ select_columns(['trade_date', 'view', 'slot_30m']) }},
        {{ rows_of(field('fits', 'grid')) }} as point
    from {{ ref('int_surface_fits') }}
)

select
    surfaces.trade_date,
    surfaces.view,
    surfaces.slot_30m,
    surfaces.sample_time,
    surfaces.underlying,
    cast({{ field('points.point', 'days') }} as integer) as days,
    {{ field('points.point', 'delta') }} as delta,
    case when {{ field('points.point', 'call') }} then 'C' else 'P' end as {{ quoted('right') }},
    {{ field('points.point', 'iv') }} as iv,
    {{ field('points.point', 'strike') }} as strike,
    {{ field('points.point', 'dispersion') }} as dispersion,
    {{ field('points.point', 'error') }} as iv_error,
    {{ field('points.point', 'confidence') }} as confidence
from surfaces
inner join points
    on
        {{ same(['trade_date', 'view', 'slot_30m'], 'surfaces', 'points') }}
        and surfaces.surface = {{ field('points.point', 'surface') }}
