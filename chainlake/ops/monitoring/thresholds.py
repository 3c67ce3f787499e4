"""The quality contracts of a day, as ``dbt_project.yml`` states them: they live there and nowhere else."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import yaml

from lake.resources import DBT_PROJECT

COMPARISONS: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le, "<": operator.lt}


@dataclass(frozen=True, slots=True)
class Threshold:
    """The limit of one metric. A breach of severity ``error`` makes a publication failed, ``warn`` warned."""

    metric: str
    comparison: str
    limit: float
    severity: Literal["error", "warn"]

    def holds(self, value: float) -> bool:
        """Whether `value` is within the limit."""
        return COMPARISONS[self.comparison](value, self.limit)

    def __str__(self) -> str:
        return f"{self.comparison} {self.limit:g}"


@lru_cache(maxsize=1)
def thresholds() -> dict[str, Threshold]:
    """The limits by metric, in the order of the file."""
    project = yaml.safe_load((DBT_PROJECT / "dbt_project.yml").read_text())
    return {
        metric: Threshold(metric, rule["comparison"], float(rule["threshold"]), rule["severity"])
        for metric, rule in project["vars"]["thresholds"].items()
    }
