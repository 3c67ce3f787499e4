"""What a look has found, and what it has looked at."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date

from chainlake.ops.incidents.causes import Breach, Key, Severity, breach
from chainlake.ops.monitoring.facts import Facts


@dataclass(slots=True)
class Findings:
    """Collected by the rules of a look. What was looked at and is not among the breaches is well."""

    breaches: dict[Key, Breach] = field(default_factory=dict)
    examined: set[Key] = field(default_factory=set)

    def looked_at(self, cause: str, days: Iterable[date]) -> None:
        """Note that a cause was looked for on `days`."""
        self.examined |= {(cause, day) for day in days}

    def add(self, cause: str, day: date, found: str, severity: Severity | None = None) -> None:
        """Note a breach of a date, by default with the severity of its cause."""
        self.examined.add((cause, day))
        self.breaches[cause, day] = breach(cause, day, found, severity)

    def condition(self, facts: Facts, cause: str, day: date, found: str | None) -> None:
        """Note whether a condition stands (`found`), or is over (None).

        One that began on an earlier date goes on as the incident of that date: it is alerted once, not daily.
        """
        since = facts.open_dates(cause)
        self.looked_at(cause, [*since, day])
        if found is not None:
            self.add(cause, since[0] if since else day, found)
