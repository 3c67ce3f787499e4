"""What the metrics are read from: a lake, its settings, and the instant that they are read at."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from ingest.calendar.sessions import NEW_YORK
from ingest.settings import Settings
from lake.reads import Reader
from lake.store import Lake

# Dates that today's work can be about, and that are still to be published: files of older ones are not read.
LOOK_BACK = timedelta(days=10)
# How far back the last run of a step is looked for; one that has not run for so long is told of by its absence.
RUNS_LOOK_BACK = timedelta(days=60)


@dataclass(frozen=True, slots=True)
class Sources:
    """A lake with an open reader of it, its settings, and `now` (aware)."""

    settings: Settings
    lake: Lake
    reads: Reader
    now: datetime

    @property
    def state(self) -> Path:
        """The state folder of this host."""
        return Path(self.settings.state.dir)

    @property
    def today(self) -> date:
        """The New York date."""
        return self.now.astimezone(NEW_YORK).date()

    @property
    def midnight(self) -> datetime:
        """When today began in New York, in UTC."""
        return datetime.combine(self.today, time(), NEW_YORK).astimezone(UTC)

    def lately(self, back: timedelta = LOOK_BACK) -> str:
        """A condition on trade_date: from `back` ago until today."""
        return f"trade_date >= date '{self.today - back}' and trade_date <= date '{self.today}'"
