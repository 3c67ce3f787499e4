"""The two questions of a probe that exceed the message rate: whether cancels count, and whose the rate is.

Each stops at its first error 100. IB ends a connection at its third (TWS API, Pacing Limitations), so the second
question is asked on connections of its own.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle
from typing import Literal

from ingest.broker.probe import Listed, ProbeLink
from ingest.errors import BrokerUnreachable
from ingest.settings import IbSettings

# Longer than the second over which IB counts messages: whatever was sent before is forgotten.
CALM_S = 1.2
# A question begins with almost a second's worth of messages, and goes on above the rate by so many a second for so
# long: one message is too many every 50 ms, slow enough to stop at the first error 100 even where each message in
# excess counts as a violation.
EXCESS_PER_S = 20.0
EXCESS_S = 0.7
MARGIN = 4
# A pause of this process must not turn into many messages in excess at once.
LONGEST_STEP_S = 0.02
# The simulated gateway admits 10 at once however low its rate; IB's own lowest rate is 50.
LEAST_BURST = 10.0
LATE_ERROR_S = 0.2

Excess = Literal["reject", "pace"]


@dataclass(frozen=True, slots=True)
class Sender:
    """A connection, and what sends one more message on it."""

    link: ProbeLink
    send: Callable[[], None]

    @property
    def stopped(self) -> bool:
        """Whether nothing more may be sent."""
        return self.link.pacing_errors > 0 or not self.link.connected


@dataclass(frozen=True, slots=True)
class CancelsCounted:
    """Whether cancels count as messages, and what becomes of a message above the rate; None: it cannot be told.

    ``usual_s``: seconds that an answer takes while nothing waits.
    """

    cancels_count: bool | None
    excess: Excess | None
    usual_s: float


@dataclass(frozen=True, slots=True)
class RateOwner:
    """Whose the message rate is (None: it cannot be told, for the reason in `notes`), and what the question cost."""

    rate_per: Literal["connection", "session"] | None = None
    notes: tuple[str, ...] = ()
    messages: int = 0
    pacing_errors: int = 0


async def ask_about_cancels(link: ProbeLink, options: Sequence[Listed], rate: float, usual_s: float) -> CancelsCounted:
    """Exceed the rate with pairs of subscribe and cancel, of which the subscribes alone stay below it.

    An error 100 then says that cancels count. Without one, the same excess without cancels tells a limit that does
    not count them from one that is not enforced; an answer that comes late tells a gateway that paces.
    """
    delay = await exceed([Sender(link, _pairs(link, options))], rate)
    if link.pacing_errors:
        return CancelsCounted(True, "reject", usual_s)
    control = await exceed([Sender(link, link.ask_for_data_type)], rate)
    if link.pacing_errors:
        return CancelsCounted(False, "reject", usual_s)
    # Where messages in excess wait, the answer waits behind them.
    if control is not None and delay is not None and control - usual_s > backlog_s(rate) / 2:
        return CancelsCounted(delay - usual_s > (control - usual_s) / 2, "pace", usual_s)
    return CancelsCounted(None, None, usual_s)


async def ask_whose_rate(ib: IbSettings, known: CancelsCounted) -> RateOwner:
    """Exceed the rate with two new connections together, each of which stays far below it.

    An error 100, or an answer that comes late where messages wait, says that they share the rate. `known` is what one
    connection has shown before: where its own excess had no effect, that of two says nothing.
    """
    rate = ib.message_limit
    if known.excess is None:
        return RateOwner()
    # Connecting takes messages too: none of them may meet what the question before has left of the rate.
    await asyncio.sleep(CALM_S)
    async with AsyncExitStack() as stack:
        links: list[ProbeLink] = []
        # The second takes the next id of the pool: one more, as the first has one of them.
        for pool in (ib, ib.model_copy(update={"client_id_pool": ib.client_id_pool + 1})):
            try:
                links.append(await stack.enter_async_context(ProbeLink.open(pool)))
            except BrokerUnreachable as reason:
                return RateOwner(None, (f"whose the message rate is cannot be told: {reason}",))
        # A message that has just been seen to count, and that holds no line.
        slowest = await exceed([Sender(link, link.ask_for_data_type) for link in links], rate)
        messages, errors = sum(link.messages for link in links), sum(link.pacing_errors for link in links)
        if errors:
            return RateOwner("session", (), messages, errors)
        if slowest is None:
            lost = "whose the message rate is cannot be told: a connection was lost, or left a question open"
            return RateOwner(None, (lost,), messages, errors)
        late = known.excess == "pace" and slowest - known.usual_s > backlog_s(rate) / 2
        return RateOwner("session" if late else "connection", (), messages, errors)


async def exceed(senders: Sequence[Sender], rate: float) -> float | None:
    """Send one message after another, each sender in turn, in the end more together than the rate allows.

    Returns the longest answer time right after them, in seconds. Stops at an error 100, or when a connection ends;
    then, and where an answer does not come, it is None.
    """
    await asyncio.sleep(CALM_S)
    burst, turns = max(rate, LEAST_BURST) - MARGIN, cycle(senders)
    started = before = time.monotonic()
    sent, active = 0, 0.0
    while active < EXCESS_S and not _stopped(senders):
        now = time.monotonic()
        active += min(now - before, LONGEST_STEP_S)
        before = now
        while sent < burst + rate * (now - started) + EXCESS_PER_S * active and not _stopped(senders):
            next(turns).send()
            sent += 1
            # Errors must be heard between messages.
            await asyncio.sleep(0)
        await asyncio.sleep(0.002)
    if _stopped(senders):
        return None
    answers = await asyncio.gather(*(sender.link.round_trip() for sender in senders))
    for sender in senders:
        await sender.link.until(lambda: _stopped(senders), LATE_ERROR_S / len(senders))
    if _stopped(senders):
        return None
    came = [answer for answer in answers if answer is not None]
    return max(came) if len(came) == len(senders) else None


def backlog_s(rate: float) -> float:
    """Seconds for which the last message of an excess waits at a gateway that paces."""
    return (EXCESS_PER_S * EXCESS_S - MARGIN) / rate


def _stopped(senders: Sequence[Sender]) -> bool:
    return any(sender.stopped for sender in senders)


def _pairs(link: ProbeLink, options: Sequence[Listed]) -> Callable[[], None]:
    """Sends a subscribe and its cancel in turn: one line is held at most."""
    turns, open_ids = cycle(options), list[int]()

    def send() -> None:
        if open_ids:
            link.let_go(open_ids.pop())
        else:
            open_ids.append(link.touch(next(turns)))

    return send
