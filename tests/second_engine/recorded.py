"""Recorded market days as raw rows: what a capture at each slot would have seen standing."""

from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from ingest.calendar.sessions import Session, new_york, previous_session, session_on
from tests.models.rows import CREATED, QUOTED, Row
from tests.second_engine.markets import session_rows
from tests.second_engine.staging import CLOSE_DEADLINE

FILES = (
    "TWX_2014-06-05.parquet",
    "TWX_2014-06-06.parquet",
    "AAPL_2014-06-06.parquet",
    "AAPL_2014-06-09.parquet",
    "GOOG_2015-12-24.parquet",
)
TERMS = ["underlying", "expiry", "right", "strike", "multiplier"]
SEEN = ["bid", "ask", "bid_size", "ask_size", "last", "volume", "open_interest", "underlying_price"]


def recorded_tables(folder: Path) -> dict[str, list[Row]]:
    """Raw rows by table, of all recorded days in `folder`.

    A contract without a quote before a slot gets an error row there. Contracts of an even conid are in the close view
    as well; AAPL alone has quotes of the underlying, as the files carry its price and no more.
    """
    days = {name: pl.read_parquet(folder / name) for name in FILES}
    listed = contracts(days.values())
    made: dict[str, list[Row]] = {
        f"raw/{name}": [] for name in ("sessions", "contracts", "option_quotes", "underlying_quotes", "open_interest")
    }
    opened: set[date] = set()
    for name, quotes in days.items():
        session = session_on(date.fromisoformat(name[-18:-8]))
        assert session is not None
        if session.trade_date not in opened:
            made["raw/sessions"] += list(session_rows(session))
            opened.add(session.trade_date)
        frozen = listed.join(quotes.select(TERMS).unique(), on=TERMS, how="semi")
        made["raw/contracts"] += [
            {**row, "trade_date": session.trade_date, "frozen_at": session.open, "first_seen_slot": 0, **ORIGIN}
            for row in frozen.iter_rows(named=True)
        ]
        made["raw/option_quotes"] += _captured(frozen, quotes, session)
        if name.startswith("AAPL"):
            made["raw/underlying_quotes"] += _underlyings(quotes, session)
        made["raw/open_interest"] += _stamps(frozen, quotes, session)
    return made


ORIGIN = {"ingest_id": "0190", "source": "replay"}


def contracts(days: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """One row per contract of `days`, numbered; a Saturday expiry trades last on the Friday."""
    symbol = (
        pl.col("underlying").str.pad_end(6, " ")
        + pl.col("expiry").dt.to_string("%y%m%d")
        + pl.col("right")
        + (pl.col("strike") * 1000).round().cast(pl.Int64).cast(pl.String).str.zfill(8)
    )
    saturday = pl.col("expiry").dt.weekday() == 6
    return (
        pl.concat([day.select(TERMS) for day in days])
        .unique()
        .sort(TERMS)
        .with_row_index("conid", offset=1000)
        .with_columns(
            pl.col("conid").cast(pl.Int64),
            symbol.alias("symbol"),
            pl.col("underlying").alias("trading_class"),
            pl.lit("SMART").alias("exchange"),
            (pl.col("expiry") - pl.when(saturday).then(pl.duration(days=1)).otherwise(pl.duration())).alias(
                "last_trade_date"
            ),
        )
    )


def _captured(frozen: pl.DataFrame, quotes: pl.DataFrame, session: Session) -> list[Row]:
    asked = [("intraday", slot, slot.sample_time) for slot in session.slots]
    asked.append(("close", session.close_slot, new_york(session.trade_date, CLOSE_DEADLINE.replace(hour=17, minute=0))))
    rows = []
    for view, slot, instant in asked:
        of_view = frozen.filter(pl.col("conid") % 2 == 0) if view == "close" else frozen
        # The opening slot is asked when there is a market: a minute later.
        until = slot.sample_time + timedelta(minutes=slot.slot_30m == 0)
        standing = quotes.filter(pl.col("ts") <= until).sort("ts").unique(TERMS, keep="last", maintain_order=True)
        seen = of_view.join(standing.select(*TERMS, *SEEN, "ts"), on=TERMS, how="left").sort("conid")
        for row in seen.iter_rows(named=True):
            failed = row.pop("ts") is None
            at = max(instant, until) + timedelta(seconds=row["conid"] % 60)
            rows.append(
                {
                    **row,
                    **(dict.fromkeys(QUOTED) if failed else {}),
                    # A null side says that there is no market: a tick of -1.
                    "bid_seen": not failed,
                    "trade_date": session.trade_date,
                    "view": view,
                    "slot_30m": slot.slot_30m,
                    "sample_time": slot.sample_time,
                    "market_data_type": None if failed else 2 if view == "close" else 1,
                    "requested_at": instant,
                    "asof_ts": None if failed else at,
                    "ingest_run_type": "demo",
                    "batch": "all",
                    "attempt": 1,
                    "data_quality_flag": [],
                    "snapshot_error": failed,
                    "error_type": "timeout" if failed else None,
                    **ORIGIN,
                }
            )
    return rows


def _underlyings(quotes: pl.DataFrame, session: Session) -> list[Row]:
    standing = quotes.filter(pl.col("ts") <= session.close).sort("ts").row(-1, named=True)
    return [
        {
            "trade_date": session.trade_date,
            "view": "intraday",
            "slot_30m": session.close_slot.slot_30m,
            "sample_time": session.close,
            "underlying": standing["underlying"],
            "conid": 1,
            "last": standing["underlying_price"],
            "market_data_type": 1,
            "asof_ts": session.close,
            "snapshot_error": False,
            **ORIGIN,
        }
    ]


def _stamps(frozen: pl.DataFrame, quotes: pl.DataFrame, session: Session) -> list[Row]:
    """A morning's stamp describes the session before."""
    before = previous_session(session.trade_date).trade_date
    stamped = quotes.filter(pl.col("open_interest").is_not_null()).unique(TERMS)
    return [
        {
            "trade_date": before,
            "oi_asof_date": before,
            "conid": row["conid"],
            "underlying": row["underlying"],
            "open_interest": row["open_interest"],
            "observed_at": max(session.open, CREATED),
            "method": "enrichment",
            "snapshot_error": False,
            **ORIGIN,
        }
        for row in frozen.join(stamped.select(*TERMS, "open_interest"), on=TERMS).iter_rows(named=True)
    ]
