"""What can be wrong: every cause of an incident, how bad it is, and what to do next. docs/alerts.md explains them."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from chainlake.ops.monitoring.thresholds import thresholds
from lake.vocabulary import Severity as Severity

RUNBOOK = "docs/runbook/en/alerts.md"
# Prefixes of causes that name a flow after a colon.
FLOW_FAILED, FLOW_LATE = "flow_failed", "flow_late"


@dataclass(frozen=True, slots=True)
class Cause:
    """One kind of breach. `next_step` may name ``{day}``, the trade date."""

    key: str
    severity: Severity
    meaning: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Breach:
    """Something wrong about a trade date. `cause` is a stable key; `detail` gives value, limit and next step."""

    cause: str
    trade_date: date
    severity: Severity
    detail: str

    @property
    def key(self) -> "Key":
        """What an incident is about."""
        return self.cause, self.trade_date


# A cause and a trade date: what one incident, one alert and one all-clear are about.
Key = tuple[str, date]


@dataclass(frozen=True, slots=True)
class FlowTrouble:
    """What Prefect says is wrong with a flow now."""

    flow: str
    kind: Literal["failed", "late", "crashed"]
    detail: str
    trade_date: date

    @property
    def cause(self) -> str:
        """The cause of the incident: a crash is a failure too."""
        return f"{FLOW_LATE if self.kind == 'late' else FLOW_FAILED}:{self.flow}"


@dataclass(frozen=True, slots=True)
class OpenIncident:
    """An incident that is not closed: opened and perhaps acknowledged (both aware instants)."""

    incident_id: str
    cause: str
    trade_date: date
    severity: Severity
    detail: str
    opened_at: datetime
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None

    @property
    def key(self) -> Key:
        """What it is about."""
        return self.cause, self.trade_date


EVENTS = (
    Cause("slot_late", "warning", "nothing is recorded of a slot that is open", "chainlake snapshot --slot now"),
    Cause(
        "slot_missed",
        "severe",
        "the window of a slot is over and nothing was captured in it",
        "what is gone is gone: find out why, then chainlake ops ack ID --close REASON",
    ),
    Cause(
        "close_missed",
        "warning",
        "the close view was not captured before its deadline",
        "chainlake rollup --date {day}",
    ),
    Cause("not_published", "severe", "a session was never rolled up and published", "chainlake rollup --date {day}"),
    Cause(
        "competing_session",
        "severe",
        "another session of the IB user has the market data (error 10197)",
        "log the other session out, then chainlake doctor",
    ),
    Cause("no_permission", "severe", "IB shows no live data to this account", "chainlake doctor"),
    Cause("gateway_unreachable", "severe", "the gateway does not answer", "chainlake doctor"),
    Cause(
        "clock_skew",
        "warning",
        "the clocks of host and gateway differ",
        "check the time service, then chainlake doctor",
    ),
    Cause(
        "discovery_stale",
        "warning",
        "discovery failed and an earlier contract set is used",
        "chainlake discover",
    ),
    Cause(
        "lake_damaged",
        "severe",
        "files of the lake cannot be read, and capture goes on without them",
        "chainlake doctor, then docs/backup.md",
    ),
    Cause(
        "journal_left",
        "severe",
        "answers of an interrupted run are on this host only, and the lake does not take them",
        "chainlake ops watch, which says why; then docs/runbook/en/recovery.md",
    ),
    Cause("disk_full", "severe", "a file system is nearly full", "chainlake retention, then chainlake vacuum"),
    Cause(
        "maintenance_refused",
        "warning",
        "maintenance was refused: somebody else maintains the lake",
        "chainlake compact, once the other has ended",
    ),
    Cause("maintenance_failed", "severe", "maintenance has failed", "read its message: chainlake logscan --date {day}"),
    Cause("log_keyword", "warning", "a word of watch.keywords stands in the log", "chainlake logscan --date {day}"),
    Cause("unhandled_error", "severe", "an error that no code expected", "chainlake logscan --date {day}"),
)
FLOWS = (
    Cause(FLOW_FAILED, "severe", "a flow has failed or crashed", "read its log in the Prefect UI, then run it again"),
    Cause(FLOW_LATE, "severe", "a step of the day left no trace in time", "check server and worker; run it by hand"),
)
METRIC_STEPS = {
    "slot_coverage": "chainlake snapshot --slot missed while a window is open; chainlake qa --date {day}",
    "missing_slots": "chainlake snapshot --slot missed while a window is open; chainlake qa --date {day}",
    "slot_retry_exceeded": "chainlake snapshot --slot now while the window is open; chainlake qa --date {day}",
    "fallback": "chainlake qa --date {day}; look at rollup_strategy in clean.daily_clean",
    "delayed": "chainlake doctor: check the market data permissions",
    "oi_filled": "chainlake enrichment --date {day}",
    "pacing_errors": "lower the stage (acquisition.preset), or split the universe; chainlake capacity",
}


def _metric(name: str, severity: Severity) -> Cause:
    return Cause(
        name,
        severity,
        f"the quality metric {name} is out of its limit",
        METRIC_STEPS.get(name, "chainlake qa --date {day}"),
    )


def causes() -> dict[str, Cause]:
    """Every cause by its key; that of a flow without the flow's name."""
    metrics = [
        _metric(name, "severe" if rule.severity == "error" else "warning") for name, rule in thresholds().items()
    ]
    return {cause.key: cause for cause in (*EVENTS, *metrics, *FLOWS)}


def cause_of(key: str) -> Cause:
    """The cause that `key`, such as ``flow_failed:snapshot``, stands for."""
    kind = key.partition(":")[0]
    return causes().get(kind) or Cause(kind, "severe", "not a cause that this version knows", "chainlake logscan")


def next_step(key: str, day: date) -> str:
    """What to do about a cause: a command where there is one."""
    return cause_of(key).next_step.format(day=day)


def runbook(key: str) -> str:
    """The page of the runbook about a cause, relative to the checkout."""
    return f"{RUNBOOK}#{key.partition(':')[0]}"


def breach(key: str, day: date, found: str, severity: Severity | None = None) -> Breach:
    """A breach of a known cause, by default with its severity; `found` is the value and its limit."""
    return Breach(key, day, severity or cause_of(key).severity, with_next_step(found, key, day))


def with_next_step(detail: str, key: str, day: date) -> str:
    """`detail`, with what to do next unless it says that itself."""
    step = next_step(key, day)
    return detail if step in detail else f"{detail}; next: {step}"
