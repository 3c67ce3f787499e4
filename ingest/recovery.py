"""Journals that interrupted runs have left: their answers go into the lake, exactly once.

Whoever captures next on this host, repairs, serves or watches does this first, so that only what is really missing is
asked again. A journal whose run is alive is locked, and is left alone; so is one of another lake.
"""

import asyncio
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import IO, Any

import structlog

from ingest.calendar.clock import Clock
from ingest.journal import SUFFIX, Contents, read
from ingest.runs import Run
from lake.errors import LakeError
from lake.reads import reader
from lake.store import Lake

log = structlog.get_logger(__name__)

FOLDER = "journal"
SET_ASIDE = "set_aside"


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a journal was: the run that left it, how many answers it held, and how many of them the lake did not have.

    `published`: the trade date has a publication, which does not know of them yet.
    """

    step: str
    trade_date: date
    slot_30m: int | None
    batch: str | None
    answers: int
    committed: int
    published: bool

    def __str__(self) -> str:
        what = f"{self.step} {self.trade_date}" + ("" if self.slot_30m is None else f" slot {self.slot_30m}")
        build = f"; build the day again: chainlake rollup --date {self.trade_date}" if self.rebuild else ""
        return f"{self.committed:,} answers of an interrupted {what} (batch {self.batch or '-'}) are in the lake{build}"

    @property
    def rebuild(self) -> bool:
        """Whether the trade date was published without these answers."""
        return self.published and self.committed > 0


def journal_path(state: Path, run: Run) -> Path:
    """Where a run keeps its journal."""
    return state / FOLDER / f"{run.ingest_id}{SUFFIX}"


def left_behind(state: Path) -> list[Path]:
    """Journals in `state` that no living run holds, oldest first."""
    found = []
    for path in sorted((state / FOLDER).glob(f"*{SUFFIX}")):
        with _unheld(path) as file:
            if file is not None:
                found.append(path)
    return found


def recover(lake: Lake, state: Path, clock: Clock) -> list[Recovered]:
    """Commit what interrupted runs on this host had answers of, each under its own application id and attempt.

    Raises LakeError, and keeps the journals, when the lake does not take them. A journal whose header is not whole, and
    one of a date whose quotes retention has taken since, are set aside and named in the log.
    """
    recovered = []
    for path in sorted((state / FOLDER).glob(f"*{SUFFIX}")):
        with _unheld(path) as file:
            if file is None:
                continue
            contents = read(file)
            if not contents.header:
                _set_aside(path, "its beginning is damaged")
            elif (contents.header["lake"], contents.header["created_at"]) != (lake.root, lake.created_at):
                log.info("journal_of_another_lake", journal=str(path), lake=contents.header["lake"])
            elif _is_retired(lake, date.fromisoformat(contents.header["trade_date"])):
                _set_aside(path, "the quotes of its trade date have left the lake")
            else:
                recovered.append(_commit(lake, state, clock, contents))
                path.unlink()
    return recovered


async def recover_answers(state: Path, lake: Lake, clock: Clock) -> list[Recovered]:
    """Commit what interrupted captures on this host had answers of, before it counts as missing.

    A lake that does not take them now keeps nobody from the rest: the journals stay, and the watchdog tells of them.
    """
    try:
        return await asyncio.to_thread(recover, lake, state, clock)
    except LakeError as reason:
        log.error("journals_left", reason=str(reason))
        return []


def header_of(run: Run, lake: Lake) -> dict[str, Any]:
    """What a journal has to know to be committed without its run."""
    return {
        "lake": lake.root,
        "created_at": lake.created_at,
        "step": run.step,
        "trade_date": run.trade_date.isoformat(),
        "trigger": run.trigger,
        "started_at": run.started_at.isoformat(),
        "view": run.view,
        "slot_30m": run.slot_30m,
        "batch": run.batch,
        "attempt": run.attempt,
        "gateway": run.gateway,
        "ingest_id": run.ingest_id,
    }


def _run_of(header: dict[str, Any]) -> Run:
    known = {name: value for name, value in header.items() if name not in ("lake", "created_at")}
    known |= {
        "trade_date": date.fromisoformat(header["trade_date"]),
        "started_at": datetime.fromisoformat(header["started_at"]),
    }
    return Run(**known)


def _commit(lake: Lake, state: Path, clock: Clock, contents: Contents) -> Recovered:
    assert contents.header is not None
    run, committed = _run_of(contents.header), 0
    for table, rows in sorted(contents.rows.items(), reverse=True):
        # Its run may have committed them before it died, and longer ago than Delta remembers ids.
        if run.stored(lake, table) == 0 and lake.append(table, rows, run.rows_id, run.attempt):
            committed += len(rows)
            run.count(len(rows), failed=sum(bool(row.get("snapshot_error")) for row in rows))
    run.status = "partial"
    torn = f", and {contents.dropped:,} bytes that were cut short" if contents.dropped else ""
    run.message = f"interrupted: {committed:,} answers were committed from its journal{torn}"
    run.error("interrupted", run.message, clock.now())
    run.record(lake, clock, state)
    with reader(lake) as reads:
        published = reads.verdict(run.trade_date) is not None
    found = Recovered(run.step, run.trade_date, run.slot_30m, run.batch, contents.count, committed, published)
    log.warning("journal_committed", recovered=str(found), dropped_bytes=contents.dropped)
    return found


def _is_retired(lake: Lake, day: date) -> bool:
    with reader(lake) as reads:
        return bool(reads.retired([day]))


def _set_aside(path: Path, reason: str) -> None:
    place = path.parent / SET_ASIDE
    place.mkdir(exist_ok=True)
    path.rename(place / path.name)
    log.error("journal_set_aside", journal=str(place / path.name), reason=reason)


@contextmanager
def _unheld(path: Path) -> Iterator[IO[bytes] | None]:
    """The journal at `path`, locked, so that nobody else recovers it; None while its run lives, or when it is gone."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        # Whoever held the lock before may have removed the file, and be done.
        yield file if path.exists() else None
