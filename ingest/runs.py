"""One run of a step: its identity, its counts, and the records it leaves (ops/runs, ops/errors, metrics)."""

import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import structlog
import uuid_utils

from ingest.broker import BrokerPool, BrokerSession
from ingest.calendar.clock import Clock
from lake.reads import reader
from lake.rows import bounded_text
from lake.store import Lake
from lake.vocabulary import ErrorType, RunStatus, RunType, Step, View
from lake.vocabulary import Trigger as Trigger

log = structlog.get_logger(__name__)

RUN_TYPES: dict[Trigger, RunType] = {"schedule": "scheduled", "repair": "repair", "manual": "manual", "demo": "demo"}


# The kind of error that tells of damaged files; the watchdog opens an incident for it.
LAKE_DAMAGED: ErrorType = "lake_damaged"


def new_ingest_id() -> str:
    """A time-ordered UUIDv7."""
    return str(uuid_utils.uuid7())


@dataclass(slots=True)
class Run:
    """One run of a step (slot, batch, attempt), from start to the records it leaves.

    `attempt` is 0 until one is claimed: `claim` it before anything is asked. A run that asks nothing claims it at last.
    """

    step: Step
    trade_date: date
    trigger: Trigger
    started_at: datetime
    view: View | None = None
    slot_30m: int | None = None
    batch: str | None = None
    attempt: int = 0
    gateway: str | None = None
    ingest_id: str = field(default_factory=new_ingest_id)
    status: RunStatus = "ok"
    asked: int = 0
    captured: int = 0
    failed: int = 0
    message: str | None = None
    measures: dict[str, Any] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)
    _wall_start: float = field(default_factory=time.monotonic)
    _messages_before: int = 0
    _pacing_before: int = 0
    _appended: dict[str, int] = field(default_factory=dict)

    @property
    def app_id(self) -> str:
        """The Delta application id under which attempts are claimed: step/trade_date/slot/batch."""
        return f"{self.step}/{self.trade_date}/{'-' if self.slot_30m is None else self.slot_30m}/{self.batch or '-'}"

    @property
    def rows_id(self) -> str:
        """The Delta application id of the rows, which no other run has: the same and the ingest_id."""
        return f"{self.app_id}/{self.ingest_id}"

    def claim(self, lake: Lake) -> None:
        """Take the next attempt of the step for this run alone."""
        self.attempt = lake.claim(self.app_id)

    def append(self, lake: Lake, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows of this run exactly once; what it adds to the same table later is an attempt of its own."""
        if not rows:
            return
        if not self.attempt or table in self._appended:
            self.claim(lake)
        expected = self._appended.get(table, 0) + len(rows)
        # Skipped: an earlier try of this commit came through after all. If not, the rows must not be lost.
        while not lake.append(table, rows, self.rows_id, self.attempt) and self.stored(lake, table) < expected:
            log.error("append_skipped_new_rows", table=table, app_id=self.rows_id, attempt=self.attempt)
            self.claim(lake)
        self._appended[table] = expected

    def stored(self, lake: Lake, table: str) -> int:
        """How many rows of this run a raw table holds."""
        ours = f"trade_date = date '{self.trade_date}' and ingest_id = $ingest_id"
        with reader(lake) as reads:
            (found,) = reads.rows(table, ours, "count(*) as count", ingest_id=self.ingest_id)
        return int(found["count"])

    def watch(self, session: BrokerSession | BrokerPool) -> None:
        """Count the messages of `session`, or of all of a pool, from now on."""
        self.measures["connections"] = len(BrokerPool.of(session).standing)
        self.gateway = session.address
        self._messages_before, self._pacing_before = session.messages, session.pacing_errors

    def count_messages(self, session: BrokerSession | BrokerPool) -> None:
        """Take the messages and pacing errors of `session` since `watch`."""
        self.measures["messages"] = session.messages - self._messages_before
        self.measures["pacing_errors"] = session.pacing_errors - self._pacing_before

    def count(self, asked: int, *, failed: int) -> None:
        """Add contracts that were asked, `failed` of them in vain; the status follows from all so far."""
        self.asked += asked
        self.failed += failed
        self.captured = self.asked - self.failed
        if self.failed:
            self.status = "partial" if self.captured else "failed"

    def error(
        self, kind: ErrorType, message: str, observed_at: datetime, code: int | None = None, conid: int | None = None
    ) -> None:
        """Remember one error for ``ops/errors``."""
        self.errors.append(
            {
                "trade_date": self.trade_date,
                "step": self.step,
                "ingest_id": self.ingest_id,
                "conid": conid,
                "code": code,
                "error_type": kind,
                "message": bounded_text(message),
                "observed_at": observed_at,
            }
        )

    def tell_damage(self, damage: Sequence[str], observed_at: datetime) -> None:
        """Remember the files of the lake that could not be read, and that the run does without."""
        for what in dict.fromkeys(damage):
            self.error(LAKE_DAMAGED, what, observed_at)

    def record(self, lake: Lake, clock: Clock, state: Path) -> None:
        """Write ``ops/errors``, ``ops/runs`` and a line under ``state/run_logs/metrics``: the last act of a run."""
        if not self.attempt:
            self.claim(lake)
        row = {
            "trade_date": self.trade_date,
            "step": self.step,
            "view": self.view,
            "slot_30m": self.slot_30m,
            "batch": self.batch,
            "attempt": self.attempt,
            "ingest_id": self.ingest_id,
            "status": self.status,
            "asked": self.asked,
            "captured": self.captured,
            "failed": self.failed,
            "started_at": self.started_at,
            "ended_at": clock.now(),
            "elapsed_s": round(time.monotonic() - self._wall_start, 3),
            "trigger": self.trigger,
            "host": socket.gethostname(),
            "gateway": self.gateway,
            "message": self.message and bounded_text(self.message),
            **self.measures,
        }
        # The id of the run, not the step's attempt: a run that captured nothing still leaves its record.
        lake.append("ops/errors", self.errors, self.ingest_id, 1)
        lake.append("ops/runs", [row], self.ingest_id, 1)
        metrics = state / "run_logs" / "metrics"
        metrics.mkdir(parents=True, exist_ok=True)
        with (metrics / f"{self.trade_date}.jsonl").open("a") as lines:
            lines.write(json.dumps(row, default=str) + "\n")
