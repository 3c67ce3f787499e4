"""The values as text: one collection of a lake, in a file that is replaced as a whole, or over loopback HTTP."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import structlog
from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import ThreadingWSGIServer

from chainlake.metrics import capture, publications, storage
from chainlake.metrics.families import FAMILIES, Value
from chainlake.metrics.sources import Sources
from flows.loopback import is_loopback
from ingest.settings import Settings
from lake import storage as lake_storage
from lake.code_version import code_version
from lake.errors import LakeError
from lake.reads import reader
from lake.store import Lake

log = structlog.get_logger(__name__)

HOST = "127.0.0.1"
# Scrapers that come within so many seconds of each other are given the same values.
FRESH_S = 10.0
PARTS: dict[str, Callable[[Sources], Iterable[Value]]] = {
    "slots": capture.slots,
    "last_slot": capture.last_slot,
    "work": capture.work,
    "errors": capture.errors,
    "steps": capture.steps,
    "incidents": publications.incidents,
    "publications": publications.publications,
    "tables": storage.tables,
    "disks": storage.disks,
}


def collect(settings: Settings, lake: Lake, now: datetime) -> Iterator[Value]:
    """Every value as of `now` (aware). A part that cannot be read is told of, and keeps no other back."""
    yield Value("chainlake_build_info", 1, (code_version(), lake.origin))
    yield Value("chainlake_collected_timestamp_seconds", now.timestamp())
    with reader(lake) as reads:
        sources = Sources(settings, lake, reads, now)
        for part, read in PARTS.items():
            begun, failed = time.monotonic(), 0
            try:
                yield from list(read(sources))
            except Exception as error:
                if not isinstance(error, LakeError | OSError) and not lake_storage.is_native(error):
                    raise
                failed = 1
                log.error("metrics_unreadable", part=part, error=lake_storage.plain(error))
            yield Value("chainlake_collection_failed", failed, (part,))
            yield Value("chainlake_collection_seconds", time.monotonic() - begun, (part,))


@dataclass(eq=False)
class LakeCollector:
    """Collects a lake for a registry of prometheus_client. `at`: as of that instant instead of now."""

    settings: Settings
    lake: Lake
    at: datetime | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _collected: list[Value] = field(default_factory=list)
    _until: float = 0.0

    def describe(self) -> Iterable[Metric]:
        """Nothing: a registry would collect to learn the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The families with their values, those of at most `FRESH_S` ago."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._collected = list(collect(self.settings, self.lake, self.at or datetime.now(UTC)))
                self._until = time.monotonic() + FRESH_S
            values = self._collected
        yield from metric_families(values)

    def registry(self) -> CollectorRegistry:
        """A registry of this lake alone."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry


def metric_families(values: Iterable[Value]) -> Iterator[Metric]:
    """`values` under their names, in the order of `FAMILIES`."""
    by_name: dict[str, list[Value]] = {}
    for value in values:
        by_name.setdefault(value.name, []).append(value)
    for family in FAMILIES:
        made = (CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily)(
            family.name, family.help, labels=family.labels
        )
        for value in by_name.get(family.name, ()):
            made.add_metric(value.labels, value.value)
        yield made


def as_text(collector: LakeCollector) -> str:
    """The text format of Prometheus."""
    return generate_latest(collector.registry()).decode()


def write_textfile(collector: LakeCollector, file: Path) -> None:
    """Replace `file` by the text, at once: who reads it has the old text or the new one."""
    write_to_textfile(str(file), collector.registry())


def serve(collector: LakeCollector, port: int, on_ready: Callable[[], None]) -> None:
    """Serve ``http://127.0.0.1:<port>/metrics`` until stopped; `on_ready` is called once it answers."""
    app = own_host_only(make_wsgi_app(collector.registry()))
    with make_server(HOST, port, app, ThreadingWSGIServer, handler_class=Handler) as server:
        on_ready()
        server.serve_forever()


class Handler(WSGIRequestHandler):
    """Writes no line for each request to the terminal."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


def own_host_only(app: WSGIApplication) -> WSGIApplication:
    """`app` for requests whose Host, and Origin where there is one, are this host: other pages reach loopback too."""

    def checked(environment: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        named = [f"//{environment.get('HTTP_HOST', '')}", *filter(None, [environment.get("HTTP_ORIGIN")])]
        if not all(map(_is_ours, named)):
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"These metrics are for their own host: ask 127.0.0.1.\n"]
        return app(environment, start_response)

    return checked


def _is_ours(url: str) -> bool:
    try:
        return is_loopback(url)
    except ValueError:
        return False
