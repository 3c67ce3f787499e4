"""Raw rows as capture would write them, for lakes small enough to reason about by hand."""

import csv
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from ingest.calendar.sessions import UTC, Slot, new_york, session_on
from lake.store import Lake

Row = dict[str, Any]
# What a failed attempt leaves null.
QUOTED = (
    *("bid", "ask", "last", "bid_size", "ask_size", "last_size", "volume", "open_interest"),
    *("iv", "delta", "gamma", "theta", "vega", "model_price", "pv_dividend", "underlying_price"),
)
EXPIRY = date(2014, 7, 17)
CREATED = datetime(2014, 6, 1, tzinfo=UTC)
# Long after everything: all numbers are due, all actions known.
LATER = datetime(2030, 1, 1, tzinfo=UTC)


class Day:
    """One trade date of a small lake: writes the rows of its steps, each with a new ingest id."""

    def __init__(self, lake: Lake, trade_date: date) -> None:
        session = session_on(trade_date)
        assert session is not None, f"{trade_date} is no session"
        self.lake, self.trade_date, self.session = lake, trade_date, session
        self._ingests = 0

    @property
    def close_slot(self) -> int:
        return self.session.close_slot.slot_30m

    def ingest_id(self) -> str:
        self._ingests += 1
        return f"0190-{self.trade_date:%Y%m%d}-{self._ingests:04d}"

    def slot(self, number: int) -> Slot:
        return self.session.slots[number]

    def write(self, table: str, rows: Iterable[Row]) -> None:
        made = list(rows)
        app_id = f"test/{self.trade_date}/{self.ingest_id()}/{self.lake.version(table)}"
        assert self.lake.append(table, made, app_id, 1)

    def open(self, *contracts: Row) -> None:
        """Write the session's slots and the frozen set."""
        self.write(
            "raw/sessions",
            (
                {
                    "trade_date": self.trade_date,
                    "slot_30m": slot.slot_30m,
                    "sample_time": slot.sample_time,
                    "is_close": slot.is_close,
                    "is_pre_close": slot.is_pre_close,
                    "window_end": slot.window_end,
                }
                for slot in self.session.slots
            ),
        )
        ingest_id = self.ingest_id()
        self.write(
            "raw/contracts",
            (
                {
                    "frozen_at": self.session.open,
                    "first_seen_slot": 0,
                    "ingest_id": ingest_id,
                    "source": "simulated",
                    "trade_date": self.trade_date,
                    **row,
                }
                for row in contracts
            ),
        )

    def quote(self, contract: Row, slot: int, *, view: str = "intraday", **values: Any) -> Row:
        """A good quote of `contract` (1.00 at 1.10, live, full greeks) unless `values` say otherwise."""
        at = self.slot(slot)
        arrived = new_york(self.trade_date, time(17, 1)) if view == "close" else at.sample_time + timedelta(seconds=20)
        sign = 1 if contract["right"] == "C" else -1
        row = {
            "trade_date": self.trade_date,
            "view": view,
            "slot_30m": slot,
            "sample_time": at.sample_time,
            **contract,
            "bid": 1.0,
            "ask": 1.1,
            "last": 1.05,
            "bid_seen": True,
            "bid_size": 10,
            "ask_size": 20,
            "last_size": 1,
            "volume": 100,
            "iv": 0.25,
            "delta": 0.5 * sign,
            "gamma": 0.02,
            "theta": -0.1,
            "vega": 0.3,
            "model_price": 1.06,
            "pv_dividend": 0.5,
            "underlying_price": 100.0,
            "open_interest": 7,
            "market_data_type": 2 if view == "close" else 1,
            "requested_at": arrived - timedelta(seconds=1),
            "asof_ts": arrived,
            "ingest_id": f"0190-{self.trade_date:%Y%m%d}-{self._ingests:04d}",
            "ingest_run_type": "scheduled",
            "batch": "1",
            "attempt": 1,
            "data_quality_flag": [],
            "snapshot_error": False,
            "source": "simulated",
        }
        return {**row, **values}

    def close_quote(self, contract: Row, **values: Any) -> Row:
        """A good quote of the 17:00 close snapshot."""
        return self.quote(contract, self.close_slot, view="close", **values)

    def failure(self, contract: Row, slot: int, *, view: str = "intraday", **values: Any) -> Row:
        """An error row: no quote, no greeks, no arrival."""
        empty = dict.fromkeys(
            (*QUOTED, "asof_ts", "market_data_type"),
        )
        return self.quote(
            contract,
            slot,
            view=view,
            **{
                **empty,
                "bid_seen": False,
                "snapshot_error": True,
                "error_code": 200,
                "error_type": "ib_error",
                "error_message": "No security definition has been found",
                **values,
            },
        )

    def underlying(self, symbol: str, slot: int, *, view: str = "intraday", **values: Any) -> Row:
        """A quote of the underlying: 99.90 at 100.10, last 100."""
        at = self.slot(slot)
        return {
            "trade_date": self.trade_date,
            "view": view,
            "slot_30m": slot,
            "sample_time": at.sample_time,
            "underlying": symbol,
            "conid": 1,
            "bid": 99.9,
            "ask": 100.1,
            "last": 100.0,
            "close": 98.0,
            "market_data_type": 1,
            "asof_ts": at.sample_time + timedelta(seconds=5),
            "ingest_id": f"0190-{self.trade_date:%Y%m%d}-{self._ingests:04d}",
            "snapshot_error": False,
            "source": "simulated",
            **values,
        }

    def open_interest(self, contract: Row, value: int | None, **values: Any) -> Row:
        """An observation on the next morning that describes this session."""
        return {
            "trade_date": self.trade_date,
            "oi_asof_date": self.trade_date,
            "conid": contract["conid"],
            "underlying": contract["underlying"],
            "open_interest": value,
            "observed_at": self.session.close + timedelta(hours=12),
            "ingest_id": f"0190-{self.trade_date:%Y%m%d}-{self._ingests:04d}",
            "method": "enrichment",
            "snapshot_error": False,
            "source": "simulated",
            **values,
        }


def contract(conid: int, strike: float = 100.0, right: str = "C", underlying: str = "AAPL", **values: Any) -> Row:
    """A standard contract; its OCC symbol follows from the rest."""
    row = {
        "underlying": underlying,
        "conid": conid,
        "trading_class": underlying,
        "expiry": EXPIRY,
        "last_trade_date": EXPIRY - timedelta(days=1),
        "right": right,
        "strike": strike,
        "multiplier": 100.0,
        "exchange": "SMART",
    }
    row |= values
    row["symbol"] = f"{row['trading_class']:<6}{row['expiry']:%y%m%d}{right}{round(strike * 1000):08d}"
    return row


ACTION_COLUMNS = (
    *("symbol", "event_type", "effective_date", "ratio_new", "ratio_old", "cash_amount", "new_symbol"),
    *("known_at", "source"),
)


def write_seeds(folder: Path, universe: Iterable[str] = ("AAPL",), actions: Iterable[Row] = ()) -> Path:
    """The two files that people edit, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "universe.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["symbol", "conid", "sec_type", "exchange", "weight", "group", "views"])
        writer.writerows([symbol, 1, "STK", "SMART", 0.1, 1, "both"] for symbol in universe)
    with (folder / "corporate_actions.csv").open("w", newline="") as file:
        actions_writer = csv.DictWriter(file, ACTION_COLUMNS, restval="")
        actions_writer.writeheader()
        actions_writer.writerows({"known_at": "2000-01-01T00:00:00Z", "source": "test", **row} for row in actions)
    return folder
