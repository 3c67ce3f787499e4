"""What all connections to one gateway have in common."""

from dataclasses import dataclass, field

from ingest.broker.line_budget import LineBudget
from ingest.calendar.clock import Clock, HostClock
from ingest.settings import AcquisitionSettings, IbSettings


@dataclass(slots=True, eq=False)
class CommonState:
    """The clock of a gateway, its lines by preset, and whether delayed data is taken from it.

    With `cancels_free` a probe has shown that IB does not count cancels as messages.
    """

    clock: Clock = field(default_factory=HostClock)
    delayed: bool = False
    cancels_free: bool = False
    _lines: dict[str, LineBudget] = field(default_factory=dict)

    def lines(self, ib: IbSettings, acquisition: AcquisitionSettings) -> LineBudget:
        """The budget of lines under a preset: what it has learned holds from one slot to the next."""
        if acquisition.preset not in self._lines:
            self._lines[acquisition.preset] = LineBudget(ib, acquisition)
        return self._lines[acquisition.preset]
