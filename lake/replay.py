"""A stored day as a replay file: what was recorded becomes a market again."""

from datetime import date
from pathlib import Path

from lake.duck import connect, delta_scan
from lake.errors import LakeError
from lake.store import Lake

# The underlying's own quote where there is one; some options carry the price that their model used as well.
REPLAY = """
    select
        o.asof_ts as ts,
        o.underlying,
        coalesce(u.price, o.underlying_price) as underlying_price,
        o.expiry, o.strike, o."right", o.multiplier, o.trading_class, o.last_trade_date,
        o.bid, o.ask, o.bid_size, o.ask_size, o.last,
        coalesce(o.volume, 0) as volume,
        o.open_interest
    from {options} as o
    left join (
        select underlying, slot_30m, arg_max(coalesce(last, (bid + ask) / 2), asof_ts) as price
        from {underlyings}
        where trade_date = date '{day}' and view = 'intraday' and not snapshot_error
        group by underlying, slot_30m
    ) as u on u.underlying = o.underlying and u.slot_30m = o.slot_30m
    where o.trade_date = date '{day}' and o.view = 'intraday' and not o.snapshot_error and o.asof_ts is not null
    order by ts, o.underlying, o.expiry, o.strike, o."right"
"""


def write_replay_day(lake: Lake, day: date, file: Path) -> int:
    """Write the captured quotes of `day` as a Parquet file for the gateway's replay world; returns the row count.

    The columns are those of every replay file (``ts, underlying, underlying_price, expiry, strike, right, multiplier,
    bid, ask, bid_size, ask_size, last, volume, open_interest``), and ``trading_class, last_trade_date``.
    Raises LakeError when the lake has no quotes of the day.
    """
    query = REPLAY.format(
        options=delta_scan(lake.uri("raw/option_quotes")),
        underlyings=delta_scan(lake.uri("raw/underlying_quotes")),
        day=day.isoformat(),
    )
    connection = connect(root=lake.root)
    try:
        connection.execute(f"create table replay_day as {query}")
        (count,) = connection.execute("select count(*) from replay_day").fetchone() or (0,)
        if not count:
            raise LakeError(f"the lake at {lake.root} has no quotes of {day} to replay: choose a recorded date")
        connection.execute("copy replay_day to $file (format parquet, compression zstd)", {"file": str(file)})
        return int(count)
    finally:
        connection.close()
