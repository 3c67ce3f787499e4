"""Capacity: the bounds of IB's limits and of the presets in closed form, and the command that prints them."""

import json
from dataclasses import replace
from datetime import date, time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainlake.cli.commands.capacity import simulated_counts, timing_of
from ingest.broker import BrokerSession
from ingest.broker.pacing import PRESETS
from ingest.calendar.sessions import next_session
from ingest.capacity.estimate import Case, ContractCounts, Limits, Timing, speed
from ingest.capacity.probe_result import ProbeResult, store
from ingest.context import StepContext
from ingest.contracts import Underlying
from ingest.discovery.discover import discover
from ingest.settings import FilterSettings, load
from lake.reads import reader
from lake.store import Lake
from tests.commands import run_chainlake
from tests.ingest.test_probe import result_of
from tests.small_lake import CONTRACTS_A_DAY, small_lake
from tws_simulator import GatewayOptions, SimulatedGateway

DAY = next_session(date(2026, 11, 19))
IB = Limits(lines=100, messages_per_second=50)
FAST = Timing(streaming_s=0.4, snapshot_s=0.4)
HALF_HOUR_S = 1800.0


# -- contracts a second, in closed form --------------------------------------------------------------------------------


def test_a_hundred_lines_are_25_contracts_a_second_and_45_000_in_half_an_hour() -> None:
    # IB: lines / 2 messages a second; subscribe and cancel are two (docs/limitations.md).
    fit = Case(45_000, HALF_HOUR_S, IB, FAST).fit("streaming", "ib-limit")
    assert (fit.speed.contracts_per_second, fit.speed.bound_by) == (25.0, "messages")
    assert fit.seconds == HALF_HOUR_S
    assert fit.fits
    one_more = Case(45_001, HALF_HOUR_S, IB, FAST).fit("streaming", "ib-limit")
    assert not one_more.fits
    assert one_more.share == pytest.approx(45_000 / 45_001)


@pytest.mark.parametrize(
    ("preset", "a_minute"),
    # design.md 4.7: requests a minute x contracts each.
    [("stage-0", 300), ("stage-1", 540), ("stage-1-approved", 420), ("stage-2", 960), ("stage-3", 1500)],
)
def test_presets_count_batches_a_minute(preset: str, a_minute: int) -> None:
    # Stage 3 asks for 1,800 a minute, and IB's limit of 25 a second gives 1,500.
    one = speed("streaming", PRESETS[preset], IB, FAST)
    assert one.contracts_per_second * 60 == pytest.approx(a_minute)
    assert one.bound_by == ("messages" if preset == "stage-3" else "preset")


def test_slow_answers_make_lines_or_concurrency_the_bound() -> None:
    slow = Timing(streaming_s=8.0, snapshot_s=11.0)
    assert speed("streaming", None, IB, slow).contracts_per_second == pytest.approx(100 / 8)
    assert speed("snapshot", None, IB, slow).contracts_per_second == pytest.approx(100 / 11)
    assert speed("snapshot", None, IB, slow).bound_by == "lines"
    # ten at once for eight seconds each
    assert speed("streaming", PRESETS["stage-0"], IB, slow).contracts_per_second == pytest.approx(10 / 8)


def test_what_ib_leaves_unsettled_is_a_factor_of_two() -> None:
    slow = Timing(streaming_s=0.4, snapshot_s=11.0)
    assert speed("streaming", None, replace(IB, cancels_count=False), FAST).contracts_per_second == 50
    assert speed("snapshot", None, IB, FAST).contracts_per_second == 50
    free = replace(slow, snapshots_hold_lines=False)
    assert speed("snapshot", None, IB, free).contracts_per_second == 50
    assert free.occupancy.snapshot_s == 0


