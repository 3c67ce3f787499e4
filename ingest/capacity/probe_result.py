"""What a probe of a gateway found out, and where that is kept."""

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from ingest.capture.modes import LineOccupancy

log = structlog.get_logger(__name__)

FORMAT = 1
FOLDER = "probes"


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
    contracts that never answered included. `errors` counts refused requests by code.
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


def stored(state: Path, gateway: str) -> ProbeResult | None:
    """The latest result for a gateway (``host:port``), of whatever account; None without one of this format."""
    results = []
    for file in sorted((state / FOLDER).glob(f"{_stem(gateway)}_*.json")):
        try:
            results.append(ProbeResult.model_validate_json(file.read_text()))
        except (OSError, ValidationError) as error:
            log.warning("probe_unreadable", file=str(file), error=str(error).splitlines()[0])
    return max((one for one in results if one.format == FORMAT), key=lambda one: one.probed_at, default=None)


def _stem(gateway: str) -> str:
    host, _, port = gateway.rpartition(":")
    return f"{host.replace(':', '-')}_{port}"


def _rank(ascending: Sequence[float], share: float) -> float:
    return round(1000 * ascending[math.ceil(share * len(ascending)) - 1], 1)
