"""What every step of one session works with, as one value."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ingest.calendar.sessions import Session
from ingest.contracts import Underlying
from ingest.runs import Run, Trigger
from ingest.settings import Settings
from lake.store import Lake
from lake.vocabulary import Step


@dataclass(frozen=True, slots=True)
class StepContext:
    """A step's lake and session, the underlyings it is about, its settings, and who started it.

    `part` names the underlyings in ``ops/runs.batch``: "all", or the symbols that a user chose.
    """

    lake: Lake
    trading_session: Session
    universe: Sequence[Underlying]
    settings: Settings
    trigger: Trigger
    part: str = "all"

    @property
    def state(self) -> Path:
        """The folder of logs and working files."""
        return Path(self.settings.state.dir)

    def begin(self, step: Step, started_at: datetime, **of: Any) -> Run:
        """A run of `step` for the session; `of` are further fields of `Run`, such as ``slot_30m``."""
        return Run(step, self.trading_session.trade_date, self.trigger, started_at, **of)
