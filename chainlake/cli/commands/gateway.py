"""``chainlake gateway``: the simulated TWS gateway by itself."""

import asyncio
import contextlib
import tempfile
from datetime import datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from chainlake.cli import options as o
from chainlake.cli.terminal import show
from ingest.calendar.sessions import NEW_YORK, new_york
from ingest.errors import UsageError
from ingest.settings import first_mistake, here_or_shipped
from ingest.universe import choose, read_universe
from lake.replay import write_replay_day
from lake.store import Lake

if TYPE_CHECKING:
    from tws_simulator import GatewayOptions

BEFORE_THE_OPEN = time(9, 25)
UNSETTLED = "Limits that IB leaves to a setting, or does not state"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("gateway")(gateway)


@o.command
def gateway(
    given: o.Given,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 4002,
    world: Annotated[str | None, typer.Option(help="synthetic (default) or replay.")] = None,
    replay: Annotated[list[Path] | None, typer.Option(help="Parquet file of a recorded day; may be repeated.")] = None,
    replay_date: Annotated[str | None, typer.Option(help="A date recorded in the lake (--lake).")] = None,
    symbols: o.SymbolsOption = None,
    lines: Annotated[int, typer.Option(help="Market data lines.")] = 100,
    messages_per_second: Annotated[float | None, typer.Option(help="Message limit; default: lines / 2.")] = None,
    latency: Annotated[str, typer.Option(help="Milliseconds until quotes arrive, LO-HI.")] = "50-200",
    at: Annotated[str | None, typer.Option(help="Market clock at start, New York: '2015-12-24 09:25'.")] = None,
    speed: Annotated[float, typer.Option(help="Market seconds a second; 0: stepped by the control port.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic world.")] = 7,
    control_port: Annotated[int | None, typer.Option(help="Port that steps the market clock; 0: a free one.")] = None,
    scenario: Annotated[Path | None, typer.Option(help="YAML file of faults to inject.")] = None,
    delivery_log: Annotated[
        Path | None, typer.Option(help="File to add a JSON line to for each request that was answered in full.")
    ] = None,
    previous_close: Annotated[float | None, typer.Option(help="Tick 9 of a replayed underlying.")] = None,
    corporate_actions: Annotated[
        Path | None, typer.Option(help="CSV of splits, special dividends and symbol changes of the synthetic world.")
    ] = None,
    minis: Annotated[str, typer.Option(help="Symbols with mini options (10 shares): AAPL,SPY.")] = "",
    over_rate: Annotated[
        str, typer.Option(help="Messages above the rate: reject (error 100) or pace.", rich_help_panel=UNSETTLED)
    ] = "reject",
    violation_per: Annotated[
        str, typer.Option(help="A violation of the rate is a second or a message.", rich_help_panel=UNSETTLED)
    ] = "message",
    rate_per: Annotated[
        str,
        typer.Option(help="Each client connection has the rate, or the session shares it.", rich_help_panel=UNSETTLED),
    ] = "connection",
    excess: Annotated[
        str, typer.Option(help="A message above the rate: drop or serve.", rich_help_panel=UNSETTLED)
    ] = "drop",
    delayed_requests: Annotated[
        str,
        typer.Option(
            help="Delayed data for who may see live data: served, or ignored (live is sent).", rich_help_panel=UNSETTLED
        ),
    ] = "served",
    cancels_free: Annotated[
        bool, typer.Option("--cancels-free", help="Cancels do not count as messages.", rich_help_panel=UNSETTLED)
    ] = False,
    snapshots_free: Annotated[
        bool, typer.Option("--snapshots-free", help="Snapshots use no line.", rich_help_panel=UNSETTLED)
    ] = False,
    client_id_lingers: Annotated[
        float, typer.Option(help="Seconds until the id of a client that left is free.", rich_help_panel=UNSETTLED)
    ] = 0,
    history_pacing: Annotated[
        str,
        typer.Option(help="Bars that history pacing is for: all, small (up to 30 s), off.", rich_help_panel=UNSETTLED),
    ] = "all",
    history_steps: Annotated[
        str,
        typer.Option(help="Bars that the table of step sizes is for: all or small.", rich_help_panel=UNSETTLED),
    ] = "small",
) -> None:
    """Serve a simulated market to any TWS client, until interrupted."""
    # The market's numerics take a second to import: other commands shall not wait for them.
    from tws_simulator import GatewayOptions, UnderlyingSpec

    settings = given.settings()
    with contextlib.ExitStack() as stack:
        files = list(replay or [])
        if replay_date:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chainlake-replay-")))
            files.append(stored_day(settings.lake.root, replay_date, folder))
        chosen = world or ("replay" if files else "synthetic")
        if chosen not in ("synthetic", "replay"):
            raise UsageError(f"--world {chosen!r}: use synthetic or replay")
        if chosen == "replay" and not files:
            raise UsageError("--world replay needs --replay FILE or --replay-date DATE")
        universe = choose(read_universe(settings.universe.file), o.symbols_from(symbols))
        try:
            options = GatewayOptions(
                host=host,
                port=port,
                control_port=control_port,
                world="replay" if chosen == "replay" else "synthetic",
                replay=tuple(files),
                symbols=tuple(UnderlyingSpec(u.symbol, conid=u.conid) for u in universe),
                seed=seed,
                corporate_actions=corporate_actions,
                minis=tuple(o.symbols_from(minis)),
                at=o.instant_from("--at", at) if at else first_morning(files),
                speed=speed,
                lines=lines,
                messages_per_second=messages_per_second,
                rules={
                    "over_rate": over_rate,
                    "violation_per": violation_per,
                    "rate_per": rate_per,
                    "excess": excess,
                    "cancels_count": not cancels_free,
                    "snapshots_hold_lines": not snapshots_free,
                    "client_id_lingers": client_id_lingers,
                },
                history_pacing=history_pacing,
                history_steps=history_steps,
                latency_ms=latency_range(latency),
                delayed_requests=delayed_requests,
                scenario=here_or_shipped(scenario) if scenario else None,
                delivery_log=delivery_log,
                previous_close=previous_close,
            )
        except ValidationError as error:
            raise UsageError(f"--{first_mistake(error).removeprefix('rules.').replace('_', '-')}") from None
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(options))


