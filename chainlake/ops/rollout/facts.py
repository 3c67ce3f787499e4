"""What one session says to the gates. Plain values, which rules judge and only `read` fetches."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of ``quality/daily_metrics``, judged against the threshold that was stored with it."""

    value: float | None
    threshold: float
    comparison: str
    severity: str
    passed: bool
    pending: bool


@dataclass(frozen=True, slots=True)
class DayFacts:
    """One session of XNYS, whether anything was recorded of it or not.

    `recorded`: ``raw/sessions`` has it. `published`: the status of its latest publication. `pacing_errors` counts
    errors 100, 101 and 420; `pacing_alerts` the slots and steps that met any (or the incidents opened for them, where
    these are more); `pacing_cause` is what a person has recorded as their cause. `unhandled` names errors that nothing
    made good, `interventions` what was run by hand or as a repair. `asked` and `captured` are requests for contracts.
    """

    trade_date: date
    recorded: bool = False
    published: str | None = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    underlyings: int = 0
    asked: int = 0
    captured: int = 0
    pacing_errors: int = 0
    pacing_alerts: int = 0
    pacing_cause: str | None = None
    unhandled: tuple[str, ...] = ()
    interventions: tuple[str, ...] = ()
    incidents: tuple[str, ...] = ()

    @property
    def gap(self) -> str | None:
        """What keeps the day from saying anything, in words; None when it is whole."""
        if not self.recorded:
            return f"{self.trade_date} was not recorded"
        if not self.metrics:
            return f"{self.trade_date} has no metrics: run `chainlake rollup --date {self.trade_date}`"
        if self.published is None:
            return f"{self.trade_date} is not published: run `chainlake rollup --date {self.trade_date}`"
        return None
