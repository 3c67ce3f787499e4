{{ config(sorted_by=['trade_date', 'underlying', 'expiry', 'strike', 'right', 'conid', 'slot_30m']) }}

{% set key = ['trade_date', 'view', 'slot_30m', 'conid'] -%}

with

contracts as (
    select
        {{ select_columns(['trade_date', 'view', 'slot_30m', 'tte', 'forward', 'is_european']) }},
        confidence as forward_confidence,
        {{ rows_of('vols') }} as vol
    from {{ ref('int_smile_vols') }}
),

valued as (
    select
        *,
        {{ field('vol', 'conid') }} as conid
    from contracts
)

select
    quotes.trade_date,
    quotes.view,
    quotes.slot_30m,
    quotes.sample_time,
    quotes.underlying,
    quotes.conid,
    {{ select_columns(contract_columns(), 'quotes') }},
    valued.tte,
    valued.forward,
    ln(quotes.strike / valued.forward) as log_moneyness,
    {{ field('valued.vol', 'iv_bid') }} as iv_bid,
    {{ field('valued.vol', 'iv_mid') }} as iv_mid,
    {{ field('valued.vol', 'iv_ask') }} as iv_ask,
    {{ field('valued.vol', 'delta') }} as delta,
    {{ field('valued.vol', 'gamma') }} as gamma,
    {{ field('valued.vol', 'theta') }} as theta,
    {{ field('valued.vol', 'vega') }} as vega,
    {{ field('valued.vol', 'rho') }} as rho,
    case when valued.is_european then 'european' when not valued.is_european then 'american' end as model,
    {{ field('valued.vol', 'exercise_premium') }} as exercise_premium,
    quotes.iv - {{ field('valued.vol', 'iv_mid') }} as ib_iv_difference,
    case
        when not quotes.is_good then 'no_good_quote'
        when valued.conid is null then 'no_forward'
        else {{ field('valued.vol', 'reason') }}
    end as reason,
    {{ flags(empty_list(), [
        ('forward_uncertain', 'valued.forward_confidence < ' ~ var('forward_confidence')),
        ('no_bid', 'quotes.is_good and quotes.bid is null'),
        ('wide', field('valued.vol', 'iv_ask') ~ ' - ' ~ field('valued.vol', 'iv_bid') ~ ' > ' ~ var('wide_volatility')),
    ]) }} as data_quality_flag
from {{ ref('int_best_outcomes') }} as quotes
left join valued on {{ same(key, 'quotes', 'valued') }}
