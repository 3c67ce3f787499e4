with

-- Beside each quote the contract's last one of an earlier slot. The close view belongs to the close slot: it follows
-- the slot before that.
followed as (
    select
        trade_date,
        view,
        slot_30m,
        conid,
        bid,
        ask,
        bid_size,
        ask_size,
        delta,
        spot,
        {{ in_earlier_slot('bid') }} as previous_bid,
        {{ in_earlier_slot('ask') }} as previous_ask,
        {{ in_earlier_slot('bid_size') }} as previous_bid_size,
        {{ in_earlier_slot('ask_size') }} as previous_ask_size,
        {{ in_earlier_slot('delta') }} as previous_delta,
        {{ in_earlier_slot('spot') }} as previous_spot
    from {{ ref('int_comparable_quotes') }}
    window slots as (partition by trade_date, conid order by slot_30m, case when view = 'close' then 1 else 0 end)
)

-- Between two instants an option moves with its underlying by at least the smaller of its deltas there. A spread wider
-- than that explains why nobody changed the quote.
select
    trade_date,
    view,
    slot_30m,
    conid
from followed
where
    ask = previous_ask
    and coalesce(bid, -1) = coalesce(previous_bid, -1)
    and coalesce(bid_size, -1) = coalesce(previous_bid_size, -1)
    and coalesce(ask_size, -1) = coalesce(previous_ask_size, -1)
    and abs(spot - previous_spot) > {{ var('stale_underlying_move') }} * previous_spot
    and least(abs(delta), abs(previous_delta)) * abs(spot - previous_spot)
    > greatest({{ var('stale_price_move') }}, (ask - coalesce(bid, 0)) / 2)
