-- daily_adjusted is daily_clean with columns added: the same contracts and quotes on every date it was made for.
-- depends_on: {{ ref('daily_metrics') }}
with

clean as (
    select
        trade_date,
        conid,
        strike,
        bid,
        ask
    from {{ ref('daily_clean') }}
    where {{ in_adjusted_build() }}
),

adjusted as (
    select
        trade_date,
        conid,
        strike,
        bid,
        ask
    from {{ ref('daily_adjusted') }}
    where {{ in_adjusted_build() }}
)

select
    coalesce(clean.trade_date, adjusted.trade_date) as trade_date,
    coalesce(clean.conid, adjusted.conid) as conid
from clean
full outer join adjusted
    on clean.trade_date = adjusted.trade_date and clean.conid = adjusted.conid
where
    clean.conid is null
    or adjusted.conid is null
    or clean.strike <> adjusted.strike
    or coalesce(clean.bid, -1) <> coalesce(adjusted.bid, -1)
    or coalesce(clean.ask, -1) <> coalesce(adjusted.ask, -1)
