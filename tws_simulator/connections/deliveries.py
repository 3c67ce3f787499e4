"""The delivery log: which contracts' complete answers have gone to which client, and when. One JSON object a line."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Answer:
    """What a subscription has been told for the first time in full.

    ``bid`` and ``ask``: dollars, None for a side without a market (price -1). ``model``: whether there were greeks in
    the model tick; an underlying has none, and before the open an option has none.
    """

    req_id: int
    conid: int
    bid: float | None
    ask: float | None
    model: bool


class DeliveryLog:
    """Appends to a file; each line is on the disk's side when `note` returns. Raises OSError when it cannot."""

    def __init__(self, file: Path, host_time: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._file = file.open("a", encoding="utf-8")
        self._host_time = host_time

    def note(self, client_id: int | None, now: datetime, answers: Iterable[Answer]) -> None:
        """Write down answers whose bytes the operating system has taken; `now` is the market's time."""
        at = _text(self._host_time())
        head = {"at": at, "now": _text(now), "client_id": client_id}
        self._file.write("".join(json.dumps(head | asdict(answer)) + "\n" for answer in answers))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
