"""``chainlake capacity``: whether a slot fits into its half-hour, and what would make it fit."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from chainlake.cli import options as o
from chainlake.cli.terminal import show
from chainlake.cli.terminal.probed import show_probe
from chainlake.cli.terminal.progress import status
from ingest.broker.pacing import PRESETS
from ingest.calendar.sessions import NEW_YORK, Session, next_session, session_on
from ingest.capacity.estimate import (
    CPU_SECONDS_A_CONTRACT,
    Case,
    ContractCounts,
    Fit,
    Limits,
    Timing,
    slot_seconds,
)
from ingest.capacity.probe import probe
from ingest.capacity.probe_result import ProbeResult, store, stored
from ingest.capture.modes import UNMEASURED, Mode
from ingest.contracts import Underlying
from ingest.discovery.selection import wants_expiry, wants_strike
from ingest.errors import UsageError
from ingest.settings import MOST_CONNECTIONS, FilterSettings, Settings
from ingest.universe import choose, read_universe
from lake.errors import LakeMissing
from lake.reads import reader
from lake.store import Lake

MODES: tuple[Mode, ...] = ("streaming", "snapshot")
FREEZE = time(9, 25)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(capacity)


@dataclass(frozen=True, slots=True)
class GivenForCapacity(o.GivenForBroker):
    """The options of a command that talks to the broker, for a date in the lake and with limits to try out."""

    date: o.StoredDateOption = "latest"
    lines: Annotated[int | None, typer.Option(help="Market data lines of the account, instead of ib.lines.")] = None
    connections: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_CONNECTIONS, help="Connections to a gateway, instead of ib.connections."),
    ] = None
    messages_per_second: Annotated[float | None, typer.Option(help="IB's limit; default: half the lines.")] = None

    def _flags(self) -> dict[str, dict[str, Any]]:
        flags = o.GivenForBroker._flags(self)
        own = {
            "lines": self.lines,
            "messages_per_second": self.messages_per_second,
            "connections": self.connections,
        }
        flags["ib"] |= {key: value for key, value in own.items() if value is not None}
        return flags


@o.command
def capacity(
    given: GivenForCapacity,
    contracts: Annotated[int | None, typer.Option(min=1, help="So many contracts, without a frozen set.")] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="The set that the simulated market lists for the universe.")
    ] = False,
    gateways: Annotated[
        int | None, typer.Option(min=1, help="Gateways, each with lines of its own, instead of those in ib.gateways.")
    ] = None,
    latency: Annotated[
        float | None, typer.Option(min=0, help="Milliseconds until an answer, instead of what was probed.")
    ] = None,
    probing: Annotated[
        bool, typer.Option("--probe", help="First measure on the gateway what IB leaves unsettled (a minute).")
    ] = False,
) -> None:
    """Say whether a slot fits into its half-hour, and what would make it fit. Always exits 0: it informs."""
    settings = given.settings()
    universe = choose(read_universe(settings.universe.file), o.symbols_from(given.symbols))
    where = f"{settings.ib.host}:{settings.ib.port}"
    if probing and given.dry_run:
        show.line(
            f"would open up to {settings.ib.lines} market data lines at {where}, and exceed "
            f"{settings.ib.message_limit:g} messages a second twice, on one connection and on two together, for at "
            "most one error 100 each time"
        )
        return
    state = Path(settings.state.dir)
    if probing:
        with status(f"probing {where}") as update:
            result = o.run(lambda: probe(settings, universe, update))
        store(result, state)
    probed = stored(state, where)
    asked = given.date != "latest" or contracts is not None or simulated
    try:
        counts, basis = _counts(given, settings, universe, contracts, simulated)
    except UsageError:
        if not probing or asked:
            raise
        o.print_result({"probe": _as_json(probed)}, given.json, lambda: show_probe(probed))
        return
    report = _Report.of(settings, counts, gateways or len(settings.ib.each_gateway), latency, probed)
    as_json = report.as_json(basis) | ({"probe": _as_json(probed)} if probing else {})

    def print_tables() -> None:
        if probing:
            show_probe(probed)
        report.show(basis)

    o.print_result(as_json, given.json, print_tables)


# -- what is to be captured --------------------------------------------------------------------------------------------


def _counts(
    given: GivenForCapacity,
    settings: Settings,
    universe: Sequence[Underlying],
    contracts: int | None,
    simulated: bool,
) -> tuple[ContractCounts | int, str]:
    """The contracts to capture, or their number alone, and words for where they come from."""
    if contracts is not None:
        return contracts, "as given"
    if simulated:
        session = _session(given.date)
        with status("listing the simulated market"):
            counts = simulated_counts(universe, session, settings.filters)
        return counts, f"{len(universe)} underlyings of the simulated market of {session.trade_date}"
    otherwise = "give --contracts N or --simulated, or run `chainlake discover`"
    try:
        lake = Lake.open(settings.lake.root)
    except LakeMissing:
        raise UsageError(f"no lake at {settings.lake.root}, so no frozen set: {otherwise}") from None
    symbols = {underlying.symbol for underlying in universe} if given.symbols else None
    with reader(lake) as reads:
        day = reads.latest_date() if given.date == "latest" else o.session_from(given.date).trade_date
        rows = reads.rows(
            "raw/contracts",
            f"trade_date = date '{day}'",
            "distinct conid, underlying, expiry, strike, reference_price",
        )
    rows = [row for row in rows if symbols is None or row["underlying"] in symbols]
    if day is None or not rows:
        raise UsageError(f"the lake at {lake.root} has no frozen set{f' of {day}' if day else ''}: {otherwise}")
    cells = ((row["expiry"], row["strike"], row["reference_price"]) for row in rows)
    underlyings = len({row["underlying"] for row in rows})
    return ContractCounts.of(day, cells), f"{underlyings} underlyings frozen for {day} in {lake.root}"


def simulated_counts(universe: Sequence[Underlying], session: Session, filters: FilterSettings) -> ContractCounts:
    """What discovery would freeze of the simulated market, without asking a gateway for it."""
    # The market's numerics take a second to import: other commands shall not wait for them.
    from tws_simulator import UnderlyingSpec
    from tws_simulator.worlds.synthetic import SyntheticWorld

    now, day = session.at(FREEZE), session.trade_date
    world = SyntheticWorld([UnderlyingSpec(underlying.symbol, conid=underlying.conid) for underlying in universe])
    world.check(now)

    def cells() -> Iterator[tuple[date, float, float | None]]:
        for underlying in world.underlyings(now):
            price = world.previous_close(underlying, now)
            for series in world.series(underlying, now):
                if wants_expiry(series.expiry, day, filters, underlying.symbol):
                    for option in series.options():
                        if price is None or wants_strike(option.strike, price, filters):
                            yield series.expiry, option.strike, price

    return ContractCounts.of(day, cells())


def _session(text: str) -> Session:
    if text != "latest":
        return o.session_from(text)
    today = datetime.now(UTC).astimezone(NEW_YORK).date()
    return session_on(today) or next_session(today)


# -- what comes of it --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Report:
    case: Case
    counts: ContractCounts | None
    settings: Settings
    mode: Mode
    timing_from: dict[Mode, str]
    rate_from: str

    @classmethod
    def of(
        cls,
        settings: Settings,
        counts: ContractCounts | int,
        gateways: int,
        latency_ms: float | None,
        probed: ProbeResult | None,
    ) -> "_Report":
        timing, timing_from = timing_of(probed, latency_ms)
        limits = Limits.of(settings, probed)
        known, total = (counts, counts.total) if isinstance(counts, ContractCounts) else (None, counts)
        case = Case(total, slot_seconds(settings.acquisition.slot_grace_s), limits, timing, gateways)
        mode = limits.mode(settings.acquisition.mode, timing.occupancy if probed else UNMEASURED)
        return cls(case, known, settings, mode, timing_from, rate_from(probed))

    @property
    def preset(self) -> str:
        return self.settings.acquisition.preset

    def as_json(self, basis: str) -> dict[str, Any]:
        case, limits = self.case, self.case.limits
        return {
            "set": basis,
            "contracts": case.contracts,
            "available_s": case.available_s,
            "lines": limits.lines,
            "messages_per_second": limits.messages_per_second,
            "messages_of": "session" if limits.shared_rate else "connection",
            "messages_of_from": self.rate_from,
            "cancels_count": limits.cancels_count,
            "connections": limits.connections,
            "head_room": limits.head_room,
            "gateways": case.gateways,
            "seconds_a_contract": {mode: case.timing.of(mode) for mode in MODES},
            "seconds_from": self.timing_from,
            "configured": {"mode": self.mode, "preset": self.preset},
            "rows": [
                {
                    "mode": mode,
                    "preset": preset,
                    **_figures(case.fit(mode, preset)),
                    "lines_to_fit": case.lines_to_fit(mode, preset),
                    "gateways_to_fit": case.gateways_to_fit(mode, preset),
                }
                for mode in MODES
                for preset in PRESETS
            ],
            "by_connections": [
                {"connections": connections, **_figures(fit)}
                for connections, fit in case.by_connections(self.mode, self.preset)
            ],
            "changes": [
                {"change": change.what, "contracts": change.fit.contracts, **_figures(change.fit)}
                for change in case.changes(self.mode, self.preset, self.settings.filters, self.counts)
            ],
        }

    def show(self, basis: str) -> None:
        """Print the tables: every mode and preset, and what would make the configured one fit."""
        data, case, limits = self.as_json(basis), self.case, self.case.limits
        show.line(f"{case.contracts:,} contracts: {basis}")
        show.line(f"{case.available_s:,.0f} seconds: the half-hour of a slot less its grace")
        gateways = "1 gateway" if case.gateways == 1 else f"{case.gateways} gateways, each"
        connections = "1 connection" if limits.connections == 1 else f"{limits.connections} connections"
        show.line(
            f"{gateways} with {limits.lines:,} market data lines, {connections} and {limits.messages_per_second:,.4g} "
            f"messages a second {'for all' if limits.shared_rate else 'each'}, of which {limits.head_room:.0%} are used"
        )
        for mode in MODES:
            rows = [
                {
                    "preset": row["preset"] + " *" * ({"mode": mode, "preset": row["preset"]} == data["configured"]),
                    **_cells(row),
                    "bound by": row["bound_by"],
                    "lines": row["lines_to_fit"],
                    "gateways": row["gateways_to_fit"],
                }
                for row in data["rows"]
                if row["mode"] == mode
            ]
            show.table(pl.DataFrame(rows, schema_overrides={"lines": pl.Float64}), self._heading(mode))
        show.line("* as configured; lines or gateways: how many it takes to capture all, – where none suffice")
        self._show_connections(data)
        if data["changes"]:
            rows = [
                {"change": row["change"], "contracts": float(row["contracts"]), **_cells(row)}
                for row in data["changes"]
            ]
            show.table(pl.DataFrame(rows), f"\nWhat would make {self.mode}, {self.preset} fit: one thing at a time")

    def _show_connections(self, data: dict[str, Any]) -> None:
        """Print what several connections to a gateway would capture, and what bounds them then."""
        if self.case.limits.shared_rate:
            show.line(f"More connections capture no more: the messages of all are counted together ({self.rate_from})")
            return
        rows = [
            {"connections": str(row["connections"]), **_cells(row), "bound by": row["bound_by"]}
            for row in data["by_connections"]
        ]
        show.table(pl.DataFrame(rows), f"\nConnections to each gateway, {self.mode}, {self.preset}")
        show.line(f"messages: {self.rate_from}")
        show.line(
            f"cpu: a core at {1000 * CPU_SECONDS_A_CONTRACT:g} ms a contract, as docs/benchmarks.md measured it; yours "
            "may differ"
        )

    def _heading(self, mode: Mode) -> str:
        seconds = self.case.timing.of(mode)
        return f"\n{mode.capitalize()}: {seconds:.2f} s a contract ({self.timing_from[mode]})"


def rate_from(probed: ProbeResult | None) -> str:
    """Where it is known from whose the message rate is: measured, or IB's page."""
    if probed is None or probed.rate_per is None:
        return "each has the message rate, as IB's page has it; capacity --probe measures it"
    return f"measured on {probed.probed_at:%Y-%m-%d}"


