"""Where alerts go: services by URL, through apprise. Nothing here prints, logs or shows a URL: it carries secrets."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chainlake.ops.incidents.causes import Severity
from ingest.errors import ChainlakeError

if TYPE_CHECKING:
    from apprise import NotifyBase

VARIABLE = "CHAINLAKE_ALERT_URLS"
# White space, or a comma before another URL: a URL itself may hold commas.
SEPARATOR = re.compile(r"\s+|,+\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)|,+\s*$")
# Loggers of what sends.
SENDERS = ("apprise", "urllib3.connectionpool")
STATUS = re.compile(r"error=(\d{3})")


class AlertFailed(ChainlakeError):
    """A service did not take an alert."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One URL. `name` is its kind with its number among that kind, such as ``json 1``: it is safe to show and store."""

    name: str
    url: str = field(repr=False)

    @property
    def kind(self) -> str:
        """The kind of service, as the URL's scheme says."""
        return self.name.partition(" ")[0]

    @property
    def understood(self) -> bool:
        """Whether apprise can make something of the URL."""
        return _service(self.url) is not None

    def send(self, title: str, body: str, severity: Severity | None) -> None:
        """Send a message; `severity` None is an all-clear or a note. Raises AlertFailed."""
        # Takes a tenth of a second to import: commands that alert nobody shall not wait for it.
        from apprise import NotifyFormat, NotifyType

        service = _service(self.url)
        if service is None:
            raise AlertFailed(f"{self.name}: its URL in {VARIABLE} is not understood: see docs/alerts.md")
        kinds = {"warning": NotifyType.WARNING, "severe": NotifyType.FAILURE, None: NotifyType.SUCCESS}
        with _quiet() as logged:
            try:
                taken = service.notify(body, title, kinds[severity], body_format=NotifyFormat.TEXT)
            except Exception as error:  # a plug-in's own failure: its text may quote the URL
                raise AlertFailed(f"{self.name}: the alert could not be sent ({type(error).__name__})") from None
        if not taken:
            codes = [found[1] for line in logged if (found := STATUS.search(line))]
            why = f"it answered {codes[-1]}" if codes else "no connection, or it refused"
            raise AlertFailed(f"{self.name}: the alert was not taken: {why}; check the URL and the network")


@dataclass(frozen=True, slots=True)
class Channel:
    """Everywhere that alerts are sent to. Without any destination they are only in the log and the state folder."""

    destinations: tuple[Destination, ...] = ()

    @classmethod
    def from_environment(cls, extra: Sequence[str] = ()) -> "Channel":
        """The URLs of ``CHAINLAKE_ALERT_URLS``, separated by white space or commas, and `extra` ones. Each once."""
        return cls.of([*urls_in(os.environ.get(VARIABLE, "")), *(url for text in extra for url in urls_in(text))])

    @classmethod
    def of(cls, urls: Sequence[str]) -> "Channel":
        """A channel to `urls`."""
        counts: dict[str, int] = {}
        destinations = []
        for url in dict.fromkeys(urls):
            kind = _kind(url)
            counts[kind] = counts.get(kind, 0) + 1
            destinations.append(Destination(f"{kind} {counts[kind]}", url))
        return cls(tuple(destinations))

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is configured, without secrets: ``("json 1", "mailto 1")``."""
        return tuple(destination.name for destination in self.destinations)

    @property
    def not_understood(self) -> tuple[str, ...]:
        """The destinations whose URL is wrong."""
        return tuple(destination.name for destination in self.destinations if not destination.understood)

    def send(self, title: str, body: str, severity: Severity | None) -> None:
        """Send to every destination, whichever of them fail. Raises AlertFailed naming those."""
        failures = []
        for destination in self.destinations:
            try:
                destination.send(title, body, severity)
            except AlertFailed as failure:
                failures.append(str(failure))
        if failures:
            raise AlertFailed("; ".join(failures))


def urls_in(text: str) -> list[str]:
    """The URLs in a text that separates them by white space or commas."""
    return [url for url in SEPARATOR.split(text.strip()) if url]


def _kind(url: str) -> str:
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    # Of what is no URL nothing can be shown.
    return found[1].lower() if found else "unknown"


def _service(url: str) -> "NotifyBase | None":
    from apprise import Apprise, AppriseAsset

    with _quiet():
        try:
            found = Apprise.instantiate(url, asset=AppriseAsset(app_id="Chainlake", app_desc="Chainlake"))
        except Exception:
            return None
    return found


class _Collector(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """What the libraries that send log meanwhile, kept from every log: it quotes addresses."""
    lines = list[str]()
    handler = _Collector(lines)
    loggers = [logging.getLogger(name) for name in SENDERS]
    kept = [(logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.WARNING)
    try:
        yield lines
    finally:
        for logger, (propagate, level) in zip(loggers, kept, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate
            logger.setLevel(level)
