"""The rollout's decisions, in ``<state>/rollout.jsonl``: one JSON object a line, only ever appended.

Who decided what, when, on which days, by which values of the rules, and with which deviation from them. The stage is
what the decisions amount to; without any it is 0.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from chainlake.ops.rollout.rules import LAST_STAGE, Result
from ingest.calendar.sessions import NEW_YORK, next_session, session_on
from ingest.errors import UsageError
from ingest.settings import first_mistake

FILE = "rollout.jsonl"
# What the file was called up to version 0.1: its lines are still read, before those of the new one.
OLD_FILE = "ladder.jsonl"


class RuleValue(BaseModel):
    """A rule as it stood when it was decided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str
    value: str
    threshold: str
    passed: bool
    reason: str = ""


class Entry(BaseModel):
    """One line: an approval or a way back (`stage` is the one moved to), or the cause of a pacing violation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: AwareDatetime
    decision: Literal["approve", "roll_back", "explain_pacing"]
    stage: Annotated[int, Field(ge=0, le=LAST_STAGE)]
    by: str = ""
    reason: str
    deviation: str | None = None
    window: tuple[date, ...] = ()
    rules: tuple[RuleValue, ...] = ()
    trade_date: date | None = None


@dataclass(frozen=True, slots=True)
class Journal:
    """All entries in their order."""

    path: Path
    entries: tuple[Entry, ...] = ()

    @property
    def moves(self) -> tuple[Entry, ...]:
        """The decisions that changed the stage."""
        return tuple(entry for entry in self.entries if entry.decision != "explain_pacing")

    @property
    def stage(self) -> int:
        """The present stage."""
        return self.moves[-1].stage if self.moves else 0

    @property
    def since(self) -> date | None:
        """The first session at the present stage: the first that opens after the decision. None without decisions."""
        return first_session_after(self.moves[-1].at) if self.moves else None

    @property
    def causes(self) -> dict[date, str]:
        """What is recorded as the cause of pacing violations, by trade date; the last word counts."""
        return {entry.trade_date: entry.reason for entry in self.entries if entry.trade_date is not None}

    def append(self, entry: Entry) -> "Journal":
        """The journal with one more entry, which is on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = entry.model_dump_json(exclude_defaults=True) + "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        return Journal(self.path, (*self.entries, entry))


def read_journal(state: Path) -> Journal:
    """The journal of a state folder, empty where there is none. Raises UsageError, naming the line, when damaged."""
    return Journal(state / FILE, (*_entries(state / OLD_FILE), *_entries(state / FILE)))


def _entries(path: Path) -> list[Entry]:
    if not path.exists():
        return []
    entries = []
    text = path.read_bytes()
    for place, line in enumerate(text.splitlines(), 1):
        try:
            entries.append(Entry.model_validate(json.loads(line)))
        except ValidationError as error:
            raise _damaged(path, place, first_mistake(error)) from None
        except ValueError:
            raise _damaged(path, place, "not a JSON object") from None
    if text and not text.endswith(b"\n"):
        raise _damaged(path, len(entries), "it does not end")
    return entries


def decided(
    decision: Literal["approve", "roll_back"],
    stage: int,
    signed: str,
    deviation: str | None,
    results: Sequence[Result],
    now: datetime,
) -> Entry:
    """An entry for a decision of `signed` (``name: reason``). Raises UsageError for one without name or reason."""
    # A full-width colon is what a Chinese keyboard gives.
    by, _, reason = (part.strip() for part in signed.replace("：", ":", 1).partition(":"))
    if not by or not reason:
        raise UsageError(f'{signed!r} says not who and why: write it as "name: reason"')
    days = sorted({day for result in results for day in result.days})
    return Entry(
        at=now,
        decision=decision,
        stage=stage,
        by=by,
        reason=reason,
        deviation=deviation,
        window=(days[0], days[-1]) if days else (),
        rules=tuple(
            RuleValue(
                rule=result.rule,
                value=result.value,
                threshold=result.threshold,
                passed=result.passed,
                reason=result.reason,
            )
            for result in results
        ),
    )


def explained(journal: Journal, day: date, cause: str, now: datetime) -> Entry:
    """An entry for the cause of the pacing violations of a session. Raises UsageError for an empty one."""
    if not cause.strip():
        raise UsageError("--explain-pacing: say what the cause was")
    return Entry(at=now, decision="explain_pacing", stage=journal.stage, reason=cause.strip(), trade_date=day)


def first_session_after(instant: datetime) -> date:
    """The first session that opens after `instant`."""
    today = instant.astimezone(NEW_YORK).date()
    session = session_on(today)
    return today if session and session.open > instant else next_session(today).trade_date


def _damaged(path: Path, line: int, what: str) -> UsageError:
    return UsageError(
        f"{path}, line {line}: {what}; it is the record of who approved which stage: "
        "mend that line from a backup, or delete it and decide again"
    )