def test_connections_multiply_the_messages_up_to_the_lines_and_a_core() -> None:
    # 100 lines at 0.4 s are 250 a second; each connection of 50 messages brings 25, so ten fill the lines
    case = Case(45_000, HALF_HOUR_S, IB, FAST)
    table = case.by_connections("streaming", "ib-limit")
    assert [(n, fit.speed.contracts_per_second, fit.speed.bound_by) for n, fit in table] == [
        (1, 25.0, "messages"),
        (2, 50.0, "messages"),
        (4, 100.0, "messages"),
        (8, 200.0, "messages"),
        (10, 250.0, "lines"),
    ]
    # where the session shares the rate, two connections are no better than one
    shared = replace(case, limits=replace(IB, connections=8, shared_rate=True))
    assert shared.fit("streaming", "ib-limit").speed.contracts_per_second == 25
    assert [n for n, _ in shared.by_connections("streaming", "ib-limit")] == [1]
    # 5,000 lines at 0.4 s would be 12,500 a second, which one core does not do: 0.32 ms of it a contract are 3,125
    many = Case(45_000, HALF_HOUR_S, Limits(5000, 2500, connections=8), FAST).fit("streaming", "ib-limit")
    assert many.speed.contracts_per_second == pytest.approx(3125)
    assert many.speed.bound_by == "cpu"
    # a preset counts the batches of all connections
    assert replace(case, limits=replace(IB, connections=8)).fit("streaming", "stage-0").speed.bound_by == "preset"


def test_a_slot_that_one_connection_cannot_do_is_done_by_four() -> None:
    changes = {
        change.what: change.fit
        for change in Case(150_000, HALF_HOUR_S, IB, FAST).changes("streaming", "ib-limit", FilterSettings(), None)
    }
    assert [what for what in changes if "connections" in what] == ["2 connections", "4 connections"]
    assert not changes["2 connections"].fits
    assert changes["4 connections"].fits


@pytest.mark.parametrize(
    ("setting", "found", "connections", "contracts_per_second"),
    [
        ("auto", None, 1, 24.5),
        ("auto", {"rate_per": "connection", "cancels_count": True}, 10, 245.0),
        ("auto", {"rate_per": "connection", "cancels_count": False}, 5, 245.0),
        ("auto", {"rate_per": "session", "cancels_count": False}, 1, 49.0),
        (3, {"rate_per": "session"}, 3, 24.5),
        (3, None, 3, 73.5),
    ],
)
def test_limits_are_those_that_a_probe_has_found(
    setting: Any, found: dict[str, Any] | None, connections: int, contracts_per_second: float
) -> None:
    result = found and probed(streaming_hold_ms=400.0, **found)
    limits = Limits.of(load(ib={"connections": setting}), result or None)
    assert limits.connections == connections
    # 98 % of 50 messages a second each, of 98 lines at 0.4 s
    one = speed("streaming", None, limits, FAST).contracts_per_second
    assert one == pytest.approx(min(contracts_per_second, 98 / 0.4))


@pytest.mark.parametrize(
    ("changes", "mode"),
    [
        # 25 a second against 50: a snapshot is one message
        ({}, "snapshot"),
        # both 50; streaming shows open interest too
        ({"cancels_count": False}, "streaming"),
        # both 250, the lines
        ({"connections": 10}, "streaming"),
        ({"connections": 10, "shared_rate": True}, "snapshot"),
    ],
)
def test_the_mode_is_chosen_by_what_all_connections_may_send(changes: dict[str, Any], mode: str) -> None:
    assert replace(IB, **changes).mode("auto", FAST.occupancy) == mode
    assert replace(IB, **changes).mode("snapshot", FAST.occupancy) == "snapshot"


@given(
    lines=st.integers(2, 2000),
    rate=st.floats(1, 1000),
    seconds=st.floats(0.01, 30),
    preset=st.sampled_from(sorted(PRESETS)),
    mode=st.sampled_from(["streaming", "snapshot"]),
)
def test_no_speed_exceeds_messages_or_lines(lines: int, rate: float, seconds: float, preset: str, mode: Any) -> None:
    limits = Limits(lines, rate, head_room=0.98, spare_lines=2)
    one = speed(mode, PRESETS[preset], limits, Timing(seconds, seconds))
    messages_each = 2 if mode == "streaming" else 1
    assert 0 < one.contracts_per_second * messages_each <= rate * 0.98 * (1 + 1e-12)
    assert one.contracts_per_second * seconds <= max(1, lines - 2) * (1 + 1e-12)


