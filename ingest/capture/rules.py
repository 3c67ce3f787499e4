"""The rules of a capture. Pure."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class CaptureRules:
    """How a capture goes about it; seconds are wall-clock, `ends_at` is pipeline time (None: no end).

    A request has `timeout_s` and `retries` further tries; `probe_s` is how often one is sent during an outage all the
    same. With `delayed_fallback` a missing permission for live data is answered by asking for delayed data. Where IB
    permits only a part, the market has `partial_s` to show itself.
    """

    timeout_s: float
    retries: int
    ends_at: datetime | None = None
    delayed_fallback: bool = True
    probe_s: float = 15.0
    partial_s: float = 2.0
