"""Options that several commands share, and what they become."""

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from chainlake.cli.terminal import show
from flows.logs import configure
from flows.steps import PipelineContext, trading_session
from ingest.calendar.sessions import NEW_YORK, Session
from ingest.errors import UsageError
from ingest.settings import Settings, load
from ingest.universe import SYMBOL, ib_symbol

T = TypeVar("T")
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings file; default config/chainlake.toml.")]
LakeOption = Annotated[str | None, typer.Option("--lake", help="Root of the lake.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ClockIsRightOption = Annotated[
    bool, typer.Option("--clock-is-right", help="Believe the host's clock though the lake has recorded nothing lately.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show the log on the terminal.")]
SymbolsOption = Annotated[
    str | None, typer.Option("--symbols", help="Underlyings, comma-separated; default: the universe file.")
]
DateOption = Annotated[str, typer.Option("--date", help="Trade date, YYYY-MM-DD, or today (New York).")]
StoredDateOption = Annotated[str, typer.Option("--date", help="Trade date, or latest: the last one in the lake.")]
HostOption = Annotated[str | None, typer.Option("--host", help="Host of TWS, IB Gateway or the simulated gateway.")]
PortOption = Annotated[int | None, typer.Option("--port", help="Its port.")]
ClientIdOption = Annotated[int | None, typer.Option("--client-id", help="Client id of this connection.")]
PresetOption = Annotated[
    str | None, typer.Option("--preset", help="Rollout stage: stage-0, stage-1, stage-2, stage-3 or ib-limit.")
]


@dataclass(frozen=True, slots=True)
class Given:
    """The options of every command."""

    config: ConfigOption = None
    lake: LakeOption = None
    json: JsonOption = False
    verbose: VerboseOption = False

    def settings(self) -> Settings:
        """Settings of the command: the file, the environment, and the flags given; logging starts with them."""
        settings = load(self.config, **self._flags())
        configure(Path(settings.state.dir), self.verbose)
        return settings

    def _flags(self) -> dict[str, dict[str, Any]]:
        return {"lake": {"root": self.lake} if self.lake else {}}


@dataclass(frozen=True, slots=True)
class GivenForBroker(Given):
    """The options of every command that talks to the broker."""

    date: DateOption = "today"
    symbols: SymbolsOption = None
    host: HostOption = None
    port: PortOption = None
    client_id: ClientIdOption = None
    preset: PresetOption = None
    dry_run: DryRunOption = False

    def pipeline_context(self) -> PipelineContext:
        """Where the command works. A date that cannot be a session is refused before anything is connected."""
        if self.date != "today":
            session_from(self.date)
        return PipelineContext.prepare(self.settings(), symbols_from(self.symbols))

    def session(self, now: datetime | None = None) -> Session:
        """The session of ``--date``; today is that of the clock that shows `now`, by default the host's."""
        return session_from(self.date, now)

    def _flags(self) -> dict[str, dict[str, Any]]:
        # A gateway that is named is the only one, whatever ib.gateways says.
        alone = () if self.host or self.port else None
        ib = {"host": self.host, "port": self.port, "client_id": self.client_id, "gateways": alone}
        return {
            "lake": {"root": self.lake} if self.lake else {},
            "ib": {key: value for key, value in ib.items() if value is not None},
            "acquisition": {"preset": self.preset} if self.preset else {},
        }


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of `function`: the fields of its dataclass parameter `given` become options, one by one."""
    signature = inspect.signature(function)
    kind = signature.parameters["given"].annotation
    shared = {field.name: field for field in fields(kind)}

    @functools.wraps(function)
    def flat(**values: Any) -> None:
        given = kind(**{name: values.pop(name) for name in shared})
        function(given=given, **values)

    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in signature.parameters.items()
        if name != "given"
    ]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for name, field in shared.items()
    ]
    flat.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *options)}
    return flat


def symbols_from(text: str | None) -> list[str]:
    """The symbols in a comma-separated list, as IB writes them, each once. Raises UsageError for what is no symbol."""
    given = [symbol for symbol in (text or "").split(",") if symbol.strip()]
    if wrong := [symbol for symbol in given if not SYMBOL.fullmatch(ib_symbol(symbol))]:
        raise UsageError(f"{wrong[0].strip()!r} is not a symbol: write them as AAPL,BRK.B")
    return list(dict.fromkeys(map(ib_symbol, given)))


def session_from(text: str, now: datetime | None = None) -> Session:
    """The session that ``--date`` names. Raises UsageError for what is no date, and for a day without a session."""
    if text == "today":
        return trading_session((now or datetime.now(UTC)).astimezone(NEW_YORK).date())
    return trading_session(date_from("--date", text))


def date_from(option: str, text: str) -> date:
    """The date given as `option`. Raises UsageError."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is no date: write it as 2026-11-20") from None


def instant_from(option: str, text: str) -> datetime:
    """The instant (UTC) given as `option` in New York time, or with an offset of its own. Raises UsageError."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is no instant: write it as '2015-12-24 09:25' (New York)") from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=NEW_YORK)).astimezone(UTC)


def run(context: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end."""
    return asyncio.run(context())


def print_result(value: Any, as_json: bool, otherwise: Callable[[], None]) -> None:
    """Print `value` as JSON, or do what prints it for people."""
    if as_json:
        show.as_json(value)
    else:
        otherwise()
