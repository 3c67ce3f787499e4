"""Real receivers of alerts, and a made-up lake that a day can be recorded into, row by row."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from aiosmtpd.controller import Controller

from chainlake.ops.incidents.alerts import Channel
from chainlake.ops.incidents.incidents import IncidentContext, Settled, settle
from chainlake.ops.monitoring.watchdog import Look, look
from flows.simulated_gateway import free_port
from ingest.calendar.sessions import NEW_YORK, Session, session_on
from ingest.settings import Settings, load
from lake.store import Lake
from tests.small_lake import contracts

DAY = date(2026, 11, 20)
METRICS = pa.schema(
    [
        ("trade_date", pa.date32()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
        ("passed", pa.bool_()),
        ("pending", pa.bool_()),
    ]
)


def at(day: date, clock: str) -> datetime:
    """The instant at which New York clocks show `clock` on `day`."""
    return datetime.combine(day, datetime.strptime(clock, "%H:%M").time(), NEW_YORK)  # noqa: DTZ007


def session(day: date) -> Session:
    """The session of a day that has one."""
    found = session_on(day)
    assert found is not None
    return found


class Webhook:
    """An HTTP server that keeps what is posted to it; it can be stopped, and started again on its port."""

    def __init__(self) -> None:
        self.port, self.status, self.posts = free_port(), 200, list[dict[str, Any]]()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """What apprise calls it; the path is a secret."""
        return f"json://127.0.0.1:{self.port}/s3cret-token"

    @property
    def titles(self) -> list[str]:
        """The titles of what was taken, in order."""
        return [post["title"] for post in self.posts]

    def start(self) -> None:
        """Answer from now on."""
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if webhook.status == 200:
                    webhook.posts.append(body)
                self.send_response(webhook.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Be gone."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class Mailbox:
    """An SMTP server that keeps what it is sent."""

    def __init__(self) -> None:
        self.mails = list[Message]()
        self.controller = Controller(self, hostname="127.0.0.1", port=free_port())

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Keep one mail."""
        self.mails.append(message_from_bytes(envelope.content))
        return "250 taken"

    @property
    def url(self) -> str:
        """What apprise calls it."""
        return f"mailto://127.0.0.1:{self.controller.port}/operator@example.com?from=lake@example.com&mode=insecure"

    @property
    def titles(self) -> list[str]:
        """The subjects, in order."""
        return [" ".join(str(make_header(decode_header(mail["Subject"]))).split()) for mail in self.mails]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """A webhook that answers."""
    receiver = Webhook()
    receiver.start()
    yield receiver
    receiver.stop()


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A mail server that answers."""
    receiver = Mailbox()
    receiver.controller.start()
    yield receiver
    receiver.controller.stop()


@dataclass
class WatchedLake:
    """A lake with its state folder, and what is recorded in it."""

    lake: Lake
    settings: Settings
    channel: Channel = field(default_factory=Channel)
    _written: int = 0

    @property
    def state(self) -> Path:
        """The state folder."""
        return Path(self.settings.state.dir)

    @property
    def todo(self) -> str:
        """What TODO.now.md says."""
        return (self.state / "TODO.now.md").read_text()

    def write(self, table: str, *rows: dict[str, Any]) -> None:
        """Append rows."""
        self._written += 1
        self.lake.append(table, rows, f"test/{self._written}", 1)

    def run(self, step: str, started_at: datetime, day: date | None = None, **columns: Any) -> None:
        """Record a run of a step."""
        self.write("ops/runs", run_row(step, started_at, day, **columns))

    def error(self, kind: str, when: datetime, **columns: Any) -> None:
        """Record an error."""
        row = {"trade_date": when.date(), "step": "snapshot", "ingest_id": "019a", "error_type": kind, "message": kind}
        self.write("ops/errors", row | {"observed_at": when} | columns)

    def freeze(self, day: date) -> None:
        """Freeze the contracts of a day."""
        frozen = {"frozen_at": session(day).open, "first_seen_slot": 0, "ingest_id": "019a", "source": "simulated"}
        self.write("raw/contracts", *(contract | frozen for contract in contracts(day)))

    def quotes(self, day: date, slots: list[int], share: float = 1.0) -> None:
        """Capture a share of the frozen contracts in slots."""
        wanted = contracts(day)
        self.write(
            "raw/option_quotes",
            *(
                contract
                | {
                    "view": "intraday",
                    "slot_30m": slot.slot_30m,
                    "sample_time": slot.sample_time,
                    "bid_seen": True,
                    "requested_at": slot.sample_time,
                    "ingest_id": "019a",
                    "ingest_run_type": "scheduled",
                    "batch": "all",
                    "attempt": 1,
                    "data_quality_flag": [],
                    "snapshot_error": number >= share * len(wanted),
                    "source": "simulated",
                }
                for slot in session(day).slots
                if slot.slot_30m in slots
                for number, contract in enumerate(wanted)
            ),
        )

    def slot(self, day: date, number: int, **columns: Any) -> None:
        """Capture a slot whole: its rows and its run."""
        self.quotes(day, [number])
        self.run("snapshot", session(day).slots[number].sample_time, slot_30m=number, view="intraday", **columns)

    def metrics(self, day: date, **passed: bool | None) -> None:
        """Store metrics of a day: passed, failed, or (None) pending."""
        rows = [
            {
                "trade_date": day,
                "metric": name,
                "value": 0.5,
                "threshold": 0.9,
                "passed": bool(value),
                "pending": value is None,
            }
            for name, value in passed.items()
        ]
        self.lake.replace_dates("quality/daily_metrics", pa.Table.from_pylist(rows, schema=METRICS).to_reader, [day])

    def publish(self, day: date, when: datetime, status: str = "passed") -> None:
        """Publish a day."""
        row = {"trade_date": day, "published_at": when, "status": status, "versions": [], "code_version": "0.1.0"}
        self.write("ops/published", row | {"actions_hash": "0", "run_id": "019a"})

    def look(self, now: datetime, **asked: Any) -> Settled:
        """Look and settle, as the watchdog does."""
        return self.settle(look(self.settings, self.lake, now, **asked), now)

    def settle(self, found: Look, now: datetime) -> Settled:
        """Settle what a look found."""
        return settle(IncidentContext(self.lake, self.state, self.channel, now), found.breaches, found.examined)


def run_row(step: str, started_at: datetime, day: date | None = None, **columns: Any) -> dict[str, Any]:
    """A row of ops/runs: 24 contracts asked for and captured unless `columns` say otherwise."""
    return {
        "trade_date": day or started_at.astimezone(NEW_YORK).date(),
        "step": step,
        "ingest_id": f"{step} {started_at}",
        "status": "ok",
        "asked": 24,
        "captured": 24,
        "failed": 0,
        "started_at": started_at,
        "ended_at": started_at + timedelta(seconds=90),
        "trigger": "schedule",
        "host": "here",
    } | columns


@pytest.fixture
def watched(tmp_path: Path) -> WatchedLake:
    """A lake that was made on the morning of Thursday, 19 November 2026, and nothing is recorded in it."""
    lake = Lake.create(tmp_path / "lake", "simulated", at(date(2026, 11, 19), "09:00"))
    return WatchedLake(lake, settings_of(tmp_path))


def settings_of(place: Path, **sections: Any) -> Settings:
    """Settings of a lake and a state folder in `place`."""
    return load(None, lake={"root": str(place / "lake")}, state={"dir": str(place / "state")}, **sections)
