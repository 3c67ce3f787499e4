"""A small real lake for tests: two trade dates, two underlyings, 24 contracts, every slot of both sessions.

2026-11-19 is published as passed; 2026-11-20 is published twice, passed and then failed. Bids and asks stand around a
made-up but deterministic value; what the tests hold against is counted from the constants here.
"""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from ingest.calendar.sessions import Slot, session_on
from lake.store import Lake
from lake.tables import OPTION_QUOTES

PASSED, FAILED = date(2026, 11, 19), date(2026, 11, 20)
DAYS = (PASSED, FAILED)
SPOT = {"AAPL": 250.0, "MSFT": 500.0}
EXPIRIES = (date(2026, 12, 18), date(2027, 1, 15))
STEPS = (-0.1, 0.0, 0.1)
CONTRACTS_A_DAY = len(SPOT) * len(EXPIRIES) * len(STEPS) * 2
DAILY_CLEAN = pa.schema(
    [*OPTION_QUOTES.schema, ("rollup_strategy", pa.string()), ("rollup_source_time", pa.timestamp("us", tz="UTC"))]
)
# The one contract without a daily row; its day failed for it.
UNRESOLVED_CONID = 1003


def small_lake(root: Path) -> Lake:
    """Make the lake at `root`."""
    lake = Lake.create(root, "simulated", datetime(2026, 11, 19, 14, tzinfo=UTC))
    for day in DAYS:
        _record(lake, day)
        _roll_up(lake, day)
    _publish(lake, PASSED, hours=1, status="passed")
    _publish(lake, FAILED, hours=1, status="passed")
    _publish(lake, FAILED, hours=2, status="failed", detail="slot_coverage below 0.9")
    return lake


def slots_of(day: date) -> tuple[Slot, ...]:
    """The slots of `day`, which is a session."""
    session = session_on(day)
    assert session is not None
    return session.slots


def contracts(day: date) -> list[dict[str, Any]]:
    """Contracts of `day`, as the quote tables carry them: conids from 1000, AAPL first."""
    listed = [
        (underlying, expiry, round(spot * (1 + step), 2), right)
        for underlying, spot in SPOT.items()
        for expiry in EXPIRIES
        for step in STEPS
        for right in "CP"
    ]
    return [
        {
            "trade_date": day,
            "underlying": underlying,
            "conid": 1000 + k,
            "symbol": f"{underlying:<6}{expiry:%y%m%d}{right}{round(strike * 1000):08d}",
            "trading_class": underlying,
            "expiry": expiry,
            "last_trade_date": expiry,
            "right": right,
            "strike": strike,
            "multiplier": 100.0,
            "exchange": "SMART",
        }
        for k, (underlying, expiry, strike, right) in enumerate(listed)
    ]


def _quotes(day: date) -> list[dict[str, Any]]:
    return [
        contract
        | {
            "view": "intraday",
            "slot_30m": slot.slot_30m,
            "sample_time": slot.sample_time,
            "bid": 5.0 + slot.slot_30m / 100,
            "ask": 5.2 + slot.slot_30m / 100,
            "bid_seen": True,
            "iv": 0.25 + abs(contract["strike"] / SPOT[contract["underlying"]] - 1),
            "delta": 0.5 if contract["right"] == "C" else -0.5,
            "underlying_price": SPOT[contract["underlying"]],
            "volume": 10 * slot.slot_30m,
            "market_data_type": 1,
            "requested_at": slot.sample_time,
            "asof_ts": slot.sample_time + timedelta(seconds=1),
            "ingest_id": f"019a-{day:%m%d}-{slot.slot_30m:02d}",
            "ingest_run_type": "demo",
            "batch": "all",
            "attempt": 1,
            "data_quality_flag": [],
            "snapshot_error": False,
            "source": "simulated",
        }
        for slot in slots_of(day)
        for contract in contracts(day)
    ]


def _record(lake: Lake, day: date) -> None:
    slots = slots_of(day)
    lake.append(
        "raw/sessions",
        [
            {
                "trade_date": day,
                "slot_30m": slot.slot_30m,
                "sample_time": slot.sample_time,
                "is_close": slot.is_close,
                "is_pre_close": slot.is_pre_close,
                "window_end": slot.window_end,
            }
            for slot in slots
        ],
        f"discover/{day}",
        1,
    )
    frozen = {"frozen_at": slots[0].sample_time, "first_seen_slot": 0, "ingest_id": "019a", "source": "simulated"}
    lake.append("raw/contracts", [contract | frozen for contract in contracts(day)], f"discover/{day}", 1)
    lake.append("raw/option_quotes", _quotes(day), f"snapshot/{day}", 1)


def _roll_up(lake: Lake, day: date) -> None:
    quotes = _quotes(day)
    lake.replace_dates("clean/intraday", pa.Table.from_pylist(quotes, schema=OPTION_QUOTES.schema).to_reader, [day])
    close = slots_of(day)[-1]
    daily = [
        quote | {"rollup_strategy": "close", "rollup_source_time": close.sample_time}
        for quote in quotes
        if quote["slot_30m"] == close.slot_30m and (day == PASSED or quote["conid"] != UNRESOLVED_CONID)
    ]
    lake.replace_dates("clean/daily_clean", pa.Table.from_pylist(daily, schema=DAILY_CLEAN).to_reader, [day])
    if day == FAILED:
        unresolved = {"trade_date": day, "underlying": "AAPL", "conid": UNRESOLVED_CONID, "reason": "only_errors"}
        lake.replace_dates("clean/daily_unresolved", pa.Table.from_pylist([unresolved]).to_reader, [day])
    each = CONTRACTS_A_DAY // len(SPOT)
    coverage = [
        {
            "trade_date": day,
            "underlying": underlying,
            "slot_30m": slot.slot_30m,
            "frozen": each,
            "asked": each,
            "captured": each,
            "good": each,
        }
        for underlying in SPOT
        for slot in slots_of(day)
    ]
    lake.replace_dates("quality/slot_coverage", pa.Table.from_pylist(coverage).to_reader, [day])
    metric = {
        "trade_date": day,
        "metric": "slot_coverage",
        "value": 1.0 if day == PASSED else 0.85,
        "threshold": 0.9,
        "passed": day == PASSED,
        "pending": False,
    }
    lake.replace_dates("quality/daily_metrics", pa.Table.from_pylist([metric]).to_reader, [day])


def _publish(lake: Lake, day: date, hours: int, status: str, detail: str | None = None) -> None:
    row = {
        "trade_date": day,
        "published_at": slots_of(day)[-1].sample_time + timedelta(hours=hours),
        "status": status,
        "versions": [("clean/daily_clean", 1)],
        "code_version": "0.1.0",
        "actions_hash": "0" * 64,
        "run_id": f"019a-{hours}",
        "detail": detail,
    }
    lake.append("ops/published", [row], f"publish/{day}", hours)
