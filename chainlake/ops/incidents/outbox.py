"""Alerts under way: written down before they are sent, and sent again until every destination has taken them, once.

``<state>/alerts/outbox`` holds one file a message that somebody still waits for; ``<state>/alerts/history.jsonl`` all
messages, in the order of their time. A message's id says what it is about, so that the same thing is never sent
twice. Files name a destination by its kind and number (``json 1``), never by its URL.
"""

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from chainlake.ops.incidents.alerts import AlertFailed, Channel
from chainlake.ops.incidents.causes import Severity
from lake.storage import write_object

log = structlog.get_logger(__name__)

# What nobody took for so long is given up: by then it is news to no one.
GIVEN_UP_AFTER = timedelta(days=7)
HISTORY = "history.jsonl"
# What the history was called up to version 0.1: it is still read.
OLD_HISTORY = "told.jsonl"


@dataclass(frozen=True, slots=True)
class Message:
    """One alert (with a severity) or all-clear (without), and the destinations that have not taken it yet."""

    id: str
    at: str
    title: str
    body: str
    severity: Severity | None
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outbox:
    """The messages of one state folder. Hold `locked` around what reads and then posts."""

    state: Path

    @property
    def folder(self) -> Path:
        """Where the alerts of the state folder are."""
        return self.state / "alerts"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process of this host at a time decide what is posted, and send it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def was_posted(self, message_id: str) -> bool:
        """Whether a message was posted before, delivered or not."""
        return any(line.get("id") == message_id for line in self.history())

    def history(self) -> list[dict[str, object]]:
        """Every message that was posted, oldest first. A line cut short by a crash is left out."""
        files = [self.folder / name for name in (OLD_HISTORY, HISTORY)]
        lines = [line for file in files if file.exists() for line in file.read_text().splitlines()]
        return [parsed for line in lines if (parsed := _parsed(line))]

    def post(
        self, channel: Channel, message_id: str, at: datetime, title: str, body: str, severity: Severity | None
    ) -> bool:
        """Write a message down for every destination of `channel`; False when it was posted before."""
        if self.was_posted(message_id):
            return False
        message = Message(message_id, at.isoformat(), title, body, severity, channel.kinds)
        if message.waiting:
            self._write(message)
        # The history comes last: a crash before it posts the same file again.
        with (self.folder / HISTORY).open("a") as lines:
            posted = asdict(message)
            lines.write(json.dumps({**posted, "to": posted.pop("waiting")}) + "\n")
        (log.info if severity is None else log.warning)("alert", title=title, severity=severity or "all-clear")
        return True

    def withdraw(self, message_id: str) -> None:
        """Take back a message that another host sends."""
        self._path(message_id).unlink(missing_ok=True)

    def waiting(self) -> list[Message]:
        """What somebody still waits for, oldest first."""
        found = []
        for path in (self.folder / "outbox").glob("*.json"):
            if content := _parsed(path.read_text()):
                found.append(Message(**{**content, "waiting": tuple(content["waiting"])}))  # type: ignore[arg-type]
            else:
                log.error("alert_unreadable", file=path.name)
                path.unlink()
        return sorted(found, key=lambda message: (message.at, message.id))

    def deliver(self, channel: Channel, now: datetime) -> int:
        """Send what waits, in order, to those who wait; returns how many messages still wait.

        A destination that fails is not tried again in this call: what comes after would arrive out of order.
        """
        by_name = {destination.name: destination for destination in channel.destinations}
        down: set[str] = set()
        for message in self.waiting():
            waiting = [name for name in message.waiting if name in by_name]
            if not waiting or datetime.fromisoformat(message.at) + GIVEN_UP_AFTER < now:
                log.warning("alert_given_up", id=message.id, to=message.waiting)
                self.withdraw(message.id)
                continue
            for name in tuple(waiting):
                if name in down:
                    continue
                try:
                    by_name[name].send(message.title, message.body, message.severity)
                except AlertFailed as failure:
                    down.add(name)
                    log.warning("alert_waits", id=message.id, reason=str(failure))
                else:
                    waiting.remove(name)
                    self._keep(message, waiting)
        return len(self.waiting())

    def _keep(self, message: Message, waiting: Sequence[str]) -> None:
        if waiting:
            self._write(Message(message.id, message.at, message.title, message.body, message.severity, tuple(waiting)))
        else:
            self.withdraw(message.id)

    def _write(self, message: Message) -> None:
        write_object(str(self.folder / "outbox"), self._path(message.id).name, json.dumps(asdict(message)).encode())

    def _path(self, message_id: str) -> Path:
        return self.folder / "outbox" / f"{message_id.replace('/', '_').replace(':', '-')}.json"


def _parsed(line: str) -> dict[str, object]:
    try:
        content = json.loads(line)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
