"""Progress for people: bars on a terminal, nothing elsewhere (the log has one line a batch)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from flows.show import err
from ingest.capture import Outcome


class CaptureProgress:
    """Counts outcomes of batches on a progress bar."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress, self._label = progress, label
        self._task = progress.add_task(label, total=None)

    def batch(self, name: str, contracts: int) -> None:
        """A batch begins."""
        self._progress.reset(self._task, total=contracts, description=f"{self._label}, batch {name}")

    def outcome(self, _outcome: Outcome) -> None:
        """A contract is settled."""
        self._progress.advance(self._task)


@contextmanager
def capture_progress(label: str) -> Iterator[CaptureProgress]:
    """A bar with counts, rate and time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        yield CaptureProgress(progress, label)


@contextmanager
def status(label: str) -> Iterator[Callable[[str], None]]:
    """A spinner whose text can be changed by calling what is yielded."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(label, total=None)
        yield lambda text: progress.update(task, description=f"{label}: {text}")
