"""Structured logs: JSON lines in ``state/run_logs``, and for people on the terminal what they asked to see.

Files are named by the New York day of each record, the day of trade dates: a process that runs over
midnight goes on in the next day's file. Warnings and worse of every process also stand in one place,
``state/run_logs/errors/errors_YYYYMMDD.log``.
"""

import logging
import os
import sys
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from ingest.calendar.sessions import NEW_YORK
from lake.text import printable

SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]
OURS = ("flows", "ingest", "lake")
# What Prefect's line of a record says already.
SHOWN_BY_PREFECT = ("event", "level", "logger", "timestamp")


class Event(dict[str, Any]):
    """An event that handlers which are not ours, as those of Prefect's page, show as words."""

    def __str__(self) -> str:
        return " ".join(
            [str(self["event"]), *(f"{name}={value}" for name, value in self.items() if name not in SHOWN_BY_PREFECT)]
        )


def as_event(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Last of the processors before the record is made."""
    return Event(event)


def printable_event(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """For a terminal, which obeys control characters: texts of the broker are logged too."""
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}


class DailyFile(logging.Handler):
    """Appends each record as one line to ``<folder>/<prefix>_YYYYMMDD<suffix>``.

    Many processes append at once: a line is one write to a file opened for appending, which the operating system does
    not interleave. The file is opened for each line, so that one that was moved or deleted is made again.
    """

    def __init__(self, folder: Path, prefix: str, suffix: str, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._prefix, self._suffix = folder, prefix, suffix
        self.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                processors=[
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    structlog.processors.JSONRenderer(),
                ],
                foreign_pre_chain=SHARED,
            )
        )

    def path(self, record: logging.LogRecord) -> Path:
        """The file of a record, by its own time."""
        day = datetime.fromtimestamp(record.created, NEW_YORK)
        return self._folder / f"{self._prefix}_{day:%Y%m%d}{self._suffix}"

    def emit(self, record: logging.LogRecord) -> None:
        """Append a record; one that cannot be written is reported on stderr, as logging does."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
            file = os.open(self.path(record), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(file, line)
            finally:
                os.close(file)
        except Exception:
            self.handleError(record)


def configure(state: Path, verbose: bool) -> None:
    """Log INFO and above to ``state/run_logs/chainlake_YYYYMMDD.jsonl``; warnings (or all, if `verbose`) to stderr."""
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.INFO if verbose else logging.WARNING)
    terminal.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                printable_event,
                # Its other way to show an exception shows the values of local variables: passwords are among them.
                structlog.dev.ConsoleRenderer(
                    colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
                ),
            ],
            foreign_pre_chain=SHARED,
        )
    )
    root = logging.getLogger()
    root.handlers = [*_files(state), terminal]
    root.setLevel(logging.WARNING)
    _use_structlog()
    _log_what_ends_the_process()


def add_files(state: Path) -> None:
    """Write the log files of `configure` beside the handlers that are there: for a process that Prefect has set up."""
    root = logging.getLogger()
    root.handlers = [*(each for each in root.handlers if not isinstance(each, DailyFile)), *_files(state)]
    _use_structlog()
    _log_what_ends_the_process()


def _files(state: Path) -> list[logging.Handler]:
    # Logs, reports and Prefect's database: nobody else's business.
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = state / "run_logs"
    return [
        DailyFile(folder, "chainlake", ".jsonl"),
        DailyFile(folder / "errors", "errors", ".log", logging.WARNING),
    ]


def _use_structlog() -> None:
    for ours in OURS:
        logging.getLogger(ours).setLevel(logging.INFO)
    structlog.configure(
        processors=[*SHARED, as_event, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _log_what_ends_the_process() -> None:
    """Let an exception that nobody catches stand in the logs too, before the interpreter prints it."""
    before = sys.excepthook
    if getattr(before, "logs", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, Exception):
            # Not on the terminal: there the interpreter shows it.
            for handler in (each for each in logging.getLogger().handlers if isinstance(each, DailyFile)):
                record = logging.LogRecord(
                    "flows", logging.CRITICAL, __file__, 0, "unhandled_error", None, (kind, error, trace)
                )
                handler.handle(record)
        before(kind, error, trace)

    hook.logs = True  # type: ignore[attr-defined]
    sys.excepthook = hook
