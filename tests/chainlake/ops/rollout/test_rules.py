"""The rules on made-up facts: whatever one fact is broken by, exactly the rule that looks at it turns."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainlake.ops.rollout import rules
from chainlake.ops.rollout.facts import DayFacts, Metric
from ingest.calendar.sessions import sessions_between

DAYS = [session.trade_date for session in sessions_between(date(2026, 11, 2), date(2026, 11, 30))]
LIMITS = {
    "slot_coverage": (">=", 0.90),
    "fallback": ("<=", 0.05),
    "delayed": ("<", 0.10),
    "oi_filled": (">=", 0.95),
    "slot_retry_exceeded": ("<=", 0.0),
}
HOLDS: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda value, bound: value >= bound,
    "<=": lambda value, bound: value <= bound,
    "<": lambda value, bound: value < bound,
}


def metric(name: str, value: float | None, pending: bool = False) -> Metric:
    """A metric as dbt judges it."""
    comparison, bound = LIMITS[name]
    passed = value is not None and not pending and HOLDS[comparison](value, bound)
    return Metric(value, bound, comparison, "error", passed, pending)


def good_value(name: str) -> st.SearchStrategy[float]:
    comparison, bound = LIMITS[name]
    if comparison == ">=":
        return st.floats(bound, 1)
    return st.floats(0, bound, exclude_max=comparison == "<")


def bad_value(name: str) -> st.SearchStrategy[float | None]:
    comparison, bound = LIMITS[name]
    bad = (
        st.floats(0, bound, exclude_max=True)
        if comparison == ">="
        else st.floats(bound, 1, exclude_min=comparison == "<=")
    )
    return st.none() | bad


@st.composite
def good_days(draw: st.DrawFn, count: int) -> list[DayFacts]:
    return [
        DayFacts(
            trade_date=day,
            recorded=True,
            published=draw(st.sampled_from(["passed", "warned"])),
            metrics={name: metric(name, draw(good_value(name))) for name in LIMITS},
        )
        for day in DAYS[:count]
    ]


Break = Callable[[st.DataObject, DayFacts], DayFacts]


def metric_broken(name: str) -> Break:
    return lambda data, day: replace(day, metrics={**day.metrics, name: metric(name, data.draw(bad_value(name)))})


def metric_pending(name: str) -> Break:
    def change(data: st.DataObject, day: DayFacts) -> DayFacts:
        value = data.draw(st.none() | st.floats(0, 1))
        return replace(day, metrics={**day.metrics, name: metric(name, value, pending=True)})

    return change


def metric_gone(name: str) -> Break:
    return lambda data, day: replace(day, metrics={key: of for key, of in day.metrics.items() if key != name})


def pacing(count: int, cause: str | None) -> Break:
    return lambda data, day: replace(day, pacing_errors=count, pacing_alerts=1, pacing_cause=cause)


def unpublished(data: st.DataObject, day: DayFacts) -> DayFacts:
    return replace(day, published=None)


def unhandled(data: st.DataObject, day: DayFacts) -> DayFacts:
    return replace(day, unhandled=tuple(data.draw(st.lists(st.text(), min_size=1, max_size=3))))


def by_hand(data: st.DataObject, day: DayFacts) -> DayFacts:
    return replace(day, interventions=tuple(data.draw(st.lists(st.text(), min_size=1, max_size=3))))


def many_alerts(data: st.DataObject, day: DayFacts) -> DayFacts:
    return replace(day, pacing_alerts=data.draw(st.integers(rules.MOST_ALERTS_A_WEEK + 1, 100)))


BREAKS: list[tuple[int, str, Break]] = [
    *((1, name, broken(name)) for name in rules.FIRST_GATE for broken in (metric_broken, metric_pending, metric_gone)),
    (1, "pacing_violations", pacing(1, None)),
    (1, "pacing_violations", pacing(2, "known")),
    (1, "unhandled_errors", unhandled),
    (1, "days", unpublished),
    *((2, "thresholds", broken(name)) for name in LIMITS for broken in (metric_broken, metric_pending)),
    (2, "interventions", by_hand),
    (2, "days", unpublished),
    *((3, "slot_retry_exceeded", broken("slot_retry_exceeded")) for broken in (metric_broken, metric_gone)),
    (3, "pacing_alerts", many_alerts),
    (3, "days", unpublished),
]


def failed(results: Sequence[rules.Result]) -> set[str]:
    return {result.rule for result in results if not result.passed}


@pytest.mark.parametrize("stage", rules.PROMOTION_DAYS)
@given(data=st.data())
def test_days_on_which_everything_holds_open_the_gate(stage: int, data: st.DataObject) -> None:
    assert failed(rules.promotion(stage, data.draw(good_days(rules.PROMOTION_DAYS[stage])))) == set()


@pytest.mark.parametrize(("stage", "rule", "broken"), BREAKS, ids=[f"{stage}-{rule}" for stage, rule, _ in BREAKS])
@given(data=st.data())
def test_one_broken_fact_turns_the_one_rule_that_looks_at_it(
    stage: int, rule: str, broken: Break, data: st.DataObject
) -> None:
    days = data.draw(good_days(rules.PROMOTION_DAYS[stage]))
    struck = data.draw(st.integers(0, len(days) - 1))
    days[struck] = broken(data, days[struck])
    results = rules.promotion(stage, days)
    assert failed(results) == {rule}
    (verdict,) = (result for result in results if result.rule == rule)
    assert verdict.reason


@pytest.mark.parametrize("stage", rules.PROMOTION_DAYS)
@given(data=st.data())
def test_a_day_of_which_nothing_is_known_passes_no_rule(stage: int, data: st.DataObject) -> None:
    days = data.draw(good_days(rules.PROMOTION_DAYS[stage]))
    struck = data.draw(st.integers(0, len(days) - 1))
    days[struck] = DayFacts(days[struck].trade_date)
    assert not any(result.passed for result in rules.promotion(stage, days))


@pytest.mark.parametrize("stage", rules.PROMOTION_DAYS)
@given(data=st.data())
def test_too_few_days_never_open_a_gate(stage: int, data: st.DataObject) -> None:
    days = data.draw(good_days(rules.PROMOTION_DAYS[stage]))[1:]
    assert "days" in failed(rules.promotion(stage, days))
    assert not any(result.passed for result in rules.promotion(stage, []))


@given(data=st.data())
def test_stage_one_is_kept_unless_coverage_falls_below_88_per_cent_or_a_third_alert_comes(data: st.DataObject) -> None:
    coverage = data.draw(st.lists(st.floats(0, 1), min_size=3, max_size=3))
    alerts = data.draw(st.lists(st.integers(0, 2), min_size=3, max_size=3))
    days = [
        DayFacts(day, recorded=True, metrics={"slot_coverage": metric("slot_coverage", value)}, pacing_alerts=count)
        for day, value, count in zip(DAYS, coverage, alerts, strict=False)
    ]
    broken = {"slot_coverage": min(coverage) < 0.88, "pacing_alerts": sum(alerts) > 2}
    assert failed(rules.watch(days)) == {rule for rule, is_broken in broken.items() if is_broken}


def test_a_watched_day_without_data_is_no_reason_to_stay() -> None:
    assert failed(rules.watch([DayFacts(DAYS[0])])) == {"slot_coverage", "pacing_alerts"}