# -- what makes it fit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contracts", "lines", "gateways"),
    # 100 lines: 45,000 in half an hour; a booster as many again; an account has 1,100 lines at most.
    [(45_000, 100, 1), (45_001, 200, 2), (250_000, 600, 6), (495_000, 1_100, 11), (495_001, None, 12)],
)
def test_boosters_and_gateways_that_fit(contracts: int, lines: int | None, gateways: int) -> None:
    case = Case(contracts, HALF_HOUR_S, IB, FAST)
    assert case.lines_to_fit("streaming", "ib-limit") == lines
    assert case.gateways_to_fit("streaming", "ib-limit") == gateways
    assert replace(case, gateways=gateways).fit("streaming", "ib-limit").fits


def test_several_gateways_count_with_what_each_has_on_average() -> None:
    gateways = [{"address": "127.0.0.1:4001", "lines": 100}, {"address": "127.0.0.1:4003", "lines": 300}]
    limits = Limits.of(load(ib={"gateways": gateways}))
    assert (limits.lines, limits.messages_per_second) == (200, 100)


def test_boosters_do_not_help_a_preset() -> None:
    case = Case(45_000, HALF_HOUR_S, IB, FAST)
    assert case.lines_to_fit("streaming", "stage-0") is None
    assert case.gateways_to_fit("streaming", "stage-0") == 5
    changes = {change.what: change.fit for change in case.changes("streaming", "stage-0", FilterSettings(), None)}
    assert changes["preset ib-limit"].fits
    assert changes["5 gateways, a batch each"].fits
    assert not any(fit.fits for what, fit in changes.items() if "lines" in what)


def test_nothing_is_to_change_when_it_fits_and_nothing_is_left_out_of_an_empty_set() -> None:
    assert Case(45_000, HALF_HOUR_S, IB, FAST).changes("streaming", "ib-limit", FilterSettings(), None) == []
    assert Case(0, HALF_HOUR_S, IB, FAST).fit("streaming", "ib-limit").fits


def test_narrower_filters_are_counted_contract_by_contract() -> None:
    # Third Fridays of December to March; 61 strikes a dollar apart around 100, call and put.
    expiries = [date(2026, 12, 18), date(2027, 1, 15), date(2027, 2, 19), date(2027, 3, 19)]
    contracts = [(expiry, float(k), 100.0) for expiry in expiries for k in range(70, 131) for _ in "CP"]
    counts = ContractCounts.of(DAY.trade_date, contracts)
    assert counts.total == counts.within(FilterSettings()) == 4 * 61 * 2
    # 488 contracts at one a second and 270 seconds: 15 % leaves 4 x 31 x 2, three months (to 20 February) 3 x 61 x 2.
    case = Case(counts.total, 270.0, Limits(100, 2), FAST)
    changes = case.changes("streaming", "ib-limit", FilterSettings(), counts)
    left = {change.what: change.fit.contracts for change in changes}
    assert left["strikes within 25%"] == 4 * 51 * 2
    assert left["strikes within 15%"] == 4 * 31 * 2
    assert "strikes within 10%" not in left
    assert left["monthly expiries of 3 months"] == 3 * 61 * 2
    assert left["monthly expiries of 2 months"] == 2 * 61 * 2
    assert "monthly expiries of 1 month" not in left


async def test_the_simulated_set_is_what_discovery_freezes(tmp_path: Path) -> None:
    symbols = ("AAPL", "KO")
    options = GatewayOptions(
        port=0,
        control_port=0,
        symbols=symbols,
        at=DAY.at(time(9, 25)),
        speed=0,
        lines=400,
        messages_per_second=4000,
        latency_ms=(0, 0),
    )
    async with SimulatedGateway(options) as gateway:
        settings = load(
            ib={"port": gateway.port, "lines": 400, "messages_per_second": 4000.0},
            lake={"root": str(tmp_path / "lake")},
            state={"dir": tmp_path / "state"},
            filters={"moneyness_pct": 0.05, "expiry_months_ahead": 2},
        )
        universe = [Underlying(symbol) for symbol in symbols]
        async with BrokerSession.connect(settings.ib) as session:
            lake = Lake.create(settings.lake.root, session.origin, session.clock.now())
            await discover(StepContext(lake, DAY, universe, settings, "manual"), session)
    with reader(lake) as reads:
        frozen = reads.contracts(DAY.trade_date)
    counts = simulated_counts(universe, DAY, settings.filters)
    assert counts == ContractCounts.of(
        DAY.trade_date, ((row["expiry"], row["strike"], row["reference_price"]) for row in frozen)
    )


