with

quotes as (
    select
        trade_date,
        underlying,
        case when view = 'close' then 'close_view' else 'close_slot' end as origin,
        last,
        case when ask > 0 and bid <= ask then (bid + ask) / 2 end as mid,
        row_number() over (
            partition by trade_date, underlying, view
            order by
                case when last > 0 then 0 else 1 end,
                case when {{ is_delayed() }} then 1 else 0 end,
                asof_ts desc nulls last,
                ingest_id desc,
                last desc nulls last
        ) as last_preference,
        row_number() over (
            partition by trade_date, underlying, view
            order by
                case when ask > 0 and bid <= ask then 0 else 1 end,
                case when {{ is_delayed() }} then 1 else 0 end,
                asof_ts desc nulls last,
                ingest_id desc,
                bid desc nulls last,
                ask desc nulls last
        ) as mid_preference
    from {{ ref('stg_underlying_quotes') }}
    where {{ in_build() }} and is_close and not snapshot_error
),

-- What the model of the options themselves last worked with, when the underlying's own quote failed.
option_rows as (
    select
        trade_date,
        underlying,
        conid,
        underlying_price,
        asof_ts
    from {{ ref('intraday') }}
    where {{ in_build() }} and is_good and underlying_price > 0
    union all
    select
        trade_date,
        underlying,
        conid,
        underlying_price,
        asof_ts
    from {{ ref('int_close_outcomes') }}
    where is_good and underlying_price > 0
),

latest_option_instants as (
    select
        trade_date,
        underlying,
        max(asof_ts) as asof_ts
    from option_rows
    group by trade_date, underlying
),

latest_option_conids as (
    select
        option_rows.trade_date,
        option_rows.underlying,
        min(option_rows.conid) as conid
    from option_rows
    inner join latest_option_instants
        on
            option_rows.trade_date = latest_option_instants.trade_date
            and option_rows.underlying = latest_option_instants.underlying
            and option_rows.asof_ts = latest_option_instants.asof_ts
    group by option_rows.trade_date, option_rows.underlying
),

offers as (
    select
        trade_date,
        underlying,
        case origin when 'close_view' then 1 else 2 end as preference,
        case origin when 'close_view' then 'close_view_last' else 'close_slot_last' end as underlying_source,
        last as underlying_close
    from quotes
    where last_preference = 1 and last > 0
    union all
    select
        trade_date,
        underlying,
        3 as preference,
        'close_slot_mid' as underlying_source,
        mid as underlying_close
    from quotes
    where mid_preference = 1 and origin = 'close_slot' and mid > 0
    union all
    select
        option_rows.trade_date,
        option_rows.underlying,
        4 as preference,
        'option_model' as underlying_source,
        max(option_rows.underlying_price) as underlying_close
    from option_rows
    inner join latest_option_instants
        on
            option_rows.trade_date = latest_option_instants.trade_date
            and option_rows.underlying = latest_option_instants.underlying
            and option_rows.asof_ts = latest_option_instants.asof_ts
    inner join latest_option_conids
        on
            option_rows.trade_date = latest_option_conids.trade_date
            and option_rows.underlying = latest_option_conids.underlying
            and option_rows.conid = latest_option_conids.conid
    group by option_rows.trade_date, option_rows.underlying
),

ranked as (
    select
        offers.*,
        row_number() over (partition by offers.trade_date, offers.underlying order by offers.preference) as offer
    from offers
)

select
    trade_date,
    underlying,
    underlying_close,
    underlying_source
from ranked
where offer = 1
