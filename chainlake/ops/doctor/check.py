"""The result of one check, and a guard that lets the others go on when one breaks."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found, in words; `next_step` where it is not ok. `unreachable`: it failed for want of a broker."""

    name: str
    status: Status
    found: str
    next_step: str = ""
    unreachable: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return asdict(self)


def ok(name: str, found: str) -> Check:
    """Nothing to do."""
    return Check(name, "ok", found)


def warn(name: str, found: str, next_step: str) -> Check:
    """It works, but somebody should look at it."""
    return Check(name, "warn", found, next_step)


def fail(name: str, found: str, next_step: str) -> Check:
    """Capture, or what comes of it, would not work."""
    return Check(name, "fail", found, next_step)


def guarded(name: str, look: Callable[[], Iterable[Check]]) -> list[Check]:
    """The checks of `look`; what it raises becomes a check that failed."""
    checks: list[Check] = []
    try:
        checks.extend(look())
    except Exception as error:  # whatever is broken, the checks after it shall be made
        checks.append(fail(name, one_line(error), "mend what the message names, then run chainlake doctor again"))
    return checks


def one_line(error: BaseException) -> str:
    """The message of an error in one line, its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def exit_code(checks: Iterable[Check]) -> int:
    """0 when nothing failed, 3 when only the broker could not be reached, else 1."""
    failed = [check for check in checks if check.status == "fail"]
    if not failed:
        return 0
    return 3 if all(check.unreachable for check in failed) else 1
