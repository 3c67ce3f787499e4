{{ config(
    dates='adjusted',
    sorted_by=['trade_date', 'underlying', 'expiry', 'strike', 'right', 'conid']
) }}

with recursive

{% set daily_columns = ['underlying', 'conid'] + contract_columns() + quote_columns() + [
    'underlying_close', 'underlying_source', 'moneyness_pct', 'strike_per_100', 'open_interest', 'oi_asof_date',
    'market_data_type', 'source', 'is_good', 'rollup_strategy', 'rollup_source_time', 'rollup_source_asof',
    'rollup_source_slot', 'rollup_source_view', 'data_quality_flag',
] -%}

daily as (
    select
        daily.*,
        regimes.valid_until,
        coalesce(regimes.contract_factor, 1) as contract_factor,
        coalesce(regimes.price_factor, 1) as price_factor,
        coalesce(regimes.strike_shift, 0) as strike_shift,
        coalesce(regimes.underlying_today, daily.underlying) as underlying_today,
        regimes.symbol_until,
        regimes.series_until,
        coalesce(regimes.adjustment_events, {{ empty_list() }}) as adjustment_events
    from {{ ref('daily_clean') }} as daily
    left join {{ ref('int_adjustment_regimes') }} as regimes
        on
            daily.underlying = regimes.underlying
            and daily.trade_date >= regimes.valid_from
            and daily.trade_date < regimes.valid_until
    where {{ in_adjusted_build('daily.trade_date') }}
),

-- Strikes are rounded at each event, as OCC does, so that each distinct one goes through the steps by itself.
listed_strikes as (
    select distinct
        underlying,
        valid_until,
        strike
    from daily
    where valid_until is not null
),

-- A strike that an event would bring to zero or below is kept apart from there on: what it was before the event tells
-- it in the key, a dividend is left in what the contract delivers (`cash_kept`), and a split stops at a cent.
strikes as (
    select
        underlying,
        valid_until,
        strike,
        cast(0 as bigint) as step,
        strike as strike_adj,
        cast(0 as double) as cash_kept,
        cast(null as double) as strike_apart,
        cast(null as date) as apart_since
    from listed_strikes
    union all
    select
        strikes.underlying,
        strikes.valid_until,
        strikes.strike,
        steps.step,
        case
            when {{ lowered_strike() }} > 0 then {{ lowered_strike() }}
            when steps.event_type = 'split' then 0.01
            else strikes.strike_adj
        end as strike_adj,
        strikes.cash_kept / steps.contract_factor
        + case when {{ lowered_strike() }} > 0 then 0 else steps.cash_amount end as cash_kept,
        coalesce(
            strikes.strike_apart, case when {{ lowered_strike() }} <= 0 then strikes.strike_adj end
        ) as strike_apart,
        coalesce(
            strikes.apart_since, case when {{ lowered_strike() }} <= 0 then steps.effective_date end
        ) as apart_since
    from strikes
    inner join {{ ref('int_adjustment_steps') }} as steps
        on
            strikes.underlying = steps.underlying
            and strikes.valid_until = steps.valid_until
            and steps.step = strikes.step + 1
),

adjusted as (
    select
        daily.*,
        coalesce(strikes.strike_adj, daily.strike) as strike_adj,
        daily.underlying_close * daily.price_factor - daily.strike_shift as underlying_close_adj,
        coalesce(strikes.cash_kept, 0) as cash_kept,
        coalesce(strikes.strike_apart, strikes.strike_adj, daily.strike) as strike_told,
        strikes.apart_since
    from daily
    left join strikes
        on
            daily.underlying = strikes.underlying
            and daily.valid_until = strikes.valid_until
            and daily.strike = strikes.strike
            and strikes.step = {{ list_length('daily.adjustment_events') }}
),

-- Strikes that rounding brought together are told by what was listed before the first event.
told_apart as (
    select
        *,
        min(strike) over chain <> max(strike) over chain as is_merged
    from adjusted
    window chain as (
        partition by
            trade_date, underlying, trading_class, multiplier, expiry, {{ quoted('right') }}, strike_told, apart_since
    )
)

select
    trade_date,
    {{ select_columns(daily_columns) }},
    strike_adj,
    bid * price_factor as bid_adj,
    ask * price_factor as ask_adj,
    mid * price_factor as mid_adj,
    last * price_factor as last_adj,
    model_price * price_factor as model_price_adj,
    pv_dividend * price_factor as pv_dividend_adj,
    underlying_close_adj,
    bid_size * contract_factor as bid_size_adj,
    ask_size * contract_factor as ask_size_adj,
    volume * contract_factor as volume_adj,
    open_interest * contract_factor as open_interest_adj,
    cast(gamma * contract_factor as float) as gamma_adj,
    cast(vega * price_factor as float) as vega_adj,
    cast(theta * price_factor as float) as theta_adj,
    (underlying_close_adj + cash_kept) / nullif(strike_adj, 0) - 1 as moneyness_pct_adj,
    price_factor,
    strike_shift,
    adjustment_events,
    {{ company_today('underlying_today', 'symbol_until') }}
    || '|' || {{ class_today('trading_class', 'underlying', 'underlying_today') }}
    || case when series_until is null then '' else '@' || {{ iso_date('series_until') }} end
    || '|' || {{ multiplier_text('multiplier') }}
    || '|' || {{ iso_date('expiry') }}
    || '|' || {{ quoted('right') }}
    || '|'
    || case
        when is_merged then {{ cents('strike') }} || '@' || {{ iso_date('valid_until') }}
        when apart_since is not null then {{ cents('strike_told') }} || '@' || {{ iso_date('apart_since') }}
        else {{ cents('strike_told') }}
    end as adjusted_contract_key
from told_apart
