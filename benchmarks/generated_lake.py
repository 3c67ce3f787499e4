"""A generated lake of any size, for the benchmarks: raw rows as capture writes them, one commit a slot.

The market is made by a formula in DuckDB: strikes 1 % apart around a spot that moves over the day, prices of intrinsic
value and a time value that falls with moneyness, quotes in cents, model values as 32-bit floats, arrivals spread over
the slot. It compresses as real quotes do, roughly: the model values and arrivals are what does not repeat.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from ingest.calendar.sessions import Session, Slot, next_session
from ingest.discovery.discover import store_session
from lake.files import HOT_FILES
from lake.store import Lake
from lake.tables import BY_NAME

STRIKES, EXPIRIES = 50, 5
A_CHAIN = 2 * STRIKES * EXPIRIES  # contracts of one underlying


def sessions_from(first: date, count: int) -> Iterator[Session]:
    """`count` sessions after `first`."""
    day = first
    for _ in range(count):
        session = next_session(day)
        yield session
        day = session.trade_date


def create(root: Path) -> Lake:
    """An empty lake of simulated origin."""
    return Lake.create(root, "simulated", datetime(2026, 1, 1, tzinfo=UTC))


def record(lake: Lake, session: Session, contracts: int) -> None:
    """Append a whole day: sessions, frozen set, every slot, and the close view. `contracts`: a multiple of 500."""
    store_session(lake, session)
    connection = duckdb.connect(":memory:")
    connection.execute("set TimeZone = 'UTC'")
    connection.execute(f"create table contracts as {_contracts(session.trade_date, contracts)}")
    _append(lake, connection, "raw/contracts", f"""
        select trade_date, underlying, conid, {CONTRACT}, base as reference_price,
          {_instant(session.open)} as frozen_at,
          0::int as first_seen_slot, 'discovery' as ingest_id, 'simulated' as source, trade_date as discovered_on
        from contracts""")  # fmt: skip
    for slot in session.slots:
        _append(lake, connection, "raw/option_quotes", _quotes(slot, "intraday", slot.sample_time))
        _append(lake, connection, "raw/underlying_quotes", _underlyings(slot, "intraday", slot.sample_time))
    after_close = session.close + timedelta(hours=1)
    _append(lake, connection, "raw/option_quotes", _quotes(session.close_slot, "close", after_close))
    _append(lake, connection, "raw/underlying_quotes", _underlyings(session.close_slot, "close", after_close))
    connection.close()


def seeds(folder: Path, contracts: int) -> Path:
    """The universe of the generated underlyings, and no corporate action, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["symbol,conid,sec_type,exchange,weight,group,views"]
    lines += [f"U{number:03d},{number + 1},STK,SMART,0.1,,both" for number in range(contracts // A_CHAIN)]
    (folder / "universe.csv").write_text("\n".join(lines) + "\n")
    (folder / "corporate_actions.csv").write_text(
        "symbol,event_type,effective_date,ratio_new,ratio_old,cash_amount,new_symbol,known_at,source\n"
    )
    return folder


CONTRACT = 'symbol, trading_class, expiry, last_trade_date, "right", strike, multiplier, exchange'


def _contracts(day: date, contracts: int) -> str:
    return f"""
        with numbered as (
          select range as n, range // {A_CHAIN} as u, range % {A_CHAIN} // {2 * STRIKES} as e,
            range % {2 * STRIKES} // 2 as k, range % 2 as side
          from range({contracts})
        ), placed as (
          select *, 20 + (u * 37 % 480)::double as base, date '{day}' + (30 * (e + 1))::int as expiry,
            if(side = 0, 'C', 'P') as "right"
          from numbered
        )
        select date '{day}' as trade_date, 'U' || lpad(u::varchar, 3, '0') as underlying, 1000 + n as conid, base, e,
          'U' || lpad(u::varchar, 3, '0') as trading_class, expiry, expiry as last_trade_date, "right",
          round(base * (0.75 + 0.01 * k), 2) as strike, 100.0::double as multiplier, 'SMART' as exchange,
          rpad('U' || lpad(u::varchar, 3, '0'), 6, ' ') || strftime(expiry, '%y%m%d') || "right"
            || lpad(round(base * (0.75 + 0.01 * k) * 1000)::int::varchar, 8, '0') as symbol
        from placed order by u, e, k, side
    """


def _quotes(slot: Slot, view: str, at: datetime) -> str:
    spot = f"(base * (1 + 0.02 * sin({slot.slot_30m} / 3.0 + base)))"
    return f"""
        with priced as (
          select *, {spot} as spot, strike / {spot} - 1 as m, hash(conid, {slot.slot_30m}, trade_date) as h
          from contracts
        ), valued as (
          select *, 0.2 + 0.6 * m * m + (h % 997) / 99700.0 as vol, sqrt((30 * (e + 1)) / 365.0) as root,
            greatest(if("right" = 'C', spot - strike, strike - spot), 0) as intrinsic
          from priced
        ), quoted as (
          select *, intrinsic + 0.4 * spot * vol * root * exp(-m * m / (0.3 * vol * root)) as value from valued
        )
        select trade_date, '{view}' as view, {slot.slot_30m}::int as slot_30m,
          {_instant(slot.sample_time)} as sample_time,
          underlying, conid, {CONTRACT}, floor(value * 98) / 100 as bid, ceil(value * 102 + 1) / 100 as ask,
          round(value, 2) as last, true as bid_seen, (1 + h % 90)::bigint as bid_size, (1 + h % 70)::bigint as ask_size,
          (1 + h % 5)::bigint as last_size, ({slot.slot_30m} * (h % 40))::bigint as volume, vol::float as iv,
          (if("right" = 'C', 0.0, -1.0) + 1 / (1 + exp(4 * m / (vol * root))))::float as delta,
          (0.4 / (spot * vol * root) * exp(-m * m))::float as gamma, (-vol * spot * 0.01 / root)::float as theta,
          (spot * root * 0.004)::float as vega, value as model_price, 0.0::double as pv_dividend,
          spot as underlying_price,
          (h % 5000)::bigint as open_interest, {2 if view == "close" else 1}::int as market_data_type,
          {_instant(at)} + to_microseconds((conid * 1000)::bigint) as requested_at,
          {_instant(at)} + to_microseconds((conid * 1000 + h % 500000)::bigint) as asof_ts,
          '0190-{slot.trade_date}-{slot.slot_30m:02d}-{view}' as ingest_id, 'scheduled' as ingest_run_type,
          'all' as batch,
          1::int as attempt, []::varchar[] as data_quality_flag, false as snapshot_error, null::int as error_code,
          null::varchar as error_type, null::varchar as error_message, 'simulated' as source
        from quoted
    """


def _underlyings(slot: Slot, view: str, at: datetime) -> str:
    spot = f"(base * (1 + 0.02 * sin({slot.slot_30m} / 3.0 + base)))"
    return f"""
        select distinct trade_date, '{view}' as view, {slot.slot_30m}::int as slot_30m,
          {_instant(slot.sample_time)} as sample_time, underlying, 1::bigint as conid, round({spot} - 0.01, 2) as bid,
          round({spot} + 0.01, 2) as ask, round({spot}, 2) as last, base as close, 0.2::double as hist_volatility,
          0.2::double as implied_volatility, 1::int as market_data_type, {_instant(at)} as asof_ts,
          'u-{slot.slot_30m}-{view}' as ingest_id, false as snapshot_error, null::int as error_code,
          null::varchar as error_message, 'simulated' as source
        from contracts
    """


def _instant(at: datetime) -> str:
    return f"timestamptz '{at.isoformat()}'"


def _append(lake: Lake, connection: duckdb.DuckDBPyConnection, table: str, query: str) -> None:
    schema = BY_NAME[table].schema
    rows: pa.Table = connection.execute(query).to_arrow_table()
    write_deltalake(
        DeltaTable(lake.uri(table)), rows.select(schema.names).cast(schema), mode="append", writer_properties=HOT_FILES
    )
