{% set smile = ['trade_date', 'view', 'slot_30m', 'smile'] -%}

with

-- Exercised at once, an American option pays its intrinsic value: nobody need sell it for less.
below_intrinsic as (
    select
        trade_date,
        view,
        slot_30m,
        conid
    from {{ ref('int_comparable_quotes') }}
    where
        not is_european
        and case when {{ quoted('right') }} = 'C' then spot - strike else strike - spot end - ask
        > greatest({{ var('price_tolerance') }}, {{ var('intrinsic_tolerance') }} * spot)
),

-- Not even the side of the pair that comes nearer to the smile's own line reaches it.
parity_violations as (
    select
        {{ select_columns(smile, 'pairs') }},
        pairs.call_conid,
        pairs.put_conid
    from {{ ref('int_parity_pairs') }} as pairs
    inner join {{ ref('int_parity_fits') }} as fits on {{ same(smile, 'pairs', 'fits') }}
    where
        abs(pairs.asof_s - fits.asof_s) <= {{ var('max_pair_skew') }}
        and greatest(
            pairs.sold - fits.level - fits.tilt * pairs.strike,
            fits.level + fits.tilt * pairs.strike - pairs.bought
        )
        > case
            when pairs.is_european then {{ var('parity_tolerance') }}
            else greatest({{ var('parity_tolerance') }}, {{ var('parity_premium') }} * pairs.dearer_mid)
        end
),

found as (
    select
        trade_date,
        view,
        slot_30m,
        conid,
        'stale_quote' as flag
    from {{ ref('int_stale_quotes') }}
    union all
    select
        trade_date,
        view,
        slot_30m,
        conid,
        'below_intrinsic' as flag
    from below_intrinsic
    union all
    select
        trade_date,
        view,
        slot_30m,
        call_conid as conid,
        'parity_violation' as flag
    from parity_violations
    union all
    select
        trade_date,
        view,
        slot_30m,
        put_conid as conid,
        'parity_violation' as flag
    from parity_violations
    union all
    select
        trade_date,
        view,
        slot_30m,
        conid,
        flag
    from {{ ref('int_strike_violations') }}
)

select
    trade_date,
    view,
    slot_30m,
    conid,
    max(case when flag = 'stale_quote' then 1 else 0 end) = 1 as stale_quote,
    max(case when flag = 'below_intrinsic' then 1 else 0 end) = 1 as below_intrinsic,
    max(case when flag = 'parity_violation' then 1 else 0 end) = 1 as parity_violation,
    max(case when flag = 'strike_monotonicity' then 1 else 0 end) = 1 as strike_monotonicity,
    max(case when flag = 'butterfly_violation' then 1 else 0 end) = 1 as butterfly_violation
from found
group by trade_date, view, slot_30m, conid