async def serve(options: "GatewayOptions") -> None:
    """Serve until cancelled, saying where."""
    from tws_simulator import SimulatedGateway

    async with SimulatedGateway(options) as gateway:
        control = f", control port {gateway.control_port}" if gateway.control_port else ""
        show.line(
            f"simulated gateway ({options.world}) on {options.host}:{gateway.port}{control}; market clock "
            f"{gateway.clock.now().astimezone(NEW_YORK):%Y-%m-%d %H:%M:%S} New York, speed {options.speed:g}; "
            "Ctrl-C ends it"
        )
        await asyncio.Event().wait()


def stored_day(root: str, text: str, folder: Path) -> Path:
    """A replay file of a date that the lake holds."""
    day = o.date_from("--replay-date", text)
    file = folder / f"{day}.parquet"
    write_replay_day(Lake.open(root), day, file)
    return file


def first_morning(files: list[Path]) -> datetime | None:
    """09:25 New York of the first recorded day; None, the host's time, for a synthetic market."""
    if not files:
        return None
    from flows.demo import recorded_days

    return new_york(recorded_days(files)[0].session.trade_date, BEFORE_THE_OPEN)


def latency_range(text: str) -> tuple[float, float]:
    """The bounds in ``LO-HI``, milliseconds."""
    low, _, high = text.partition("-")
    try:
        bounds = float(low), float(high or low)
    except ValueError:
        raise UsageError(f"--latency {text!r}: write two numbers of milliseconds, such as 50-200") from None
    if not 0 <= bounds[0] <= bounds[1]:
        raise UsageError(f"--latency {text!r}: the first number must not exceed the second")
    return bounds