def timing_of(probed: ProbeResult | None, latency_ms: float | None) -> tuple[Timing, dict[Mode, str]]:
    """How long a contract is asked, and by mode where that is from: given, measured by a probe, or assumed."""
    assumed = "assumed; capacity --probe measures it"
    timing, source = Timing(), dict.fromkeys(MODES, assumed)
    if probed is not None:
        measured = f"measured on {probed.probed_at:%Y-%m-%d}"
        if probed.streaming_hold_ms is not None:
            timing, source["streaming"] = replace(timing, streaming_s=probed.streaming_hold_ms / 1000), measured
        if probed.snapshot_hold_ms is not None:
            timing, source["snapshot"] = replace(timing, snapshot_s=probed.snapshot_hold_ms / 1000), measured
    if latency_ms is not None:
        timing, source["streaming"] = replace(timing, streaming_s=latency_ms / 1000), "as given"
    return timing, source


def _figures(fit: Fit) -> dict[str, Any]:
    return {
        "contracts_per_second": round(fit.speed.contracts_per_second * fit.gateways, 3),
        "bound_by": fit.speed.bound_by,
        "slot_s": round(fit.seconds, 1),
        "captured": round(fit.share, 4),
    }


def _cells(row: dict[str, Any]) -> dict[str, float]:
    return {
        "per s": round(row["contracts_per_second"], 1),
        "seconds": round(row["slot_s"]) * 1.0,
        # Rounded down: 99.99 % is not all.
        "share %": math.floor(1000 * row["captured"]) / 10,
    }


def _as_json(result: ProbeResult | None) -> dict[str, Any] | None:
    return None if result is None else result.model_dump(mode="json")
