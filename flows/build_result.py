"""What a build of the models did: its nodes, what contradicts its tests, and the versions that it left."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from lake.vocabulary import PublicationStatus


@dataclass(frozen=True, slots=True)
class NodeResult:
    """One seed, model or test of a build; `derived` when it is of the tables that a lake can do without."""

    name: str
    resource_type: str
    status: str
    elapsed_s: float
    message: str
    derived: bool = False

    @property
    def broken(self) -> bool:
        """Whether it is a table that was not written."""
        return self.resource_type != "test" and self.status in {"error", "fail"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One test that did not pass: `count` rows contradict it (None when it could not be evaluated)."""

    name: str
    message: str
    count: int | None


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build did. `versions`: of the raw and ops tables it read, and of the tables it wrote.

    `left_alone`: dates that were asked for, and whose quotes are gone. `restatements`: underlyings by earlier date of
    daily_adjusted that corporate actions put into other terms.
    """

    dates: tuple[date, ...]
    left_alone: tuple[date, ...]
    restatements: dict[date, tuple[str, ...]]
    nodes: tuple[NodeResult, ...]
    failures: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    versions: dict[str, int]
    elapsed_s: float
    log: Path

    @property
    def restated(self) -> tuple[date, ...]:
        """The dates of daily_adjusted that were replaced beside those of the build."""
        return tuple(sorted(self.restatements))

    @property
    def status(self) -> PublicationStatus:
        """The status with which the dates may be published."""
        if self.failures:
            return "failed"
        return "warned" if self.warnings else "passed"
