select
    trade_date,
    view,
    slot_30m,
    conid,
    count(*) as outcomes
from {{ ref('stg_option_quotes') }}
where {{ in_build() }} and in_session
group by trade_date, view, slot_30m, conid
having count(*) > 1
