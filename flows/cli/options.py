"""Options that several commands share, and what they become."""

import json as jsonlib
from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import show
from flows.logs import configure
from flows.steps import trading_session
from ingest.errors import UsageError
from ingest.sessions import NEW_YORK, Session
from ingest.settings import Settings, load

DateOption = Annotated[str, typer.Option("--date", help="Trade date, YYYY-MM-DD, or today (New York).")]
SymbolsOption = Annotated[
    str | None, typer.Option("--symbols", help="Underlyings, comma-separated; default: the universe file.")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings file; default config/chainlake.toml.")]
LakeOption = Annotated[str | None, typer.Option("--lake", help="Root of the lake.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")]
HostOption = Annotated[str | None, typer.Option("--host", help="Host of TWS, IB Gateway or the simulated gateway.")]
PortOption = Annotated[int | None, typer.Option("--port", help="Its port.")]
ClientIdOption = Annotated[int | None, typer.Option("--client-id", help="Client id of this connection.")]
PresetOption = Annotated[
    str | None, typer.Option("--preset", help="Rollout stage: stage-0, stage-1, stage-2, stage-3 or ib-limit.")
]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show the log on the terminal.")]


def settings_from(
    config: Path | None = None,
    lake: str | None = None,
    host: str | None = None,
    port: int | None = None,
    client_id: int | None = None,
    preset: str | None = None,
    verbose: bool = False,
    **sections: dict[str, Any],
) -> Settings:
    """Settings of one command: the file, the environment, and the flags that were given; logging starts with them."""
    ib = {"host": host, "port": port, "client_id": client_id}
    flags: dict[str, dict[str, Any]] = {
        "lake": {"root": lake} if lake else {},
        "ib": {key: value for key, value in ib.items() if value is not None},
        "acquisition": {"preset": preset} if preset else {},
    }
    for section, keys in sections.items():
        flags[section] = flags.get(section, {}) | keys
    settings = load(config, **flags)
    configure(Path(settings.state.dir), verbose)
    return settings


def symbols_from(text: str | None) -> list[str]:
    """The symbols in a comma-separated list."""
    return [symbol for symbol in (text or "").split(",") if symbol.strip()]


def session_from(text: str, now: datetime | None = None) -> Session:
    """The session that ``--date`` names. Raises UsageError for what is no date, and for a day without a session."""
    if text == "today":
        return trading_session((now or datetime.now(UTC)).astimezone(NEW_YORK).date())
    try:
        return trading_session(date.fromisoformat(text))
    except ValueError:
        raise UsageError(f"--date {text!r} is no date: write it as 2026-11-20, or today") from None


def check_date(text: str) -> None:
    """Refuse a date that cannot be a session before anything is connected."""
    if text != "today":
        session_from(text)


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine function to its end."""
    import asyncio

    return asyncio.run(work())


def print_result(value: Any, as_json: bool, otherwise: Callable[[], None]) -> None:
    """Print `value` as JSON, or do what prints it for people."""
    if as_json:
        show.out.print_json(jsonlib.dumps(value, default=str))
    else:
        otherwise()
