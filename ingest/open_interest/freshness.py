"""Which session an observed open interest describes. Pure.

IB's tick has no date: it turns over overnight, at a time that IB does not state. The chain itself tells: a session in
which contracts traded changes their open interest, and by no more than was traded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from ingest.calendar.sessions import previous_session

# Of the contracts that traded, real chains show most changed by the next morning; a value that has not turned over
# yet shows none. Half-way between "none" and the least seen on real days leaves room on both sides.
LEAST_CHANGED = 0.05
# |change| cannot exceed the session's volume: misdated chains break that in 30-45 % of the contracts, right ones in
# 0-3 %.
MOST_IMPLAUSIBLE = 0.15
LEAST_EVIDENCE = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one contract can tell: open interest known before, observed now, and the session's volume between.

    `whole` says that the volume was seen after the close; one seen earlier is a part of it, and bounds nothing.
    """

    before: int
    now: int
    volume: int
    whole: bool = True


def is_fresh(evidence: Sequence[Evidence]) -> bool | None:
    """Whether the observed values describe the session whose volume is given; None when too little was traded to tell.

    The contracts that traded decide: do they show changes, and are those within the session's volume?
    """
    traded = [e for e in evidence if e.volume > 0]
    if len(traded) < LEAST_EVIDENCE:
        return None
    changed = sum(e.now != e.before for e in traded) / len(traded)
    bounded = [e for e in evidence if e.whole]
    beyond = sum(abs(e.now - e.before) > e.volume for e in bounded)
    implausible = beyond / len(bounded) if len(bounded) >= LEAST_EVIDENCE else 0.0
    return changed >= LEAST_CHANGED and implausible <= MOST_IMPLAUSIBLE


def described_sessions(
    trade_date: date, chains: Mapping[str, Sequence[Evidence]], observed_at: datetime, published_at: datetime
) -> dict[str, date]:
    """By underlying the session that its observed open interest describes: `trade_date`, or the session before it.

    Each chain is judged by its own evidence; one that has too little of it by that of all together, since the clearing
    house publishes all options at once; without any evidence the clock decides (`published_at`).
    """
    verdicts = {underlying: is_fresh(chain) for underlying, chain in chains.items()}
    together = is_fresh([one for chain in chains.values() for one in chain]) if None in verdicts.values() else None
    otherwise = observed_at >= published_at if together is None else together
    before = previous_session(trade_date).trade_date
    return {
        underlying: trade_date if (otherwise if verdict is None else verdict) else before
        for underlying, verdict in verdicts.items()
    }
