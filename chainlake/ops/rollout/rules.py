"""The gates' rules, and the rollout's own numbers. Pure: stored days in, verdicts out.

Source of the numbers in this module: the mission's stages and gates (requirement R29). The thresholds of the metrics
are not here: a stored metric carries the threshold of dbt_project.yml that it was judged by. Whatever is missing,
pending or null does not pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

from chainlake.ops.rollout.facts import DayFacts, Metric

LAST_STAGE = 3
# Sessions that a gate looks at, by the stage that it opens.
PROMOTION_DAYS = {1: 2, 2: 7, 3: 10}
MOST_PACING_VIOLATIONS = 1
# After moving to stage 1.
WATCHED_STAGE, WATCHED_DAYS = 1, 3
WATCHED_COVERAGE = 0.88
MOST_WATCHED_ALERTS = 2
# At stage 2, and a condition of stage 3; a week is any five sessions in a row.
WEEK_SESSIONS, MOST_ALERTS_A_WEEK = 5, 3

# The metrics of the first gate, as the mission names them.
FIRST_GATE = ("slot_coverage", "fallback", "delayed", "oi_filled")


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict of one rule: its value and threshold in words, the days it looked at, and why it did not pass."""

    rule: str
    value: str
    threshold: str
    days: tuple[date, ...]
    passed: bool
    reason: str = ""


Rule = Callable[[Sequence[DayFacts]], Result]


def promotion_rules(stage: int) -> tuple[Rule, ...]:
    """The rules of the gate that opens `stage`."""
    if stage == 1:
        return (*(partial(metric_holds, name) for name in FIRST_GATE), pacing_is_explained, no_unhandled_error)
    if stage == 2:
        return no_intervention, all_thresholds
    return partial(metric_holds, "slot_retry_exceeded"), pacing_alerts_a_week


def promotion(stage: int, days: Sequence[DayFacts]) -> list[Result]:
    """Whether `days`, the latest sessions in order at the stage before, open `stage`; one result a rule."""
    return [enough_days(PROMOTION_DAYS[stage], days), *(rule(days) for rule in promotion_rules(stage))]


def watch(days: Sequence[DayFacts]) -> list[Result]:
    """Whether stage 1 may be kept, by its first sessions (at most three): a rule that fails calls for a way back."""
    return [kept_coverage(days), kept_pacing(days)]


# -- rules -------------------------------------------------------------------------------------------------------------


def enough_days(needed: int, days: Sequence[DayFacts]) -> Result:
    """So many sessions in a row are recorded, measured and published."""
    gaps = [gap for day in days if (gap := day.gap)]
    whole = len(days) - len(gaps)
    if len(days) < needed:
        gaps.append(f"{len(days)} of {needed} sessions have been at this stage")
    return _result("days", str(whole), f"{needed} sessions in a row", days, gaps)


def metric_holds(name: str, days: Sequence[DayFacts]) -> Result:
    """A metric passes on each of the days, by the threshold stored with it."""
    reasons, found = [], []
    for day in days:
        metric = day.metrics.get(name)
        if metric is None or metric.value is None:
            reasons.append(_no_value(name, day, metric))
            continue
        found.append(metric)
        if metric.pending:
            reasons.append(f"{day.trade_date}: pending ({_figure(metric.value)} so far)")
        elif not metric.passed:
            reasons.append(f"{day.trade_date}: {_figure(metric.value)}")
    limit = found[-1] if found else None
    threshold = f"{limit.comparison} {_figure(limit.threshold)}" if limit else "as in dbt_project.yml"
    return _result(name, _worst(found), threshold, days, reasons or _nothing(days))


def pacing_is_explained(days: Sequence[DayFacts]) -> Result:
    """At most one pacing violation on all the days together, and its cause is recorded."""
    violations = sum(day.pacing_errors for day in days)
    struck = [day for day in days if day.pacing_errors]
    reasons = [_no_record(day) for day in days if not day.recorded]
    if violations > MOST_PACING_VIOLATIONS:
        reasons.append(", ".join(f"{day.trade_date}: {day.pacing_errors}" for day in struck))
    reasons += [
        f"its cause is not recorded: chainlake gate --explain-pacing {day.trade_date} CAUSE"
        for day in struck
        if not day.pacing_cause
    ]
    threshold = f"at most {MOST_PACING_VIOLATIONS}, its cause recorded"
    return _result("pacing_violations", str(violations), threshold, days, reasons or _nothing(days))


def no_unhandled_error(days: Sequence[DayFacts]) -> Result:
    """Nothing failed that was not made good."""
    return _none_of("unhandled_errors", days, [(day, day.unhandled) for day in days])


