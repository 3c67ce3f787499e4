"""Bulk qualification: what may be listed becomes contracts, at the pace that the connections allow and no slower."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog
from tenacity import AsyncRetrying, RetryError, TryAgain, stop_after_attempt, wait_exponential

from ingest.broker import BrokerPool, BrokerSession, NullWatcher, RequestError
from ingest.broker.lookup import NOT_LISTED, UNSETTLED, Lookup
from ingest.contracts import OptionContract, OptionSpec, Underlying
from ingest.discovery.concurrency import each
from ingest.errors import BrokerUnreachable
from ingest.settings import Settings

log = structlog.get_logger(__name__)
Question = TypeVar("Question")
Answer = TypeVar("Answer")

# One bulk is a twentieth of a second's messages: far less than IB's bucket holds. Two seconds of questions may be open,
# several times what an answer takes.
BULK_S = 0.05
OPEN_S = 2.0
LONGEST_WAIT_S = 30.0
OUTAGE_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Unanswered(Generic[Question]):
    """A question that was left without an answer; `error` is what IB said instead, None when it stayed silent."""

    question: Question
    error: RequestError | None


class _Asker(NullWatcher):
    """One connection that asks: its turn, its budget, and how many bulks are open on it."""

    def __init__(self, session: BrokerSession, settings: Settings) -> None:
        self.session, self._reconnect_s = session, settings.ib.reconnect_s
        self.lookup = Lookup(session)
        self.open = 0
        self._pace = session.pace(settings.acquisition)
        self._taking_turns = asyncio.Lock()
        self._seeking: asyncio.Task[None] | None = None

    def pacing_error(self, code: int) -> None:
        """See `Watcher`."""
        self._pace.pacing_error(code, self.session.lines_in_use)

    async def turn(self, messages: int) -> None:
        """Wait until the connection stands and so many messages may be sent."""
        async with self._taking_turns:
            self._pace.recover()
            if not self.session.connected:
                await self.session.reconnect(self._reconnect_s)
            # The capture engine watches while it is at work; in between errors are told here.
            self.session.watcher = self
            with suppress(TimeoutError):
                async with asyncio.timeout(self._reconnect_s):
                    while any(outage.kind == "ib_connection" for outage in self.session.outages):
                        await asyncio.sleep(OUTAGE_POLL_S)
            for _ in range(messages):
                await self._pace.message()

    def seek(self) -> None:
        """Look for the lost connection, beside what the others do."""
        if self._seeking is None or self._seeking.done():
            self._seeking = asyncio.create_task(self._sought(), name="connection-sought")

    async def _sought(self) -> None:
        with suppress(BrokerUnreachable):
            await self.session.reconnect(self._reconnect_s)

    def stop(self) -> None:
        """No more is asked."""
        self.session.watcher = NullWatcher()
        if self._seeking is not None:
            self._seeking.cancel()


class Qualifier:
    """Asks over all connections of a pool, on behalf of as many underlyings at once as there are.

    What is left without an answer is asked again, `discovery.retries` times, and returned in the end. A connection that
    is lost is sought for ``ib.reconnect_s`` while the others go on; BrokerUnreachable is raised when none comes back.
    """

    def __init__(self, pool: BrokerPool, settings: Settings) -> None:
        self._pool, self._settings = pool, settings
        self._askers = [_Asker(session, settings) for session in pool.sessions]
        self._bulk = max(1, int(settings.ib.message_limit * BULK_S))
        self._at_once = int(OPEN_S / BULK_S) * len(self._askers)
        self._open = asyncio.Semaphore(self._at_once)

    def stop(self) -> None:
        """Watch no more, and look for no lost connection."""
        for asker in self._askers:
            asker.stop()

    @asynccontextmanager
    async def turn(self, messages: int = 1) -> AsyncIterator[Lookup]:
        """Wait until a connection stands and so many messages may be sent over it; gives what asks there."""
        while True:
            asker = self._least_asked()
            asker.open += 1
            try:
                await asker.turn(messages)
            except BrokerUnreachable:
                asker.open -= 1
                if not self._pool.connected:
                    raise
            except BaseException:
                asker.open -= 1
                raise
            else:
                break
        try:
            yield asker.lookup
        finally:
            asker.open -= 1

    def _least_asked(self) -> _Asker:
        standing = [asker for asker in self._askers if asker.session.connected]
        if standing:
            for asker in self._askers:
                if not asker.session.connected:
                    asker.seek()
        return min(standing or self._askers, key=lambda asker: asker.open)

    async def options(
        self, specs: Sequence[OptionSpec], answered: Callable[[OptionSpec, OptionContract | None], None]
    ) -> list[Unanswered[OptionSpec]]:
        """Tell `answered` the contract of each of `specs`, None when it is not listed; returns what has no answer."""
        return await self._ask(specs, Lookup.options, answered)

    async def underlyings(
        self, underlyings: Sequence[Underlying], answered: Callable[[Underlying, Underlying | None], None]
    ) -> list[Unanswered[Underlying]]:
        """Tell `answered` each underlying with its conid, None when IB does not know it; returns what has no answer."""
        return await self._ask(underlyings, Lookup.underlyings, answered)

    async def _ask(
        self,
        questions: Sequence[Question],
        lookup: Callable[[Lookup, Sequence[Question], float], Awaitable[list[Answer | RequestError]]],
        answered: Callable[[Question, Answer | None], None],
    ) -> list[Unanswered[Question]]:
        unanswered: dict[Question, RequestError | None] = {}
        discovery = self._settings.discovery

        async def settle(bulk: Sequence[Question]) -> None:
            again = bulk
            with suppress(RetryError):
                async for attempt in AsyncRetrying(
                    stop=stop_after_attempt(1 + discovery.retries), wait=wait_exponential(max=LONGEST_WAIT_S)
                ):
                    with attempt:
                        again = await ask(again)
                        if again:
                            raise TryAgain

        async def ask(bulk: Sequence[Question]) -> Sequence[Question]:
            """What of `bulk` has to be asked again."""
            async with self._open, self.turn(len(bulk)) as asked:
                try:
                    answers = await lookup(asked, bulk, discovery.answer_timeout_s)
                except (TimeoutError, BrokerUnreachable) as failure:
                    reason = str(failure) or f"no answer within {discovery.answer_timeout_s:g} s"
                    log.warning("questions_unanswered", questions=len(bulk), reason=reason)
                    # What IB said of one before stays its reason.
                    unanswered.update({question: unanswered.get(question) for question in bulk})
                    return bulk
            again: list[Question] = []
            for question, answer in zip(bulk, answers, strict=True):
                if isinstance(answer, RequestError) and answer.code != NOT_LISTED:
                    log.warning("question_refused", code=answer.code, message=answer.message, question=str(question))
                    unanswered[question] = answer
                    if answer.code != UNSETTLED:
                        again.append(question)
                else:
                    unanswered.pop(question, None)
                    answered(question, None if isinstance(answer, RequestError) else answer)
            return again

        bulks = (questions[start : start + self._bulk] for start in range(0, len(questions), self._bulk))
        await each(bulks, settle, self._at_once)
        return [Unanswered(question, error) for question, error in unanswered.items()]
