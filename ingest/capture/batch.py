"""One batch of a slot: one attempt, one commit, one run."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from ingest.broker import BrokerSession
from ingest.calendar.sessions import Slot
from ingest.capture.asks import Ask, Outcome
from ingest.capture.engine import CaptureEngine
from ingest.capture.modes import MESSAGES, Mode
from ingest.capture.pacing import Pace
from ingest.capture.readiness import option_ready, underlying_ready
from ingest.capture.rows import Attempt, View, option_row, underlying_row
from ingest.contracts import OptionContract, Underlying
from ingest.errors import BrokerUnreachable
from ingest.runs import RUN_TYPES, Run, Trigger
from ingest.settings import Settings
from lake.store import Lake

log = structlog.get_logger(__name__)

OPTION_TICKS = "101"
UNDERLYING_TICKS = "104,106"
STEPS: dict[View, str] = {"intraday": "snapshot", "close": "close-snapshot"}


class Batch:
    """Captures a part of a slot's contracts within `window` (start, end) and appends one raw row for each asked."""

    def __init__(
        self,
        lake: Lake,
        session: BrokerSession,
        slot: Slot,
        view: View,
        window: tuple[datetime, datetime],
        name: str,
        settings: Settings,
        trigger: Trigger,
        stale: frozenset[int] = frozenset(),
    ) -> None:
        self._lake, self._session, self._slot, self._settings = lake, session, slot, settings
        self._ends_at = window[1]
        self._run = Run(
            STEPS[view], slot.trade_date, trigger, session.clock.now(), view=view, slot_30m=slot.slot_30m, batch=name
        )
        self._run.watch(session)
        self._was_delayed = session.delayed
        self._view, self._stale = view, stale

    async def capture(
        self,
        underlyings: Sequence[Underlying],
        options: Sequence[OptionContract],
        skipped: int,
        mode: Mode,
        pace: Pace,
        on_outcome: Callable[[Outcome], None],
    ) -> Run:
        """Claim an attempt, ask for all contracts and commit what comes of it; `skipped` others are only counted.

        Raises BrokerUnreachable, after the commit, when the connection is lost and does not come back.
        """
        await asyncio.to_thread(self._run.claim, self._lake)
        acquisition = self._settings.acquisition
        option_done = option_ready(acquisition.greeks_patience_s)
        underlying_done = underlying_ready(acquisition.greeks_patience_s)
        # Underlyings always stream: their volatilities are generic ticks, which a snapshot does not have.
        asks = [Ask(underlying, UNDERLYING_TICKS, underlying_done) for underlying in underlyings]
        asks += [Ask(contract, OPTION_TICKS, option_done, mode == "snapshot") for contract in options]
        engine = CaptureEngine(
            self._session,
            pace,
            timeout_s=acquisition.contract_timeout_s,
            retries=acquisition.retries,
            ends_at=self._ends_at,
            on_outcome=on_outcome,
            delayed_fallback=acquisition.delayed_fallback == "auto",
            probe_s=acquisition.outage_probe_s,
        )
        outcomes = await engine.capture(asks)
        self._run.measures |= {
            "mode": mode,
            "skipped": skipped,
            "message_rate": round(pace.rate, 3),
            "open_window": pace.window(MESSAGES[mode]),
        }
        # Writing a batch takes seconds: in a thread, so that other gateways go on meanwhile and no heartbeat is missed.
        await asyncio.to_thread(self._commit, outcomes, engine)
        if engine.lost:
            raise BrokerUnreachable(
                f"the connection to {self._session.address} was lost in slot {self._slot.label}; {len(outcomes)} "
                f"contracts are recorded: run the same command again for the other {len(engine.unasked)}"
            )
        return self._run

    def _commit(self, outcomes: Sequence[Outcome], engine: CaptureEngine) -> None:
        run, attempt = self._run, self._attempt()
        option_rows, underlying_rows = [], []
        for outcome in outcomes:
            contract = outcome.ask.contract
            if isinstance(contract, OptionContract):
                option_rows.append(option_row(outcome, contract, attempt))
            else:
                underlying_rows.append(underlying_row(outcome, contract, attempt))
        run.append(self._lake, "raw/underlying_quotes", underlying_rows)
        run.append(self._lake, "raw/option_quotes", option_rows)
        run.account(outcomes, self._slot.sample_time, self._session)
        self._tell_of_trouble(engine)
        run.record(self._lake, self._session.clock, Path(self._settings.state.dir))
        log.info(
            "batch_captured",
            slot=self._slot.label,
            view=self._view,
            batch=run.batch,
            attempt=run.attempt,
            asked=run.asked,
            captured=run.captured,
            failed=run.failed,
            **run.measures,
        )

    def _attempt(self) -> Attempt:
        run, acquisition = self._run, self._settings.acquisition
        return Attempt(
            self._slot,
            self._view,
            run.batch or "",
            run.attempt,
            run.ingest_id,
            RUN_TYPES[run.trigger],
            self._session.origin,
            timedelta(seconds=acquisition.slot_grace_s),
            acquisition.retries,
            self._stale,
        )

    def _tell_of_trouble(self, engine: CaptureEngine) -> None:
        """Put what was not asked, the outages and the change to delayed data into the run's message and errors."""
        run, notes = self._run, []
        if engine.unasked:
            run.status = "partial"
            reason = "the connection was lost" if engine.lost else "the slot's time was over"
            notes.append(f"{len(engine.unasked)} contracts were not asked: {reason}")
        for outage in engine.outages:
            note = f"{outage.kind} out of reach for {outage.seconds:.1f} s"
            notes.append(note)
            run.error("broker_outage", note, outage.began_at)
        run.measures["outage_s"] = round(engine.outage_s, 3)
        if self._session.delayed and not self._was_delayed:
            note = "no permission for live data: delayed data from here on"
            notes.append(note)
            run.error("delayed_fallback", note, self._session.clock.now())
        run.message = "; ".join(notes) or run.message
