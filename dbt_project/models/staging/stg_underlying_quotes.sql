select
    quotes.trade_date,
    quotes.view,
    quotes.slot_30m,
    sessions.sample_time,
    quotes.underlying,
    quotes.conid,
    {{ known_amount('quotes.bid') }} as bid,
    {{ known_amount('quotes.ask') }} as ask,
    {{ known_amount('quotes.last') }} as last,
    {{ known_amount('quotes.close') }} as previous_close,
    {{ known_amount('quotes.hist_volatility') }} as hist_volatility,
    {{ known_amount('quotes.implied_volatility') }} as implied_volatility,
    {{ known_count('quotes.market_data_type') }} as market_data_type,
    quotes.asof_ts,
    quotes.ingest_id,
    coalesce(quotes.snapshot_error, false) as snapshot_error,
    quotes.error_message,
    quotes.source,
    sessions.is_close
from {{ lake_source('raw', 'underlying_quotes') }} as quotes
inner join {{ ref('stg_sessions') }} as sessions
    on quotes.trade_date = sessions.trade_date and quotes.slot_30m = sessions.slot_30m
