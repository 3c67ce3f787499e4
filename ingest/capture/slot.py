"""One slot of one view of a session: its window, and what its batches share."""

from dataclasses import dataclass
from datetime import datetime

from ingest.calendar.sessions import NEW_YORK, Session, Slot
from ingest.capture.rows import View
from ingest.context import StepContext
from ingest.errors import UsageError
from ingest.settings import Settings
from lake.vocabulary import Step

STEPS: dict[View, Step] = {"intraday": "snapshot", "close": "close-snapshot"}


@dataclass(frozen=True, slots=True)
class SlotContext:
    """A step's context, narrowed to the slot and view that it captures."""

    step: StepContext
    slot: Slot
    view: View

    @property
    def window(self) -> tuple[datetime, datetime]:
        """Start and end (UTC), half-open, of the instants at which rows may be captured."""
        return window_of(self.step.trading_session, self.slot, self.view, self.step.settings)

    @property
    def interest_needed(self) -> bool:
        """Whether its quotes should show open interest: the first slot of a day is also the last resort for it."""
        return self.view == "intraday" and self.slot.slot_30m == 0


def window_of(session: Session, slot: Slot, view: View, settings: Settings) -> tuple[datetime, datetime]:
    """The window in which rows of `slot` may be captured: the slot's own, or close to `close.deadline`."""
    if view == "intraday":
        return slot.sample_time, slot.window_end
    return session.close, session.at(settings.close.deadline)


def check_window(session: Session, slot: Slot, view: View, settings: Settings, now: datetime) -> None:
    """Raise UsageError unless `now` lies in the window: nothing is recorded under a slot that is over."""
    start, end = window_of(session, slot, view, settings)
    what = f"slot {slot.label} of {slot.trade_date}" if view == "intraday" else f"the close view of {slot.trade_date}"
    shown = f"{now.astimezone(NEW_YORK):%Y-%m-%d %H:%M} in New York"
    if now < start:
        raise UsageError(f"{what} begins at {start.astimezone(NEW_YORK):%H:%M}, and it is {shown}: wait for it")
    if now >= end:
        raise UsageError(
            f"{what} was over at {end.astimezone(NEW_YORK):%H:%M}, and it is {shown}: what was not recorded is gone"
        )
