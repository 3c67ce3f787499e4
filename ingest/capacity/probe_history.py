"""Which historical bars IB would give for option contracts: asked for a few, told, and never stored."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby

import structlog
from tenacity import AsyncRetrying, retry_if_result, stop_after_attempt, wait_fixed

from ingest.broker import BrokerSession, RequestError
from ingest.broker.lookup import Bar, Lookup
from ingest.calendar.sessions import Session, previous_session, session_on
from ingest.contracts import OptionContract
from ingest.settings import Settings
from lake.sentinels import known_count

log = structlog.get_logger(__name__)

FRIDAY = 4
# IB: 60 requests in ten minutes, and not six in two seconds for one contract (TWS API, historical data limitations).
# They are asked one after the other, and a probe stays well below the sixty.
MOST_CONTRACTS = 16
BETWEEN_S = 0.5
# The same request is refused for 15 seconds.
PACING_WAIT_S, PACING_TRIES = 16.0, 2
ANSWER_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Question:
    """What bars are asked for: `kind` and sizes in IB's words."""

    kind: str
    bar_size: str
    duration: str


# IB documents no bars of open interest for options; the probe is there to see whether that still holds.
QUESTIONS = (
    Question("TRADES", "1 day", "1 M"),
    Question("TRADES", "30 mins", "5 D"),
    Question("OPTION_OPEN_INTEREST", "1 day", "1 M"),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came for one contract and question: bars, from when to when, the contracts traded in them; or the error."""

    contract: OptionContract
    question: Question
    bars: int
    first: date | datetime | None
    last: date | datetime | None
    volume: int
    error: RequestError | None


def last_friday(today: date) -> Session:
    """The session of the last Friday before `today`, or the one before it when that Friday was a holiday."""
    friday = today - timedelta(days=(today.weekday() - FRIDAY) % 7 or 7)
    return session_on(friday) or previous_session(friday)


def sample(
    contracts: Iterable[OptionContract], prices: Mapping[str, float], today: date, count: int
) -> list[OptionContract]:
    """Up to `count` unexpired contracts: of each underlying in turn the pair of rights nearest the money.

    The nearest expiry first, and another expiry of the same underlying only when the others have had their turn.
    `prices` maps underlying to its reference price. Pure, and the same for the same set.
    """

    def smile(contract: OptionContract) -> tuple[str, date]:
        return contract.underlying, contract.expiry

    def distance(contract: OptionContract) -> tuple[float, float, str]:
        price = prices.get(contract.underlying, contract.strike)
        return abs(contract.strike / price - 1), contract.strike, contract.right

    alive = sorted((c for c in contracts if c.expiry >= today and c.multiplier == 100), key=smile)
    pairs: list[tuple[int, str, list[OptionContract]]] = []
    for underlying, chain in groupby(alive, key=lambda contract: contract.underlying):
        for turn, (_, members) in enumerate(groupby(chain, key=smile)):
            pairs.append((turn, underlying, sorted(members, key=distance)[:2]))
    in_turn = sorted(pairs, key=lambda pair: pair[:2])
    return [contract for _, _, pair in in_turn for contract in pair][:count]


async def probe_history(
    session: BrokerSession,
    contracts: Sequence[OptionContract],
    settings: Settings,
    on_answer: Callable[[Answer], None] = lambda answer: None,
) -> list[Answer]:
    """Ask every question about each of `contracts`, one at a time; each answer is logged and returned.

    Raises BrokerUnreachable when the connection is lost.
    """
    lookup, pace, answers = Lookup(session), session.pace(settings.acquisition), []
    for contract in contracts:
        for question in QUESTIONS:
            await pace.message()
            answer = _answer(contract, question, await _bars(lookup, contract, question))
            log.info(
                "history_probed",
                symbol=contract.symbol,
                kind=question.kind,
                bar_size=question.bar_size,
                bars=answer.bars,
                volume=answer.volume,
                error=answer.error and answer.error.message,
            )
            answers.append(answer)
            on_answer(answer)
            await asyncio.sleep(BETWEEN_S)
    return answers


async def _bars(lookup: Lookup, contract: OptionContract, question: Question) -> list[Bar] | RequestError:
    async def ask() -> list[Bar] | RequestError:
        try:
            return await lookup.bars(
                contract, question.kind, question.bar_size, question.duration, timeout_s=ANSWER_TIMEOUT_S
            )
        except TimeoutError:
            return RequestError(0, f"no answer within {ANSWER_TIMEOUT_S:g} s")

    return await AsyncRetrying(
        retry=retry_if_result(lambda found: isinstance(found, RequestError) and "pacing violation" in found.message),
        stop=stop_after_attempt(PACING_TRIES),
        wait=wait_fixed(PACING_WAIT_S),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )(ask)


def _answer(contract: OptionContract, question: Question, found: list[Bar] | RequestError) -> Answer:
    if isinstance(found, RequestError):
        return Answer(contract, question, 0, None, None, 0, found)
    first, last = (found[0].start, found[-1].start) if found else (None, None)
    # IB writes -1 for a bar without trades.
    volume = sum(known_count("volume", bar.volume) or 0 for bar in found)
    return Answer(contract, question, len(found), first, last, volume, None)
