"""One batch of a slot: one attempt, one commit, one run."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from ingest.broker import BrokerPool
from ingest.broker.outages import code_of
from ingest.broker.pacing import PoolPace
from ingest.capture.accounting import account
from ingest.capture.answers import Answers
from ingest.capture.engine import CaptureEngine
from ingest.capture.modes import Mode, messages_of
from ingest.capture.outcomes import Outcome
from ingest.capture.readiness import OPTION_TICKS, UNDERLYING_TICKS, option_ready, underlying_ready
from ingest.capture.requests import QuoteRequest
from ingest.capture.rows import Attempt
from ingest.capture.rules import CaptureRules
from ingest.capture.slot import STEPS, SlotContext
from ingest.contracts import OptionContract, Underlying
from ingest.errors import BrokerUnreachable
from ingest.journal import Journal
from ingest.recovery import header_of, journal_path
from ingest.runs import RUN_TYPES, Run

log = structlog.get_logger(__name__)


class Batch:
    """Captures a part of a slot's contracts within its window and appends one raw row for each asked.

    `stale` are conids of an earlier session's set, which is used again because discovery failed. `run` is its record.
    """

    def __init__(self, of: SlotContext, session: BrokerPool, name: str, stale: frozenset[int] = frozenset()) -> None:
        self._of, self._session, self._stale = of, session, stale
        self._lake, self._slot, self._settings = of.step.lake, of.slot, of.step.settings
        self.run = of.step.begin(
            STEPS[of.view], session.clock.now(), view=of.view, slot_30m=of.slot.slot_30m, batch=name
        )
        self.run.watch(session)
        self._was_delayed = session.delayed
        self._committed = False
        # A commit that is cancelled goes on in its thread.
        self._one_commit = threading.Lock()

    async def capture(
        self,
        underlyings: Sequence[Underlying],
        options: Sequence[OptionContract],
        skipped: int,
        mode: Mode,
        pace: PoolPace,
        on_outcome: Callable[[Outcome], None],
    ) -> Run:
        """Claim an attempt, ask for all contracts and commit what comes of it; `skipped` others are only counted.

        Raises BrokerUnreachable, after the commit, when the connection is lost and does not come back.
        """
        await asyncio.to_thread(self.run.claim, self._lake)
        requests = self._requests(underlyings, options, mode)
        journal = Journal(journal_path(self._of.step.state, self.run), header_of(self.run, self._lake))
        answers = Answers(self._attempt(), journal, on_outcome)
        engine = CaptureEngine(self._session, pace, self._rules(), answers.add)
        try:
            try:
                await engine.capture(requests)
            finally:
                self.run.measures |= {
                    "mode": mode,
                    "skipped": skipped,
                    "message_rate": round(pace.rate, 3),
                    "message_rates": [round(one.rate, 3) for one in pace.each],
                    "open_window": pace.window(messages_of(mode, pace.cancels_free)),
                }
            # Writing a batch takes seconds: in a thread, so that other connections go on and no heartbeat is missed.
            await asyncio.to_thread(self._commit, answers, engine)
        except asyncio.CancelledError:
            # Whoever cancels is told once all is committed; who does not wait for it finds the journal.
            await asyncio.shield(asyncio.to_thread(self._commit, answers, engine, cancelled=True))
            raise
        finally:
            journal.close()
        if engine.lost:
            raise BrokerUnreachable(
                f"the connection to {self._session.address} was lost in slot {self._slot.label}; "
                f"{len(answers.outcomes)} contracts are recorded: run the same command again for the other "
                f"{len(engine.unasked)}"
            )
        return self.run

    def _requests(
        self, underlyings: Sequence[Underlying], options: Sequence[OptionContract], mode: Mode
    ) -> list[QuoteRequest]:
        patience = self._settings.acquisition.greeks_patience_s
        option_done, underlying_done = option_ready(patience), underlying_ready(patience)
        # Underlyings always stream: their volatilities are generic ticks, which a snapshot does not have.
        requests = [QuoteRequest(underlying, UNDERLYING_TICKS, underlying_done) for underlying in underlyings]
        return requests + [QuoteRequest(one, OPTION_TICKS, option_done, mode == "snapshot") for one in options]

    def _rules(self) -> CaptureRules:
        acquisition = self._settings.acquisition
        _, ends_at = self._of.window
        return CaptureRules(
            timeout_s=acquisition.contract_timeout_s,
            retries=acquisition.retries,
            ends_at=ends_at,
            delayed_fallback=acquisition.delayed_fallback == "auto",
            probe_s=acquisition.outage_probe_s,
        )

    def _commit(self, answers: Answers, engine: CaptureEngine, *, cancelled: bool = False) -> None:
        run = self.run
        with self._one_commit:
            if self._committed:
                return
            for table, rows in answers.rows.items():
                run.append(self._lake, table, rows)
            account(run, answers.outcomes, self._slot.sample_time, self._session)
            self._note_trouble(engine, cancelled=cancelled)
            if failure := answers.journal.failure:
                run.error("journal_failed", failure, self._session.clock.now())
            run.record(self._lake, self._session.clock, self._of.step.state)
            self._committed = True
            answers.journal.discard()
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

    def _note_trouble(self, engine: CaptureEngine, *, cancelled: bool) -> None:
        """Put what was not asked, the outages and the change to delayed data into the run's message and errors."""
        run, notes = self.run, []
        if cancelled:
            run.status = "partial"
            notes.append("the run was cancelled")
        elif engine.unasked:
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
