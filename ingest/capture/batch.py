"""One batch of a slot: one attempt, one commit, one run."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from ingest.broker import BrokerSession
from ingest.broker.outages import code_of
from ingest.broker.pacing import Pace
from ingest.capture.accounting import account
from ingest.capture.engine import CaptureEngine
from ingest.capture.modes import MESSAGES, Mode
from ingest.capture.outcomes import Outcome
from ingest.capture.readiness import OPTION_TICKS, UNDERLYING_TICKS, option_ready, underlying_ready
from ingest.capture.requests import QuoteRequest
from ingest.capture.rows import Attempt, option_row, underlying_row
from ingest.capture.rules import CaptureRules
from ingest.capture.slot import STEPS, SlotContext
from ingest.contracts import OptionContract, Underlying
from ingest.errors import BrokerUnreachable
from ingest.runs import RUN_TYPES, Run

log = structlog.get_logger(__name__)


class Batch:
    """Captures a part of a slot's contracts within its window and appends one raw row for each asked.

    `stale` are conids of an earlier session's set, which is used again because discovery failed. `run` is its record.
    """

    def __init__(self, of: SlotContext, session: BrokerSession, name: str, stale: frozenset[int] = frozenset()) -> None:
        self._of, self._session, self._stale = of, session, stale
        self._lake, self._slot, self._settings = of.step.lake, of.slot, of.step.settings
        self.run = of.step.begin(
            STEPS[of.view], session.clock.now(), view=of.view, slot_30m=of.slot.slot_30m, batch=name
        )
        self.run.watch(session)
        self._was_delayed = session.delayed

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
        await asyncio.to_thread(self.run.claim, self._lake)
        acquisition = self._settings.acquisition
        option_done = option_ready(acquisition.greeks_patience_s)
        underlying_done = underlying_ready(acquisition.greeks_patience_s)
        # Underlyings always stream: their volatilities are generic ticks, which a snapshot does not have.
        requests = [QuoteRequest(underlying, UNDERLYING_TICKS, underlying_done) for underlying in underlyings]
        requests += [QuoteRequest(contract, OPTION_TICKS, option_done, mode == "snapshot") for contract in options]
        _, ends_at = self._of.window
        rules = CaptureRules(
            timeout_s=acquisition.contract_timeout_s,
            retries=acquisition.retries,
            ends_at=ends_at,
            delayed_fallback=acquisition.delayed_fallback == "auto",
            probe_s=acquisition.outage_probe_s,
        )
        engine = CaptureEngine(self._session, pace, rules, on_outcome)
        outcomes = await engine.capture(requests)
        self.run.measures |= {
            "mode": mode,
            "skipped": skipped,
            "message_rate": round(pace.rate, 3),
            "open_window": pace.window(MESSAGES[mode]),
        }
        # Writing a batch takes seconds: in a thread, so that other connections go on and no heartbeat is missed.
        await asyncio.to_thread(self._commit, outcomes, engine)
        if engine.lost:
            raise BrokerUnreachable(
                f"the connection to {self._session.address} was lost in slot {self._slot.label}; {len(outcomes)} "
                f"contracts are recorded: run the same command again for the other {len(engine.unasked)}"
            )
        return self.run

    def _commit(self, outcomes: Sequence[Outcome], engine: CaptureEngine) -> None:
        run, attempt = self.run, self._attempt()
        option_rows, underlying_rows = [], []
        for outcome in outcomes:
            contract = outcome.request.contract
            if isinstance(contract, OptionContract):
                option_rows.append(option_row(outcome, contract, attempt))
            else:
                underlying_rows.append(underlying_row(outcome, contract, attempt))
        run.append(self._lake, "raw/underlying_quotes", underlying_rows)
        run.append(self._lake, "raw/option_quotes", option_rows)
        account(run, outcomes, self._slot.sample_time, self._session)
        self._note_trouble(engine)
        run.record(self._lake, self._session.clock, self._of.step.state)
        log.info(
            "batch_captured",
            slot=self._slot.label,
            view=self._of.view,
            batch=run.batch,
            attempt=run.attempt,
            asked=run.asked,
            captured=run.captured,
            failed=run.failed,
            **run.measures,
        )

    def _attempt(self) -> Attempt:
        run, acquisition = self.run, self._settings.acquisition
        return Attempt(
            self._slot,
            self._of.view,
            run.batch or "",
            run.attempt,
            run.ingest_id,
            RUN_TYPES[run.trigger],
            self._session.origin,
            timedelta(seconds=acquisition.slot_grace_s),
            acquisition.retries,
            self._stale,
        )

    def _note_trouble(self, engine: CaptureEngine) -> None:
        """Put what was not asked, the outages and the change to delayed data into the run's message and errors."""
        run, notes = self.run, []
        if engine.unasked:
            run.status = "partial"
            reason = "the connection was lost" if engine.lost else "the slot's time was over"
            notes.append(f"{len(engine.unasked)} contracts were not asked: {reason}")
        for outage in engine.outages:
            note = f"{outage.kind} out of reach for {outage.seconds:.1f} s"
            notes.append(note)
            run.error("broker_outage", note, outage.began_at, code_of(outage.kind))
        run.measures["outage_s"] = round(engine.outage_s, 3)
        if self._session.delayed and not self._was_delayed:
            note = "no permission for live data: delayed data from here on"
            notes.append(note)
            run.error("delayed_fallback", note, self._session.clock.now())
        run.message = "; ".join(notes) or run.message
