"""Which session an observed open interest describes. Pure.

IB's tick has no date: it turns over overnight, contract by contract, at a time that IB does not state. The chain tells
whether it has begun to: a session in which contracts traded changes their open interest, and by no more than was
traded. Which contracts it has reached, each of them tells for itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

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

    `before` is None without an earlier observation. `whole` says that the volume was seen after the close; one seen
    earlier is a part of it, and bounds nothing. `published` says that `now` was observed after the time at which the
    clearing house is expected to have published.
    """

    before: int | None
    now: int
    volume: int
    whole: bool = True
    published: bool = True

    @property
    def traded(self) -> bool:
        """Whether the contract is known to have traded."""
        return self.volume > 0

    @property
    def moved(self) -> int:
        """By how much open interest has changed; 0 without an earlier observation."""
        return 0 if self.before is None else abs(self.now - self.before)

    @property
    def allowed(self) -> bool:
        """Whether the session's volume allows the change."""
        return not self.whole or self.moved <= self.volume


def has_turned_over(chain: Iterable[Evidence]) -> bool | None:
    """Whether a chain shows values of the session whose volume is given; None when too little was traded to tell.

    The contracts that traded decide: do some show changes, and are those within the session's volume? True does not say
    that every contract shows its new value.
    """
    compared = [one for one in chain if one.before is not None]
    traded = [one for one in compared if one.traded]
    if len(traded) < LEAST_EVIDENCE:
        return None
    changed = sum(one.moved > 0 for one in traded) / len(traded)
    bounded = [one for one in compared if one.whole]
    beyond = sum(not one.allowed for one in bounded)
    implausible = beyond / len(bounded) if len(bounded) >= LEAST_EVIDENCE else 0.0
    return changed >= LEAST_CHANGED and implausible <= MOST_IMPLAUSIBLE


def is_settled(evidence: Evidence, *, turned_over: bool, last: bool) -> bool:
    """Whether a contract's value describes the session, given whether its chain has `turned_over`; else ask again.

    A change within the volume is the new value. No change is the new value too where nothing was traded; where
    something was, or may have been after the volume was seen, it can as well be the old one. Without an earlier
    observation the clock decides. What is still open at the `last` attempt is taken as it stands.
    """
    if not turned_over:
        return False
    if last:
        return True
    if evidence.before is None:
        return evidence.published
    if evidence.moved:
        return evidence.allowed
    return evidence.whole and not evidence.traded


def described_sessions(
    trade_date: date,
    chains: Mapping[str, Mapping[int, Evidence]],
    last: bool,
    settled: Mapping[str, Iterable[Evidence]] | None = None,
) -> dict[int, date]:
    """By conid the session that its observed open interest describes: `trade_date`, or the session before it.

    `chains` are the observations by underlying and conid; `settled` are those that earlier attempts settled: evidence
    of their chains, since what is asked again is what had not changed. A chain that has too little evidence of its own
    is judged by that of all together, as the clearing house publishes all options at once; without any the clock
    decides. What is not settled (`is_settled`) is dated to the session before.
    """
    settled = settled or {}
    evidence = {underlying: [*settled.get(underlying, ()), *chain.values()] for underlying, chain in chains.items()}
    verdicts = {underlying: has_turned_over(known) for underlying, known in evidence.items()}
    together = (
        has_turned_over([one for known in evidence.values() for one in known]) if None in verdicts.values() else None
    )
    before = previous_session(trade_date).trade_date
    described = {}
    for underlying, chain in chains.items():
        verdict = together if verdicts[underlying] is None else verdicts[underlying]
        for conid, one in chain.items():
            turned_over = one.published if verdict is None else verdict
            described[conid] = trade_date if is_settled(one, turned_over=turned_over, last=last) else before
    return described
