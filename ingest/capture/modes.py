"""The two ways to ask for a quote, and which gives more contracts a second. Pure."""

from dataclasses import dataclass
from typing import Literal

Mode = Literal["streaming", "snapshot"]
# Streaming: subscribe and cancel, and IB counts both. A snapshot ends by itself.
MESSAGES: dict[Mode, int] = {"streaming": 2, "snapshot": 1}


def messages_of(mode: Mode, cancels_free: bool = False) -> int:
    """Messages that a contract takes; with `cancels_free` IB does not count cancels."""
    return 1 if cancels_free else MESSAGES[mode]


@dataclass(frozen=True, slots=True)
class LineOccupancy:
    """How many seconds a contract holds a market data line, by mode; 0 where it holds none, None where unmeasured."""

    streaming_s: float | None = None
    snapshot_s: float | None = None


UNMEASURED = LineOccupancy()


def contracts_per_second(
    mode: Mode, lines: int, messages_per_second: float, line_seconds: float, *, cancels_free: bool = False
) -> float:
    """The most contracts a second that lines and messages allow when each holds a line for `line_seconds`."""
    by_messages = messages_per_second / messages_of(mode, cancels_free)
    return min(by_messages, lines / line_seconds) if line_seconds > 0 else by_messages


def faster_mode(
    lines: int, messages_per_second: float, occupancy: LineOccupancy, *, cancels_free: bool = False
) -> Mode:
    """The mode with more contracts a second; streaming when that is open, because it shows open interest too."""
    if occupancy.streaming_s is None or occupancy.snapshot_s is None:
        return "streaming"
    streaming = contracts_per_second(
        "streaming", lines, messages_per_second, occupancy.streaming_s, cancels_free=cancels_free
    )
    snapshot = contracts_per_second("snapshot", lines, messages_per_second, occupancy.snapshot_s)
    return "snapshot" if snapshot > streaming else "streaming"


def mode_of(
    setting: Literal["streaming", "snapshot", "auto"],
    lines: int,
    messages_per_second: float,
    occupancy: LineOccupancy,
    *,
    interest_needed: bool,
    cancels_free: bool = False,
) -> Mode:
    """The mode for a capture: the `setting`, or for ``auto`` the faster one unless open interest must be shown."""
    if setting != "auto":
        return setting
    if interest_needed:
        return "streaming"
    return faster_mode(lines, messages_per_second, occupancy, cancels_free=cancels_free)
