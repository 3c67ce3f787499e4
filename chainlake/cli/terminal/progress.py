"""Progress for people: bars on a terminal, nothing elsewhere (the log has one line a batch)."""

import logging
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from chainlake.cli.terminal.show import err
from ingest.capture import Outcome


class SlotProgress:
    """A bar for the slot and one for each batch that runs; a `SlotObserver`."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._slot = progress.add_task(label, total=None, detail=lambda task: "")
        self._batches: dict[str, TaskID] = {}
        self._left: dict[str, int] = {}
        self._total = self._failed = 0

    def slot_began(
        self, batches: dict[str, int], seconds_left: Callable[[], float], bound: Callable[[], float]
    ) -> None:
        """A slot begins: its contracts by batch, the time it has, and what its limits allow."""
        self._left = dict(batches)
        self._total = sum(batches.values())

        def detail(task: Task) -> str:
            words = [f"{task.speed or 0:.1f} of {bound():.1f}/s", f"{self._failed:,} failed"]
            if math.isfinite(left := seconds_left()):
                words.append(f"window ends in {int(left) // 60}:{int(left) % 60:02d}")
            return ", ".join(words)

        self._progress.update(self._slot, total=self._total, detail=detail)

    def batch_began(self, batch: str, gateway: str, contracts: int) -> None:
        """A batch begins, or goes on elsewhere: what failed with its gateway is asked once more."""
        self._total += contracts - self._left.get(batch, 0)
        self._left[batch] = contracts
        self._progress.update(self._slot, total=self._total)
        self._batches[batch] = self._progress.add_task(
            f"  {batch}", total=contracts, detail=lambda task: f"{task.speed or 0:.1f}/s, {gateway}"
        )

    def settled(self, batch: str, outcome: Outcome) -> None:
        """A contract is settled."""
        self._left[batch] -= 1
        self._failed += outcome.failure is not None
        self._progress.advance(self._slot)
        self._progress.advance(self._batches[batch])

    def batch_ended(self, batch: str) -> None:
        """A batch is done, or given back."""
        self._progress.remove_task(self._batches.pop(batch))


class _Detail(ProgressColumn):
    """What a task says of itself each time it is drawn."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["detail"](task))


@contextmanager
def slot_progress(label: str, console: Console = err) -> Iterator[SlotProgress]:
    """Bars with counts and rate against the bound, failures and the time left in the window."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(30), MofNCompleteColumn(), _Detail())
    with _bars(*columns, console=console) as progress:
        yield SlotProgress(progress, label)


@contextmanager
def count_progress(label: str) -> Iterator[Callable[[Outcome], None]]:
    """A bar that counts the outcomes which it is called with."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with _bars(*columns) as progress:
        task = progress.add_task(label, total=None)
        yield lambda _outcome: progress.advance(task)


@contextmanager
def status(label: str) -> Iterator[Callable[[str], None]]:
    """A spinner whose text can be changed by calling what is yielded."""
    with _bars(SpinnerColumn(), TextColumn("{task.description}", markup=False)) as progress:
        task = progress.add_task(label, total=None)
        yield lambda text: progress.update(task, description=f"{label}: {text}")


@contextmanager
def _bars(*columns: ProgressColumn, console: Console = err) -> Iterator[Progress]:
    plain = sys.stderr
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        # The bars have put a stream of theirs in the place of stderr, which prints above them: so must the log.
        _log_to(plain, sys.stderr)
        try:
            yield progress
        finally:
            _log_to(sys.stderr, plain)


def _log_to(old: TextIO, new: TextIO) -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is old:
            handler.setStream(new)
