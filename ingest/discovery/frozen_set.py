"""The frozen set of a session: what is in it, what is added to it, and the last one when there is no new one."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import structlog

from ingest.calendar.sessions import Session, sessions_back
from ingest.capture.rows import contract_columns
from ingest.contracts import OptionContract
from ingest.runs import Run
from lake.reads import Reader
from lake.store import Lake

log = structlog.get_logger(__name__)

TABLE = "raw/contracts"
# Found contracts are written together: one commit for each of 500 underlyings would be 500 files a day. A crash loses
# what was found in so many seconds, and finds it again in the contract cache.
KEPT_FOR_S = 30.0
KEPT_CONTRACTS = 20_000


@dataclass(frozen=True, slots=True)
class Found:
    """The contracts of an underlying that a discovery found inside the filters."""

    underlying: str
    contracts: Sequence[OptionContract]
    reference_price: float


class FrozenSet:
    """The frozen set of one session in the lake, for the run that adds to it. `flush` at the end.

    Nothing is taken out of it and no contract is added twice: whatever is frozen stays. Counts in the run's `captured`
    the contracts that it has frozen itself.
    """

    def __init__(self, lake: Lake, reads: Reader, trading_session: Session, run: Run) -> None:
        self._lake, self._reads, self._session, self._run = lake, reads, trading_session, run
        self._waiting: list[dict[str, Any]] = []
        self._flushed_at = time.monotonic()
        self._conids: dict[str, set[int]] = {}
        self.stale: set[str] = set()
        self._read()

    @property
    def underlyings(self) -> set[str]:
        """Underlyings that have a frozen set."""
        return set(self._conids)

    def add(self, found: Found, now: datetime) -> None:
        """Freeze what is found."""
        self._take(
            found.underlying,
            (
                {**contract_columns(c), "reference_price": found.reference_price, "discovered_on": self._trade_date}
                for c in found.contracts
            ),
            now,
        )

    def reuse(self, symbols: Iterable[str], sessions: int, now: datetime) -> dict[str, int]:
        """Freeze the last set of underlyings once more, without what trades no more; contracts by underlying.

        It must have been discovered in the last `sessions` sessions. What is frozen already stays as it is.
        """
        wanted = set(symbols) - self.underlyings
        if not wanted or not sessions:
            return {}
        first = sessions_back(self._trade_date, sessions)
        by_underlying: dict[str, list[dict[str, Any]]] = {}
        for row in self._reads.last_frozen(self._trade_date, first):
            row["discovered_on"] = row.get("discovered_on") or row["trade_date"]
            trades = row["last_trade_date"] >= self._trade_date
            if row["underlying"] in wanted and row["discovered_on"] >= first and trades:
                by_underlying.setdefault(row["underlying"], []).append(row)
        self.stale |= by_underlying.keys()
        return {symbol: self._take(symbol, rows, now) for symbol, rows in by_underlying.items()}

    def flush(self) -> None:
        """Write what is not written yet, exactly once, whoever else freezes at the same time."""
        while self._waiting:
            # All runs of a date share one id. Its version is read before the set: who freezes in between is noticed.
            app_id = f"contracts/{self._trade_date}/-/-"
            addition = 1 + self._lake.last_attempt(TABLE, app_id)
            self._read()
            frozen = set().union(*self._conids.values())
            rows = [row for row in self._waiting if row["conid"] not in frozen]
            # False: another run was faster. What it has frozen is left out the next time.
            if self._lake.append(TABLE, rows, app_id, addition):
                self._run.captured -= len(self._waiting) - len(rows)
                self._waiting = []
        self._read()
        self._flushed_at = time.monotonic()

    @property
    def _trade_date(self) -> date:
        return self._session.trade_date

    def _take(self, underlying: str, rows: Iterable[dict[str, Any]], now: datetime) -> int:
        first_seen = self._first_slot(now, joins=underlying in self._conids)
        conids = self._conids.setdefault(underlying, set())
        added = {row["conid"]: row for row in rows if row["conid"] not in conids}
        conids.update(added)
        self._run.captured += len(added)
        self._waiting += [
            {
                **row,
                "trade_date": self._trade_date,
                "frozen_at": now,
                "first_seen_slot": first_seen,
                "ingest_id": self._run.ingest_id,
                "source": self._lake.origin,
            }
            for row in added.values()
        ]
        if len(self._waiting) >= KEPT_CONTRACTS or time.monotonic() - self._flushed_at >= KEPT_FOR_S:
            self.flush()
        return len(added)

    def _first_slot(self, now: datetime, *, joins: bool) -> int:
        """Before the open all is asked from the first slot on, later from the current one.

        What joins a set comes with the next slot: the current one has asked for what was frozen when it began.
        """
        slot = self._session.slot_at(now)
        if slot is None:
            return 0
        return min(slot.slot_30m + joins, self._session.close_slot.slot_30m)

    def _read(self) -> None:
        self._conids, self.stale = {}, set()
        for underlying, conid, stale in self._reads.frozen_conids(self._trade_date):
            self._conids.setdefault(underlying, set()).add(conid)
            if stale:
                self.stale.add(underlying)
