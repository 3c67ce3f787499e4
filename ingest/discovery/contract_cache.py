"""What is known of listings: contracts of earlier days, and combinations that do not exist.

It lives in the lake, beside the contracts themselves (docs/adr/0011): it survives crashes, belongs to one origin, and
serves whoever discovers next, from whatever host.
"""

import time
from collections.abc import Mapping
from datetime import date, datetime

import structlog

from ingest.calendar.sessions import sessions_back
from ingest.contracts import OptionContract, OptionSpec, Right
from lake.reads import Reader
from lake.store import Lake

log = structlog.get_logger(__name__)

TABLE = "ops/contract_lookups"
# A contract that was frozen so many days ago is still taken for listed.
CONTRACT_DAYS = 15
# What a crash can lose: the questions of so many seconds, or so many answers.
KEPT_FOR_S = 30.0
KEPT_ANSWERS = 20_000

Combination = tuple[str, date, Right, float, float]


def combination(spec: OptionSpec) -> Combination:
    """What identifies a listing of an underlying: class, last trade date, right, strike and multiplier."""
    return spec.trading_class, spec.last_trade_date, spec.right, spec.strike, float(spec.multiplier)


class ContractCache:
    """Known listings of a trade date, and the answers that are added to them.

    What was answered "does not exist" is believed on `unlisted_sessions` sessions, the one of the answer included. Make
    it anew for every discovery; `flush` at its end.
    """

    def __init__(self, lake: Lake, reads: Reader, trade_date: date, ingest_id: str, unlisted_sessions: int) -> None:
        self._lake, self._reads, self._trade_date, self._ingest_id = lake, reads, trade_date, ingest_id
        self._answers: list[dict[str, object]] = []
        self._flushed_at = time.monotonic()
        self._flushes = 0
        reads.remember_contracts(trade_date, CONTRACT_DAYS, sessions_back(trade_date, unlisted_sessions - 1))

    def known(self, underlying: str) -> Mapping[Combination, OptionContract | None]:
        """The combinations of an underlying that need no question; None for one that is not listed."""
        return {
            (row["trading_class"], row["last_trade_date"], row["right"], row["strike"], row["multiplier"]): None
            if row["conid"] is None
            else OptionContract(**row)
            for row in self._reads.known_contracts(underlying)
        }

    def learn(self, spec: OptionSpec, contract: OptionContract | None, asked_at: datetime) -> None:
        """Remember the answer to a question."""
        self._answers.append(
            {
                "trade_date": self._trade_date,
                "asked_at": asked_at,
                "underlying": spec.underlying,
                "trading_class": spec.trading_class,
                "last_trade_date": spec.last_trade_date,
                "right": spec.right,
                "strike": spec.strike,
                "multiplier": float(spec.multiplier),
                "exchange": spec.exchange,
                "conid": contract.conid if contract else None,
                "symbol": contract.symbol if contract else None,
                "expiry": contract.expiry if contract else None,
                "ingest_id": self._ingest_id,
            }
        )
        if len(self._answers) >= KEPT_ANSWERS or time.monotonic() - self._flushed_at >= KEPT_FOR_S:
            self.flush()

    def flush(self) -> None:
        """Write the answers that are not written yet."""
        if self._answers:
            self._flushes += 1
            self._lake.append(TABLE, self._answers, f"{TABLE}/{self._ingest_id}", self._flushes)
            self._answers = []
        self._flushed_at = time.monotonic()
