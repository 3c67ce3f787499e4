with

-- Three underlyings a date, the same ones whenever it is built again.
drawn as (
    select
        trade_date,
        underlying,
        row_number() over (
            partition by trade_date order by md5({{ iso_date('trade_date') }} || underlying), underlying
        ) as draw
    from {{ ref('int_frozen_contracts') }}
    group by trade_date, underlying
),

error_free as (
    select
        trade_date,
        underlying,
        market_data_type,
        data_quality_flag
    from {{ ref('intraday') }}
    where {{ in_build() }} and not snapshot_error
    union all
    select
        trade_date,
        underlying,
        market_data_type,
        data_quality_flag
    from {{ ref('int_close_outcomes') }}
    where not snapshot_error
)

select
    drawn.trade_date,
    drawn.underlying,
    drawn.draw,
    count(error_free.underlying) as outcomes,
    sum(case
        when error_free.market_data_type in (1, 2) then 1
        when {{ has_flag('error_free.data_quality_flag', 'delayed_fallback') }} then 1
        else 0
    end) as live_or_marked
from drawn
left join error_free on {{ same(['trade_date', 'underlying'], 'drawn', 'error_free') }}
where drawn.draw <= 3
group by drawn.trade_date, drawn.underlying, drawn.draw
