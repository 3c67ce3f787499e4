"""What a probe of a gateway found out, and where that is kept."""

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from ingest.capture.modes import LineOccupancy
from ingest.settings import MOST_CONNECTIONS

log = structlog.get_logger(__name__)

FORMAT = 1
FOLDER = "probes"
# Of the 32 that IB allows, these are left to other programs of the account's owner, and to connections that IB has not
# noticed are dead.
SPARE_CONNECTIONS = 4


class Latency(BaseModel):
    """Wall-clock milliseconds from a request to what was waited for, over `samples` requests that got it."""

    model_config = ConfigDict(frozen=True)

    samples: int
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float | None]) -> "Latency | None":
        """Of those that came, nearest rank; None when none did."""
        came = sorted(value for value in seconds if value is not None)
        if not came:
            return None
        return cls(samples=len(came), p50_ms=_rank(came, 0.50), p99_ms=_rank(came, 0.99))


class ProbeResult(BaseModel):
    """What one probe found out. None stands for "could not be told"; `notes` then say why.

    `quote` is the time until both sides were told, `model` until IV and delta were, `snapshot` until IB ended it.
    `streaming_hold_ms` and `snapshot_hold_ms` are mean times for which a request of either kind is open in a capture,
    contracts that never answered included. `rate_per`: whether each connection has the message rate, or the session.
    `connections_to_lines`: how many connections it takes until lines are the bound, however many IB lets in.
    `errors` counts refused requests by code.
    """

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    chainlake: str
    probed_at: datetime
    gateway: str
    origin: str
    lines: int
    messages_per_second: float
    cancels_count: bool | None = None
    excess_messages: str | None = None
    rate_per: Literal["connection", "session"] | None = None
    connections_to_lines: int | None = None
    snapshots_hold_lines: bool | None = None
    quote: Latency | None = None
    model: Latency | None = None
    snapshot: Latency | None = None
    asked: int = 0
    streaming_hold_ms: float | None = None
    snapshot_hold_ms: float | None = None
    snapshots_asked: int = 0
    snapshots_with_model: int = 0
    messages: int = 0
    pacing_errors: int = 0
    errors: dict[int, int] = {}
    seconds: float = 0
    notes: tuple[str, ...] = ()

    @property
    def cancels_free(self) -> bool | None:
        """Whether a cancel costs no message."""
        return None if self.cancels_count is None else not self.cancels_count

    @property
    def occupancy(self) -> LineOccupancy:
        """How long a contract is asked, as far as it was measured: capture counts a line for it, free or not."""

        def seconds(milliseconds: float | None) -> float | None:
            return None if milliseconds is None else milliseconds / 1000

        return LineOccupancy(seconds(self.streaming_hold_ms), seconds(self.snapshot_hold_ms))


def store(result: ProbeResult, state: Path) -> Path:
    """Keep `result` as the one of its gateway and kind of account; returns the file."""
    folder = state / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{_stem(result.gateway)}_{result.origin}.json"
    draft = file.with_suffix(".json.new")
    draft.write_text(result.model_dump_json(indent=2) + "\n")
    draft.replace(file)
    return file


def connections_to_fill(lines: int, rate: float, line_seconds: float, *, cancels_free: bool) -> int:
    """How many connections of `rate` messages a second each it takes to keep `lines` lines in use.

    A contract holds a line for `line_seconds`, and takes two messages, or one where cancels are free.
    """
    # Also for the NaN of a file that somebody has edited.
    if not line_seconds > 0:
        return MOST_CONNECTIONS
    messages = (1 if cancels_free else 2) * lines / line_seconds
    # A rounding error is no reason for another connection.
    return max(1, math.ceil(messages / rate - 1e-9))


def connections_for(
    setting: int | Literal["auto"], probed: ProbeResult | None, lines: int, rate: float, line_seconds: float
) -> int:
    """How many connections to open to a gateway of `lines` lines and `rate` messages a second a connection.

    A number is taken as it is; ``auto`` is 1 unless a probe of this gateway has found that IB paces each connection,
    and then as many as keep all lines in use, with some of the 32 left to others. Never more than there are lines.
    """
    if setting != "auto":
        wanted = setting
    elif probed is None or probed.rate_per != "connection":
        wanted = 1
    else:
        enough = connections_to_fill(lines, rate, line_seconds, cancels_free=probed.cancels_free is True)
        wanted = min(enough, MOST_CONNECTIONS - SPARE_CONNECTIONS)
    return max(1, min(wanted, lines))


def stored(state: Path, gateway: str, origin: str | None = None) -> ProbeResult | None:
    """The latest result for a gateway (``host:port``); None without one of this format.

    With `origin` only of that kind of account: a simulated gateway may have stood where a real one is now.
    """
    results = []
    for file in sorted((state / FOLDER).glob(f"{_stem(gateway)}_*.json")):
        try:
            results.append(ProbeResult.model_validate_json(file.read_text()))
        except (OSError, ValidationError) as error:
            log.warning("probe_unreadable", file=str(file), error=str(error).splitlines()[0])
    results = [one for one in results if one.format == FORMAT and origin in (None, one.origin)]
    return max(results, key=lambda one: one.probed_at, default=None)


def _stem(gateway: str) -> str:
    host, _, port = gateway.rpartition(":")
    return f"{host.replace(':', '-')}_{port}"


def _rank(ascending: Sequence[float], share: float) -> float:
    return round(1000 * ascending[math.ceil(share * len(ascending)) - 1], 1)