# -- the command -------------------------------------------------------------------------------------------------------


def probed(**changes: object) -> ProbeResult:
    return result_of("simulated", 15).model_copy(update=changes)


def test_a_probe_decides_over_what_is_assumed() -> None:
    result = probed(streaming_hold_ms=400.0)
    timing, source = timing_of(result, None)
    assert (timing.streaming_s, timing.snapshot_s) == (0.4, 11.0)
    assert (source["streaming"], source["snapshot"][:7]) == ("measured on 2026-11-20", "assumed")
    assert timing_of(result, 250.0)[0] == Timing(streaming_s=0.25)
    assert (result.occupancy.streaming_s, result.occupancy.snapshot_s) == (0.4, None)


def capacity(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = run_chainlake("capacity", *arguments, "--json")
    return done.returncode, json.loads(done.stdout) if done.returncode == 0 else {}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_informs_and_does_not_fail(workplace: Path) -> None:
    code, report = capacity("--contracts", "90000", "--lines", "200", "--latency", "400")
    assert code == 0
    (row,) = [row for row in report["rows"] if (row["mode"], row["preset"]) == ("streaming", "ib-limit")]
    # 200 lines are 100 messages; 98 % of them, and the half-hour less its grace of 120 s
    assert row["contracts_per_second"] == 49
    assert row["captured"] == pytest.approx(49 * 1680 / 90000, abs=1e-4)
    assert (row["lines_to_fit"], row["gateways_to_fit"]) == (300, 2)
    assert len(report["rows"]) == 2 * len(PRESETS)
    assert (report["connections"], report["messages_of"]) == (1, "connection")


def test_the_command_reckons_with_several_connections_and_with_what_a_probe_has_found(workplace: Path) -> None:
    arguments = ("--contracts", "90000", "--latency", "400", "--port", "4002")
    code, report = capacity(*arguments, "--connections", "4")
    assert code == 0
    (row,) = [row for row in report["rows"] if (row["mode"], row["preset"]) == ("streaming", "ib-limit")]
    assert (report["connections"], row["contracts_per_second"], row["bound_by"]) == (4, 98, "messages")
    assert [one["bound_by"] for one in report["by_connections"]] == ["messages"] * 4 + ["lines"]
    store(probed(streaming_hold_ms=400.0, rate_per="session", messages_per_second=50), workplace / "state")
    code, report = capacity(*arguments, "--connections", "4")
    (row,) = [row for row in report["rows"] if (row["mode"], row["preset"]) == ("streaming", "ib-limit")]
    assert (report["messages_of"], row["contracts_per_second"]) == ("session", 24.5)
    assert "measured on 2026-11-20" in report["messages_of_from"]
    assert run_chainlake("capacity", "--contracts", "9", "--connections", "33").returncode == 2


def test_the_command_counts_the_frozen_set_of_the_lake(workplace: Path) -> None:
    root = str(workplace / "lake")
    small_lake(Path(root))
    assert capacity("--lake", root)[1]["contracts"] == CONTRACTS_A_DAY
    assert capacity("--lake", root, "--symbols", "AAPL", "--date", "2026-11-19")[1]["contracts"] == CONTRACTS_A_DAY / 2
    assert run_chainlake("capacity", "--lake", root, "--date", "2026-11-18").returncode != 0


def test_without_a_set_it_says_what_to_give(workplace: Path) -> None:
    assert "--contracts" in run_chainlake("capacity").stderr
