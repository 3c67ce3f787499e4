select
    {{ ib_symbol('symbol') }} as underlying,
    coalesce(nullif(trim(views), ''), 'both') as views
from {{ ref('universe') }}
