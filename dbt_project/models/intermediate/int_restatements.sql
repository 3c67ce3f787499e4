with

daily as (
    select distinct
        trade_date,
        underlying
    from {{ ref('daily_clean') }}
),

expected as (
    select
        daily.trade_date,
        daily.underlying,
        coalesce(regimes.price_factor, 1) as price_factor,
        coalesce(regimes.strike_shift, 0) as strike_shift,
        coalesce(regimes.adjustment_events, {{ empty_list() }}) as adjustment_events,
        {{ company_today('coalesce(regimes.underlying_today, daily.underlying)', 'regimes.symbol_until') }}
            as company_today,
        coalesce({{ iso_date('regimes.series_until') }}, '') as series_until
    from daily
    left join {{ ref('int_adjustment_regimes') }} as regimes
        on
            daily.underlying = regimes.underlying
            and daily.trade_date >= regimes.valid_from
            and daily.trade_date < regimes.valid_until
),

-- What daily_adjusted said before this build.
stored as (
    select distinct
        trade_date,
        underlying,
        price_factor,
        strike_shift,
        adjustment_events,
        split_part(adjusted_contract_key, '|', 1) as company_today,
        split_part(split_part(adjusted_contract_key, '|', 2), '@', 2) as series_until
    from {{ stored('clean', 'daily_adjusted') }}
)

select distinct
    expected.trade_date,
    expected.underlying
from expected
left join stored
    on expected.trade_date = stored.trade_date and expected.underlying = stored.underlying
where
    not ({{ in_build('expected.trade_date') }})
    and (
        stored.trade_date is null
        or abs(expected.price_factor - stored.price_factor) > 1e-12
        or abs(expected.strike_shift - stored.strike_shift) > 1e-9
        or expected.adjustment_events <> stored.adjustment_events
        or expected.company_today <> stored.company_today
        or expected.series_until <> stored.series_until
    )
