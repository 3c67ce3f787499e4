"""Bulk qualification: what may be listed becomes contracts, at the pace that the connection allows and no slower."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog
from tenacity import AsyncRetrying, RetryError, TryAgain, stop_after_attempt, wait_exponential

from ingest.broker import BrokerSession, NullWatcher, RequestError
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


class Qualifier(NullWatcher):
    """Asks over one connection, on behalf of as many underlyings at once as there are.

    What is left without an answer is asked again, `discovery.retries` times, and returned in the end. A connection that
    is lost is sought for ``ib.reconnect_s``; BrokerUnreachable is raised when it does not come back.
    """

    def __init__(self, session: BrokerSession, settings: Settings) -> None:
        self._session, self._settings = session, settings
        self._lookup = Lookup(session)
        self._pace = session.pace(settings.acquisition)
        self._bulk = max(1, int(settings.ib.message_limit * BULK_S))
        self._at_once = int(OPEN_S / BULK_S)
        self._open = asyncio.Semaphore(self._at_once)
        self._taking_turns = asyncio.Lock()

    def pacing_error(self, code: int) -> None:
        """See `Watcher`."""
        self._pace.pacing_error(code, self._session.lines_in_use)

    async def turn(self, messages: int = 1) -> None:
        """Wait until the connection stands and so many messages may be sent."""
        async with self._taking_turns:
            if not self._session.connected:
                await self._session.reconnect(self._settings.ib.reconnect_s)
            # The capture engine watches while it is at work; in between errors are told here.
            self._session.watcher = self
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.ib.reconnect_s):
                    while any(outage.kind == "ib_connection" for outage in self._session.outages):
                        await asyncio.sleep(OUTAGE_POLL_S)
            for _ in range(messages):
                await self._pace.message()

    async def options(
        self, specs: Sequence[OptionSpec], answered: Callable[[OptionSpec, OptionContract | None], None]
    ) -> list[Unanswered[OptionSpec]]:
        """Tell `answered` the contract of each of `specs`, None when it is not listed; returns what has no answer."""
        return await self._ask(specs, self._lookup.options, answered)

    async def underlyings(
        self, underlyings: Sequence[Underlying], answered: Callable[[Underlying, Underlying | None], None]
    ) -> list[Unanswered[Underlying]]:
        """Tell `answered` each underlying with its conid, None when IB does not know it; returns what has no answer."""
        return await self._ask(underlyings, self._lookup.underlyings, answered)

    async def _ask(
        self,
        questions: Sequence[Question],
        lookup: Callable[[Sequence[Question], float], Awaitable[list[Answer | RequestError]]],
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
            async with self._open:
                await self.turn(len(bulk))
                try:
                    answers = await lookup(bulk, discovery.answer_timeout_s)
                except (TimeoutError, BrokerUnreachable) as failure:
                    reason = str(failure) or f"no answer within {discovery.answer_timeout_s:g} s"
                    log.warning("questions_unanswered", questions=len(bulk), reason=reason)
                    # What IB said of one before stays its reason.
                    unanswered.update({question: unanswered.get(question) for question in bulk})
                    return bulk
            self._pace.recover()
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
