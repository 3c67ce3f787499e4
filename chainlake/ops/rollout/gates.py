"""The stage of the rollout, and what the gates say of a lake's stored days."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from chainlake.ops.rollout import rules
from chainlake.ops.rollout.journal import Journal
from chainlake.ops.rollout.read import first_recorded, read_days
from chainlake.ops.rollout.rules import Result
from ingest.calendar.sessions import last_completed, next_session, previous_session, session_on, sessions_between
from ingest.open_interest.enrichment import attempts_at
from ingest.settings import Settings
from lake.reads import Reader
from lake.store import Lake

# What each stage captures, and its preset (requirement R29).
STAGES = ("AAPL", "AAPL and MSFT", "the ten largest", "the S&P 500")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one gate says: of a promotion to `stage`, or (`watching`) of keeping it."""

    stage: int
    watching: bool
    results: tuple[Result, ...]
    days: tuple[date, ...]
    needed: int

    @property
    def holds(self) -> bool:
        """Whether every rule passes."""
        return all(result.passed for result in self.results)

    @property
    def failed(self) -> list[str]:
        """The rules that do not pass."""
        return [result.rule for result in self.results if not result.passed]

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if not self.watching:
            if self.holds:
                return f"the gate to stage {self.stage} holds"
            return f"the gate to stage {self.stage} does not hold: {', '.join(self.failed)}"
        if not self.holds:
            return (
                f"roll back from stage {self.stage} ({', '.join(self.failed)}): "
                f'chainlake gate --stage {self.stage} --roll-back "name: reason"'
            )
        seen = len(self.days)
        if seen < self.needed:
            return f"stage {self.stage} is kept so far: {seen} of {self.needed} watched sessions are over"
        return f"stage {self.stage} is kept: its {self.needed} watched sessions are over"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return {
            "stage": self.stage,
            "kind": "watch" if self.watching else "promotion",
            "holds": self.holds,
            "verdict": self.sentence,
            "sessions_needed": self.needed,
            "days": list(self.days),
            "rules": [
                {
                    "rule": result.rule,
                    "value": result.value,
                    "threshold": result.threshold,
                    "days": list(result.days),
                    "passed": result.passed,
                    "reason": result.reason,
                }
                for result in self.results
            ],
        }


@dataclass(frozen=True, slots=True)
class Position:
    """The stage of the rollout: `since` is the first session at the stage (without decisions the first recorded)."""

    stage: int
    since: date | None
    decided: bool

    @property
    def words(self) -> str:
        """The position in words."""
        since = f" since {self.since}" if self.since else ""
        return f"stage {self.stage} ({STAGES[self.stage]}){since}{'' if self.decided else ', no decision recorded'}"


def position(reads: Reader, journal: Journal) -> Position:
    """The stage of the rollout by its journal."""
    return Position(journal.stage, journal.since or first_recorded(reads), bool(journal.moves))


def last_judgeable(now: datetime, settings: Settings) -> date:
    """The latest session whose numbers are all due: its open interest was asked for the last time."""
    session = last_completed(now)
    while attempts_at(session.trade_date, settings)[-1] > now:
        session = previous_session(session.trade_date)
    return session.trade_date


def last_reported(now: datetime, settings: Settings) -> date:
    """The latest session whose daily report is due: its coverage is known, its open interest need not be."""
    session = last_completed(now)
    while session.at(settings.schedule.daily_report_at) > now:
        session = previous_session(session.trade_date)
    return session.trade_date


def judged_by(lake: Lake, reads: Reader, now: datetime, settings: Settings, *, watching: bool = False) -> date:
    """The session by which a gate is judged unless another is named: `last_judgeable`, or of a watch `last_reported`.

    Simulated and replayed days are on the market's clock and not on the host's: there it is the last stored one.
    """
    if not lake.origin.startswith("ibkr") and (stored := reads.latest_date()):
        return stored
    return last_reported(now, settings) if watching else last_judgeable(now, settings)


def promotion(reads: Reader, journal: Journal, stage: int, day: date) -> Verdict:
    """Whether the sessions up to `day` open `stage`. With decisions recorded, only those at the stage before count."""
    needed = rules.PROMOTION_DAYS[stage]
    first = _sessions_ending(day, needed)[0]
    current = position(reads, journal)
    own = current.since if current.decided else None
    days = [session.trade_date for session in sessions_between(max(first, own or first), day)]
    facts = read_days(reads, days, journal.causes)
    results = rules.promotion(stage, facts)
    if current.decided:
        results.insert(0, _in_order(stage, current))
    return Verdict(stage, False, tuple(results), tuple(days), needed)


def watch(reads: Reader, journal: Journal, day: date) -> Verdict | None:
    """Whether stage 1 may be kept by its first three sessions, as far as they are over by `day`.

    None when the rollout is not at stage 1.
    """
    if journal.stage != rules.WATCHED_STAGE or journal.since is None:
        return None
    days = watched_days(journal.since, day)
    facts = read_days(reads, days, journal.causes)
    return Verdict(rules.WATCHED_STAGE, True, tuple(rules.watch(facts)), tuple(days), rules.WATCHED_DAYS)


def watched_days(since: date, day: date) -> list[date]:
    """The first three sessions from `since` on, as far as they are over by `day`."""
    return [session.trade_date for session in sessions_between(since, day)][: rules.WATCHED_DAYS]


def next_gate(current: Position, day: date) -> str:
    """The next gate of the rollout, and the day on which it can hold at the earliest."""
    if current.stage == rules.LAST_STAGE:
        return "the last stage is reached: go on watching the weekly report"
    target = current.stage + 1
    needed = rules.PROMOTION_DAYS[target]
    done = sessions_between(current.since, day) if current.since else []
    missing = max(0, needed - len(done))
    if not missing:
        return f"next: the gate to stage {target}, chainlake gate --stage {target}"
    last = day
    for _ in range(missing):
        last = next_session(last).trade_date
    return (
        f"next: the gate to stage {target} looks at {needed} sessions, {len(done)} so far; "
        f"at the earliest on the morning after {last}"
    )


def _in_order(stage: int, current: Position) -> Result:
    passed = stage == current.stage + 1
    reason = ""
    if not passed:
        reason = (
            f"stage {stage} is reached already"
            if stage <= current.stage
            else f"the gate to stage {current.stage + 1} comes first"
        )
    return Result("stage", str(current.stage), f"at stage {stage - 1}", (), passed, reason)


def _sessions_ending(day: date, count: int) -> list[date]:
    """The last `count` sessions up to `day`, in order."""
    days = [day] if session_on(day) else [previous_session(day).trade_date]
    while len(days) < count:
        days.insert(0, previous_session(days[0]).trade_date)
    return days
