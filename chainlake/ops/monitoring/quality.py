"""Rules about numbers: the day so far, and the metrics of the last sessions, against dbt_project.yml. Pure."""

from datetime import date
from typing import Any

from chainlake.ops.monitoring.facts import Facts
from chainlake.ops.monitoring.findings import Findings
from chainlake.ops.monitoring.thresholds import Threshold, thresholds
from lake.text import number_text


def metrics(facts: Facts, findings: Findings) -> None:
    """The stored metrics: a breach is neither passed nor pending.

    A breach of severity warn is over once a later session passes; one of severity error when its own date does.
    """
    limits = thresholds()
    for row in facts.metrics:
        name, day = row["metric"], row["trade_date"]
        if name not in limits or row["pending"]:
            continue
        findings.looked_at(name, [day])
        if not row["passed"] and not (limits[name].severity == "warn" and _passes_later(facts, name, day)):
            value = "no data" if row["value"] is None else number_text(row["value"])
            findings.add(name, day, f"{name} is {value}, and must be {limits[name]}")


def _passes_later(facts: Facts, metric: str, day: date) -> bool:
    return any(row["metric"] == metric and row["trade_date"] > day and row["passed"] for row in facts.metrics)


def today_so_far(facts: Facts, findings: Findings) -> None:
    """Coverage, delayed share and pacing errors of today, from what is captured, until the day's metrics are there."""
    limits = thresholds()
    settled = {row["metric"] for row in facts.metrics if row["trade_date"] == facts.today and not row["pending"]}
    for limit, value, about in (
        (limits["slot_coverage"], *_coverage(facts)),
        (limits["delayed"], _delayed(facts), "rows of type 3 or 4"),
        (limits["pacing_errors"], _pacing(facts), "errors 100, 101 and 420"),
    ):
        if limit.metric not in settled and value is not None:
            _judge(limit, value, about, facts, findings)


def _judge(limit: Threshold, value: float, about: str, facts: Facts, findings: Findings) -> None:
    if limit.holds(value):
        findings.looked_at(limit.metric, [facts.today])
    else:
        findings.add(
            limit.metric, facts.today, f"{limit.metric} so far is {number_text(value)} ({about}), and must be {limit}"
        )


def _coverage(facts: Facts) -> tuple[float | None, str]:
    """The coverage of the worst underlying over the slots whose windows are over, and its symbol."""
    frozen: dict[str, int] = {}
    covered: dict[str, int] = {}
    for found in facts.slots.values():
        for symbol, count in found.frozen.items():
            frozen[symbol] = frozen.get(symbol, 0) + count
            covered[symbol] = covered.get(symbol, 0) + found.covered[symbol]
    shares = {symbol: covered[symbol] / count for symbol, count in frozen.items() if count}
    worst = min(shares, key=shares.__getitem__, default=None)
    return (None, "") if worst is None else (shares[worst], worst)


def _delayed(facts: Facts) -> float | None:
    captured = _total(facts.runs_of("snapshot", day=facts.today), "captured")
    return _total(facts.runs_of("snapshot", day=facts.today), "delayed") / captured if captured else None


def _pacing(facts: Facts) -> float | None:
    runs = [run for run in facts.runs if run["trade_date"] == facts.today and run["pacing_errors"] is not None]
    return _total(runs, "pacing_errors") if runs else None


def _total(runs: list[dict[str, Any]], column: str) -> float:
    return float(sum(run[column] or 0 for run in runs))
