-- All surfaces of an instant are fitted together, in one order: so a day that is built again comes out the same.
select
    trade_date,
    view,
    slot_30m,
    chainlake_surfaces({{ list_of_rows({
        'smile': 'smile',
        'surface': 'surface',
        'tte': 'tte',
        'forward': 'forward',
        'forward_error': 'forward_error',
        'discount': 'discount',
        'quotes': 'vols',
    }) }}) as fits
from {{ ref('int_surface_smiles') }}
group by trade_date, view, slot_30m
