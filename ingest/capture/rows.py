"""From outcomes to rows of the raw tables. Pure: columns and meanings are those of lake/tables.py."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ingest.broker.codes import DELAYED_TYPES
from ingest.calendar.sessions import Slot
from ingest.capture.outcomes import Outcome
from ingest.contracts import OptionContract, Underlying
from lake.vocabulary import CaptureFlag, FailureKind, RunType
from lake.vocabulary import View as View

RETRIED: frozenset[FailureKind] = frozenset({"timeout", "pacing", "ib_error"})


@dataclass(frozen=True, slots=True)
class Attempt:
    """What all rows of one attempt of a step share."""

    slot: Slot
    view: View
    batch: str
    number: int
    ingest_id: str
    run_type: RunType
    source: str
    grace: timedelta
    retries: int
    # Contracts of an earlier session's set, used again because discovery failed.
    stale: frozenset[int] = frozenset()


def contract_columns(contract: OptionContract) -> dict[str, Any]:
    """The columns that name an option contract."""
    return {
        "underlying": contract.underlying,
        "conid": contract.conid,
        "symbol": contract.symbol,
        "trading_class": contract.trading_class,
        "expiry": contract.expiry,
        "last_trade_date": contract.last_trade_date,
        "right": contract.right,
        "strike": contract.strike,
        "multiplier": contract.multiplier,
        "exchange": contract.exchange,
    }


def option_row(outcome: Outcome, contract: OptionContract, attempt: Attempt) -> dict[str, Any]:
    """A row of ``raw/option_quotes``."""
    quote, failure = outcome.quote, outcome.failure
    row: dict[str, Any] = {
        **_slot_columns(attempt),
        **contract_columns(contract),
        "bid_seen": quote.bid_seen if quote else False,
        "requested_at": outcome.requested_at,
        "asof_ts": outcome.asof,
        "ingest_run_type": attempt.run_type,
        "batch": attempt.batch,
        "attempt": attempt.number,
        "data_quality_flag": _flags(outcome, attempt),
        "snapshot_error": failure is not None,
    }
    if quote:
        row |= {
            "bid": quote.bid,
            "ask": quote.ask,
            "last": quote.last,
            "bid_size": quote.bid_size,
            "ask_size": quote.ask_size,
            "last_size": quote.last_size,
            "volume": quote.volume,
            "iv": quote.iv,
            "delta": quote.delta,
            "gamma": quote.gamma,
            "theta": quote.theta,
            "vega": quote.vega,
            "model_price": quote.model_price,
            "pv_dividend": quote.pv_dividend,
            "underlying_price": quote.underlying_price,
            "open_interest": quote.open_interest,
            "market_data_type": quote.market_data_type,
        }
    if failure:
        row |= {"error_code": failure.code, "error_type": failure.kind, "error_message": failure.message}
    return row


def underlying_row(outcome: Outcome, underlying: Underlying, attempt: Attempt) -> dict[str, Any]:
    """A row of ``raw/underlying_quotes``."""
    quote, failure = outcome.quote, outcome.failure
    row: dict[str, Any] = {
        **_slot_columns(attempt),
        "underlying": underlying.symbol,
        "conid": outcome.request.conid,
        "asof_ts": outcome.asof,
        "snapshot_error": failure is not None,
    }
    if quote:
        row |= {
            "bid": quote.bid,
            "ask": quote.ask,
            "last": quote.last,
            "close": quote.close,
            "hist_volatility": quote.hist_volatility,
            "implied_volatility": quote.implied_volatility,
            "market_data_type": quote.market_data_type,
        }
    if failure:
        row |= {"error_code": failure.code, "error_message": failure.message}
    return row


def _slot_columns(attempt: Attempt) -> dict[str, Any]:
    return {
        "trade_date": attempt.slot.trade_date,
        "view": attempt.view,
        "slot_30m": attempt.slot.slot_30m,
        "sample_time": attempt.slot.sample_time,
        "ingest_id": attempt.ingest_id,
        "source": attempt.source,
    }


def _flags(outcome: Outcome, attempt: Attempt) -> list[CaptureFlag]:
    """What only capture can tell; `clean` adds the flags that follow from the values."""
    flags: list[CaptureFlag] = []
    if outcome.quote and outcome.quote.market_data_type in DELAYED_TYPES:
        flags.append("delayed_fallback")
    if outcome.failure:
        flags.append("snapshot_error")
        if outcome.failure.kind in RETRIED and outcome.tries > attempt.retries:
            flags.append("slot_retry_exceeded")
    if attempt.view == "intraday" and outcome.requested_at > attempt.slot.sample_time + attempt.grace:
        flags.append("late_sample")
    if outcome.request.conid in attempt.stale:
        flags.append("discovery_stale")
    return flags
