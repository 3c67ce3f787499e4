"""The facts of sessions, read from a lake by SQL."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from chainlake.ops.rollout.facts import DayFacts, Metric
from ingest.calendar.sessions import Session, session_on
from lake.reads import Reader

# Runs by hand that only look, or do not touch a day.
LOOKS = ("disk",)
BY_HAND = ("manual", "repair")
PACING_CAUSE = "pacing_errors"
# Causes of incidents (docs/alerts.md) that mean an error nobody caught.
UNHANDLED = ("unhandled_error", "flow_failed", "flow_crashed")


def first_recorded(reads: Reader) -> date | None:
    """The first trade date of a lake, None in an empty one."""
    found = reads.rows("raw/sessions", columns="min(trade_date) as day")
    day: date | None = found[0]["day"] if found else None
    return day


def read_days(reads: Reader, days: Sequence[date], causes: Mapping[date, str]) -> list[DayFacts]:
    """The facts of each of `days`, in order; `causes` are the recorded ones of pacing violations."""
    if not days:
        return []
    # Not a list of dates: files are left out by a range only.
    these = f"trade_date >= date '{min(days)}' and trade_date <= date '{max(days)}'"
    recorded = {row["day"] for row in reads.rows("raw/sessions", these, "distinct trade_date as day")}
    published = {
        row["trade_date"]: row["status"]
        for row in reads.rows(
            "ops/published", f"{these} group by trade_date", "trade_date, arg_max(status, published_at) as status"
        )
    }
    underlyings = {
        row["trade_date"]: row["n"]
        for row in reads.rows(
            "raw/contracts", f"{these} group by trade_date", "trade_date, count(distinct underlying) as n"
        )
    }
    metrics = _metrics(reads, these)
    runs: dict[date, list[dict[str, Any]]] = defaultdict(list)
    for row in reads.rows("ops/runs", f"{these} order by started_at, ended_at"):
        runs[row["trade_date"]].append(row)
    incidents: dict[date, list[dict[str, Any]]] = defaultdict(list)
    for row in reads.rows(
        "ops/incidents", f"{these} and state = 'opened' order by changed_at", "trade_date, cause, detail"
    ):
        incidents[row["trade_date"]].append(row)
    return [
        DayFacts(
            trade_date=day,
            recorded=day in recorded,
            published=published.get(day),
            metrics=metrics.get(day, {}),
            underlyings=underlyings.get(day, 0),
            asked=sum(run["asked"] or 0 for run in runs[day]),
            captured=sum(run["captured"] or 0 for run in runs[day]),
            pacing_errors=sum(run["pacing_errors"] or 0 for run in runs[day]),
            pacing_alerts=max(
                len({_place(run) for run in runs[day] if run["pacing_errors"]}),
                sum(incident["cause"] == PACING_CAUSE for incident in incidents[day]),
            ),
            pacing_cause=causes.get(day),
            unhandled=tuple(_unhandled(day, runs[day], incidents[day])),
            interventions=tuple(_interventions(day, runs[day])),
            incidents=tuple(incident["cause"] for incident in incidents[day]),
        )
        for day in days
    ]


def _metrics(reads: Reader, these: str) -> dict[date, dict[str, Metric]]:
    found: dict[date, dict[str, Metric]] = defaultdict(dict)
    for row in reads.rows("quality/daily_metrics", these):
        found[row["trade_date"]][row["metric"]] = Metric(
            row["value"],
            row["threshold"],
            row["comparison"],
            row["severity"],
            bool(row["passed"]),
            bool(row["pending"]),
        )
    return found


def _place(run: Mapping[str, Any]) -> tuple[Any, ...]:
    return run["step"], run["view"], run["slot_30m"]


def _unhandled(day: date, runs: Sequence[Mapping[str, Any]], incidents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Runs that failed and that no later run of the same step, slot and batch made good; and unhandled errors."""
    last = {(*_place(run), run["batch"]): run for run in runs if run["status"] != "refused"}
    session = session_on(day)
    return [_words(session, run) for run in last.values() if run["status"] == "failed"] + [
        incident["cause"] for incident in incidents if incident["cause"].partition(":")[0] in UNHANDLED
    ]


def _interventions(day: date, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Steps that were run by hand or as a repair, each once with how often."""
    session = session_on(day)
    by_hand = Counter(
        f"{_words(session, run)} ({run['trigger']})"
        for run in runs
        if run["trigger"] in BY_HAND and run["step"] not in LOOKS
    )
    return [f"{words} x {count}" if count > 1 else words for words, count in by_hand.items()]


def _words(session: Session | None, run: Mapping[str, Any]) -> str:
    slot = run["slot_30m"]
    if slot is None or session is None or slot >= len(session.slots) or run["view"] == "close":
        return str(run["step"])
    return f"{run['step']} {session.slots[slot].label}"
