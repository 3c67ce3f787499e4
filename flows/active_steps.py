"""Which steps are at work on this host now. A capture is recorded when it ends: until then this is its only trace.

A step holds a lock of the operating system on a file of ``<state>/active_steps``: one that was killed is gone too.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path


@contextmanager
def active_step(state: Path, step: str, trade_date: date, slot_30m: int | None = None) -> Iterator[None]:
    """Let others see that a step works on a trade date, or on a slot of it."""
    path = state / "active_steps" / step_key(step, trade_date, slot_30m)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        # Shared: a repair beside a scheduled run is at work as well.
        fcntl.flock(file, fcntl.LOCK_SH)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def active_steps(state: Path) -> set[str]:
    """The names of the steps that are at work."""
    return {path.name for path in (state / "active_steps").glob("*") if _held(path)}


def step_key(step: str, trade_date: date, slot_30m: int | None = None) -> str:
    """The name of a step: with its trade date, and its slot if it has one."""
    return f"{step} {trade_date}" if slot_30m is None else f"{step} {trade_date} {slot_30m}"


def _held(path: Path) -> bool:
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    # Left behind by a step that was killed.
    path.unlink(missing_ok=True)
    return False
