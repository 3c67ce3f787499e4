"""Made-up histories in a real lake: what the pipeline would have stored of many sessions, each with its own trouble."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from ingest.calendar.sessions import Session, session_on, sessions_between
from lake.origin import Origin
from lake.store import Lake

METRICS: dict[str, tuple[float, str, float, str]] = {
    "slot_coverage": (0.97, ">=", 0.90, "error"),
    "missing_slots": (0, "<=", 0, "error"),
    "fallback": (0.02, "<=", 0.05, "error"),
    "delayed": (0.0, "<", 0.10, "error"),
    "oi_filled": (0.99, ">=", 0.95, "error"),
    "slot_retry_exceeded": (0, "<=", 0, "error"),
    "duplicates": (0, "<=", 0, "error"),
    "stale_quote": (0.01, "<=", 0.02, "warn"),
    "pacing_errors": (0, "<=", 0, "warn"),
}


@dataclass
class Stored:
    """What is stored of one session; tests change it before it is written. None of `metrics`: no metrics at all."""

    recorded: bool = True
    published: str | None = "passed"
    metrics: dict[str, dict[str, Any]] | None = field(
        default_factory=lambda: {
            name: {
                "value": float(value),
                "comparison": comparison,
                "threshold": threshold,
                "severity": severity,
                "passed": True,
                "pending": False,
            }
            for name, (value, comparison, threshold, severity) in METRICS.items()
        }
    )
    runs: list[dict[str, Any]] = field(default_factory=list)
    incidents: list[str] = field(default_factory=list)

    def breach(self, metric: str, value: float | None) -> None:
        """Let a metric have a value that does not pass."""
        assert self.metrics is not None
        self.metrics[metric] |= {"value": value, "passed": False}

    def run(self, step: str, slot: int | None = None, **changes: Any) -> None:
        """Add a run of a step."""
        self.runs.append({"step": step, "slot_30m": slot} | changes)


Change = Callable[[Stored], None]


def sessions_of(first: date, last: date) -> list[date]:
    """The dates of sessions in a period."""
    return [session.trade_date for session in sessions_between(first, last)]


def write(root: Path, days: Mapping[date, Stored], origin: Origin = "simulated") -> Lake:
    """Make a lake at `root` with these sessions."""
    stored = {day: deepcopy(of_day) for day, of_day in days.items()}
    first = session_on(min(stored))
    assert first is not None
    lake = Lake.create(root, origin, first.open)
    recorded = {day: of_day for day, of_day in stored.items() if of_day.recorded}
    lake.append("raw/sessions", [row for day in recorded for row in _slots(day)], "sessions", 1)
    lake.append("ops/runs", [row for day, of_day in stored.items() for row in _runs(day, of_day)], "runs", 1)
    lake.append("ops/incidents", [row for day, of_day in stored.items() for row in _incidents(day, of_day)], "inc", 1)
    published = [_published(day, of_day.published) for day, of_day in stored.items() if of_day.published]
    lake.append("ops/published", published, "published", 1)
    metrics = [
        {"trade_date": day, "metric": name, **metric, "detail": None}
        for day, of_day in stored.items()
        for name, metric in (of_day.metrics or {}).items()
    ]
    schema = pa.schema(
        [
            ("trade_date", pa.date32()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("comparison", pa.string()),
            ("threshold", pa.float64()),
            ("passed", pa.bool_()),
            ("pending", pa.bool_()),
            ("severity", pa.string()),
            ("detail", pa.string()),
        ]
    )
    lake.replace_dates("quality/daily_metrics", pa.Table.from_pylist(metrics, schema=schema).to_reader, sorted(stored))
    return lake


def _session(day: date) -> Session:
    session = session_on(day)
    assert session is not None
    return session


def _slots(day: date) -> list[dict[str, Any]]:
    return [
        {
            "trade_date": day,
            "slot_30m": slot.slot_30m,
            "sample_time": slot.sample_time,
            "is_close": slot.is_close,
            "is_pre_close": slot.is_pre_close,
            "window_end": slot.window_end,
        }
        for slot in _session(day).slots
    ]


def _runs(day: date, of_day: Stored) -> list[dict[str, Any]]:
    open_ = _session(day).open
    usual: Sequence[dict[str, Any]] = (
        [{"step": "discover"}, {"step": "snapshot", "slot_30m": 0}, {"step": "snapshot", "slot_30m": 1}]
        if of_day.recorded
        else []
    )
    return [
        {
            "trade_date": day,
            "view": None if run.get("slot_30m") is None else "intraday",
            "batch": "all",
            "ingest_id": f"run-{day}-{number}",
            "status": "ok",
            "asked": 100,
            "captured": 100,
            "failed": 0,
            "pacing_errors": 0,
            "trigger": "schedule",
            "host": "here",
            "started_at": open_ + timedelta(minutes=number),
            "ended_at": open_ + timedelta(minutes=number, seconds=30),
        }
        | run
        for number, run in enumerate([*usual, *of_day.runs])
    ]


def _incidents(day: date, of_day: Stored) -> list[dict[str, Any]]:
    return [
        {
            "trade_date": day,
            "incident_id": f"{day}-{number}",
            "state": state,
            "cause": cause,
            "severity": "severe",
            "detail": "made up",
            "changed_at": _session(day).close + timedelta(minutes=number + 10 * (state == "closed")),
        }
        for number, cause in enumerate(of_day.incidents)
        for state in ("opened", "closed")
    ]


def _published(day: date, status: str) -> dict[str, Any]:
    return {
        "trade_date": day,
        "published_at": _session(day).close + timedelta(hours=2),
        "status": status,
        "versions": [],
        "code_version": "0",
        "actions_hash": "0" * 64,
        "run_id": "run",
    }