def no_intervention(days: Sequence[DayFacts]) -> Result:
    """Nothing was run by hand, or as a repair."""
    return _none_of("interventions", days, [(day, day.interventions) for day in days])


def all_thresholds(days: Sequence[DayFacts]) -> Result:
    """Every quality contract (a metric of severity error) passes on each of the days."""
    reasons, breached = [], 0
    for day in days:
        contracts = {name: metric for name, metric in day.metrics.items() if metric.severity == "error"}
        if not contracts:
            reasons.append(_no_value("quality contract", day, None))
        for name, metric in sorted(contracts.items()):
            if metric.pending or metric.value is None or not metric.passed:
                breached += 1
                how = "pending" if metric.pending else _figure(metric.value)
                reasons.append(f"{day.trade_date}: {name} {how}")
    return _result("thresholds", f"{breached} not met", "all met", days, reasons or _nothing(days))


def pacing_alerts_a_week(days: Sequence[DayFacts]) -> Result:
    """At most so many pacing alerts in any five sessions in a row."""
    weeks = [days[first : first + WEEK_SESSIONS] for first in range(max(1, len(days) - WEEK_SESSIONS + 1))]
    counts = [sum(day.pacing_alerts for day in week) for week in weeks]
    worst = max(counts, default=0)
    reasons = [_no_record(day) for day in days if not day.recorded]
    if worst > MOST_ALERTS_A_WEEK:
        week = weeks[counts.index(worst)]
        reasons.append(f"{week[0].trade_date} to {week[-1].trade_date}: {worst}")
    threshold = f"at most {MOST_ALERTS_A_WEEK} a week"
    return _result("pacing_alerts", str(worst), threshold, days, reasons or _nothing(days))


def kept_coverage(days: Sequence[DayFacts]) -> Result:
    """After moving to stage 1: slot coverage of every underlying and day is not below 88 %."""
    reasons, found = [], []
    for day in days:
        metric = day.metrics.get("slot_coverage")
        if metric is None or metric.value is None:
            reasons.append(_no_value("slot_coverage", day, metric))
            continue
        found.append(metric)
        if metric.value < WATCHED_COVERAGE:
            reasons.append(f"{day.trade_date}: {_figure(metric.value)}")
    return _result("slot_coverage", _worst(found), f">= {_figure(WATCHED_COVERAGE)}", days, reasons)


def kept_pacing(days: Sequence[DayFacts]) -> Result:
    """After moving to stage 1: at most two pacing alerts on all watched days together."""
    alerts = sum(day.pacing_alerts for day in days)
    reasons = [_no_record(day) for day in days if not day.recorded]
    if alerts > MOST_WATCHED_ALERTS:
        reasons.append(", ".join(f"{day.trade_date}: {day.pacing_alerts}" for day in days if day.pacing_alerts))
    return _result("pacing_alerts", str(alerts), f"at most {MOST_WATCHED_ALERTS}", days, reasons)


# -- words -------------------------------------------------------------------------------------------------------------


def _result(rule: str, value: str, threshold: str, days: Sequence[DayFacts], reasons: Sequence[str]) -> Result:
    return Result(rule, value, threshold, tuple(d.trade_date for d in days), not reasons, "; ".join(reasons))


def _none_of(rule: str, days: Sequence[DayFacts], found: Sequence[tuple[DayFacts, tuple[str, ...]]]) -> Result:
    reasons = [_no_record(day) for day in days if not day.recorded]
    reasons += [f"{day.trade_date}: {', '.join(words)}" for day, words in found if words]
    return _result(rule, str(sum(len(words) for _, words in found)), "none", days, reasons or _nothing(days))


def _nothing(days: Sequence[DayFacts]) -> list[str]:
    return [] if days else ["no session has been at this stage"]


def _no_record(day: DayFacts) -> str:
    return f"{day.trade_date}: not recorded"


def _no_value(name: str, day: DayFacts, metric: Metric | None) -> str:
    if metric is not None and metric.pending:
        return f"{day.trade_date}: pending"
    return f"{day.trade_date}: no {name}" if day.recorded else _no_record(day)


def _worst(metrics: Sequence[Metric]) -> str:
    values = [metric.value for metric in metrics if metric.value is not None]
    if not values:
        return "–"
    return _figure(min(values) if metrics[-1].comparison == ">=" else max(values))


def _figure(value: float | None) -> str:
    # Six digits, so that 0.05004 is not called 0.05.
    return "–" if value is None else f"{value:.6g}"
