"""The probe against a simulated gateway that enforces its limits: how the gateway is set up is the answer sheet."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest

from ingest.broker.probe import TimedRequest
from ingest.calendar.sessions import session_on
from ingest.capacity.probe import probe, streaming_hold
from ingest.capacity.probe_result import Latency, ProbeResult, connections_for, store, stored
from ingest.contracts import Underlying
from ingest.errors import BrokerUnreachable, UsageError
from ingest.settings import Settings, load
from tests.tws_simulator.raw import START_API, frame, greeting
from tws_simulator import GatewayOptions, SimulatedGateway

DAY = session_on(date(2026, 11, 20))
assert DAY is not None
AAPL = Underlying("AAPL")
LINES, RATE = 40, 80.0

StartGateway = Callable[..., Awaitable[SimulatedGateway]]


@pytest.fixture
async def start_gateway() -> AsyncIterator[StartGateway]:
    async with AsyncExitStack() as stack:

        async def start(**changes: object) -> SimulatedGateway:
            options = {
                "port": 0,
                "at": DAY.at(time(10, 0)),
                "speed": 0,
                "lines": LINES,
                "messages_per_second": RATE,
                "latency_ms": (1, 5),
                "snapshot_seconds": 0.5,
            }
            return await stack.enter_async_context(SimulatedGateway(GatewayOptions.model_validate(options | changes)))

        yield start


def settings_for(gateway: SimulatedGateway, tmp_path: Path, lines: int = LINES, rate: float = RATE) -> Settings:
    return load(
        ib={"port": gateway.port, "lines": lines, "messages_per_second": rate},
        state={"dir": tmp_path / "state"},
        acquisition={"contract_timeout_s": 2.0, "greeks_patience_s": 1.0},
    )


@pytest.mark.parametrize(("cancels_count", "snapshots_hold_lines"), [(True, False), (False, True)])
async def test_each_unsettled_rule_is_found_out_with_one_error_100_at_most(
    start_gateway: StartGateway, tmp_path: Path, cancels_count: bool, snapshots_hold_lines: bool
) -> None:
    # Each message in excess is a violation: the strictest reading, under which three of them end the session.
    rules = {
        "cancels_count": cancels_count,
        "snapshots_hold_lines": snapshots_hold_lines,
        "violation_per": "message",
    }
    gateway = await start_gateway(rules=rules)
    result = await probe(settings_for(gateway, tmp_path), [AAPL])
    assert (result.cancels_count, result.excess_messages) == (cancels_count, "reject")
    assert result.snapshots_hold_lines is snapshots_hold_lines
    assert gateway.stats.violations == result.pacing_errors == 1
    assert gateway.lines.most_in_use == LINES
    assert result.notes == ()


@pytest.mark.parametrize("cancels_count", [True, False])
@pytest.mark.parametrize("rate_per", ["connection", "session"])
async def test_whose_the_rate_is_shows_with_two_connections_and_decides_how_many_are_opened(
    start_gateway: StartGateway, tmp_path: Path, rate_per: str, cancels_count: bool
) -> None:
    # 1,600 lines a second at most: two messages each at 80 a second a connection are 40 connections, one each are 20
    gateway = await start_gateway(
        latency_ms=(25, 25), rules={"rate_per": rate_per, "cancels_count": cancels_count, "violation_per": "message"}
    )
    settings = settings_for(gateway, tmp_path)
    result = await probe(settings, [AAPL])
    assert (result.rate_per, result.cancels_free, result.notes) == (rate_per, not cancels_count, ())
    # one for each question, and the second has it only where connections share the rate
    assert gateway.stats.violations == result.pacing_errors == (1 if rate_per == "connection" else 2)
    store(result, settings.state.dir)
    kept = stored(settings.state.dir, f"127.0.0.1:{gateway.port}", "simulated")
    assert kept == result
    assert kept.streaming_hold_ms is not None
    opened = connections_for("auto", kept, LINES, RATE, kept.streaming_hold_ms / 1000)
    if rate_per == "session":
        assert (opened, kept.connections_to_lines) == (1, None)
    else:
        exact = LINES / (kept.streaming_hold_ms / 1000) * (2 if cancels_count else 1) / RATE
        assert kept.connections_to_lines == math.ceil(exact)
        assert opened == min(kept.connections_to_lines, 28) > 1


@pytest.mark.parametrize("rate_per", ["connection", "session"])
async def test_whose_the_rate_is_shows_by_late_answers_where_messages_wait(
    start_gateway: StartGateway, tmp_path: Path, rate_per: str
) -> None:
    gateway = await start_gateway(rules={"over_rate": "pace", "rate_per": rate_per})
    for _ in range(3):
        result = await probe(settings_for(gateway, tmp_path), [AAPL])
        # on a busy host answers are late by themselves
        if result.rate_per == rate_per:
            break
    assert result.rate_per == rate_per
    assert gateway.stats.violations == 0


async def test_a_gateway_with_no_room_for_a_second_connection_leaves_it_open_whose_the_rate_is(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    gateway = await start_gateway()
    async with AsyncExitStack() as stack:
        for number in range(31):
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            stack.callback(writer.close)
            writer.write(greeting() + frame(START_API, 2, 1000 + number, ""))
        result = await probe(settings_for(gateway, tmp_path), [AAPL])
    assert (result.cancels_count, result.rate_per, result.connections_to_lines) == (True, None, None)
    assert any("whose the message rate is cannot be told" in note for note in result.notes)
    assert connections_for("auto", result, LINES, RATE, 0.1) == 1


@pytest.mark.parametrize("cancels_count", [True, False])
async def test_a_gateway_that_paces_shows_by_late_answers(
    start_gateway: StartGateway, tmp_path: Path, cancels_count: bool
) -> None:
    gateway = await start_gateway(rules={"over_rate": "pace", "cancels_count": cancels_count})
    for _ in range(3):
        result = await probe(settings_for(gateway, tmp_path), [AAPL])
        # On a busy host answers are late by themselves: then the probe says that it does not know.
        if result.cancels_count is not None:
            break
    assert (result.cancels_count, result.excess_messages) == (cancels_count, "pace")
    assert result.pacing_errors == 0


async def test_limits_above_the_settings_are_not_taken_for_rules(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(lines=400, messages_per_second=4000)
    result = await probe(settings_for(gateway, tmp_path), [AAPL])
    assert (result.cancels_count, result.excess_messages, result.snapshots_hold_lines) == (None, None, None)
    assert ["ib.lines" in note or "no limit shows" in note for note in result.notes] == [True, True]


async def test_lines_that_tws_itself_uses_do_not_mislead_it(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateways = [await start_gateway(lines=25, rules={"snapshots_hold_lines": hold}) for hold in (True, False)]
    held, free = await asyncio.gather(*(probe(settings_for(gateway, tmp_path), [AAPL]) for gateway in gateways))
    assert (held.snapshots_hold_lines, free.snapshots_hold_lines) == (True, False)
    assert held.errors[101] >= 1
    assert held.asked == 25


async def test_a_limit_below_the_settings_ends_the_probe_without_more_errors(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    # so far below that the first question meets it, also where a busy host sends late
    gateway = await start_gateway(messages_per_second=12, rules={"violation_per": "second"})
    result = await probe(settings_for(gateway, tmp_path), [AAPL])
    assert result.cancels_count is None
    assert any("ib.messages_per_second" in note for note in result.notes)
    assert gateway.stats.violations == 1


async def test_latencies_are_those_of_the_gateway(start_gateway: StartGateway, tmp_path: Path) -> None:
    """Bid, ask and model come at the first, second and third of three uniform draws in 200-800 ms.

    Their medians are closed forms: the median of the second of three is 1/2 of the interval, that of the third
    0.5^(1/3) of it.
    """
    gateway = await start_gateway(lines=100, messages_per_second=100, latency_ms=(200, 800), snapshot_seconds=1)
    result = await probe(settings_for(gateway, tmp_path, lines=100, rate=100), [AAPL])
    assert result.quote is not None
    assert result.model is not None
    assert result.snapshot is not None
    assert result.quote.p50_ms == pytest.approx(200 + 600 / 2, abs=80)
    assert result.model.p50_ms == pytest.approx(200 + 600 * 0.5 ** (1 / 3), abs=80)
    # so are their 99th percentiles: 0.941 and 0.997 of the interval; a busy machine adds to them
    assert 700 < result.quote.p99_ms <= result.model.p99_ms < 1500
    assert result.quote.samples == result.asked == 100
    # a snapshot has everything with the third draw, or ends after a second here
    assert 200 < result.snapshot.p50_ms <= result.snapshot.p99_ms < 1500


async def test_silence_gives_no_latency_and_says_so(start_gateway: StartGateway, tmp_path: Path) -> None:
    silence = tmp_path / "silence.yaml"
    silence.write_text("faults: [{fault: silent, instruments: [option]}]")
    gateway = await start_gateway(scenario=silence)
    result = await probe(settings_for(gateway, tmp_path), [AAPL])
    assert (result.quote, result.model, result.streaming_hold_ms) == (None, None, None)
    assert any("market is open" in note for note in result.notes)


async def test_nothing_to_ask_for_is_wrong_usage_and_no_gateway_is_unreachable(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    gateway = await start_gateway()
    settings = settings_for(gateway, tmp_path)
    with pytest.raises(UsageError, match="--symbols"):
        await probe(settings, [Underlying("ZZZZ")])
    await gateway.stop()
    with pytest.raises(BrokerUnreachable):
        await probe(settings, [AAPL])


# -- pure parts --------------------------------------------------------------------------------------------------------


def test_percentiles_are_nearest_rank_over_what_came() -> None:
    # Nearest rank: the 50th and the 99th of 1..100.
    latency = Latency.of([None, *(n / 1000 for n in range(100, 0, -1))])
    assert latency == Latency(samples=100, p50_ms=50.0, p99_ms=99.0)
    assert Latency.of([None]) is None


@pytest.mark.parametrize(
    ("quote_s", "model_s", "held"),
    [(0.2, 0.3, 0.3), (0.3, 0.2, 0.3), (0.2, None, 2.0), (3.0, None, 3.0), (None, None, 11.0), (0.2, 5.0, 2.0)],
)
def test_a_line_is_held_as_long_as_readiness_takes(quote_s: float | None, model_s: float | None, held: float) -> None:
    request = TimedRequest(1, None, "C", quote_s=quote_s, model_s=model_s)  # type: ignore[arg-type]
    assert streaming_hold(request, load().acquisition) == held


def result_of(origin: str, hour: int) -> ProbeResult:
    return ProbeResult(
        chainlake="0.1.0",
        probed_at=datetime(2026, 11, 20, hour, tzinfo=UTC),
        gateway="127.0.0.1:4002",
        origin=origin,
        lines=100,
        messages_per_second=50,
        cancels_count=True,
        model=Latency(samples=1, p50_ms=300.0, p99_ms=500.0),
        errors={101: 1},
    )


@pytest.mark.parametrize(
    ("setting", "found", "line_seconds", "connections"),
    [
        ("auto", None, 1.0, 1),
        ("auto", {"rate_per": None}, 1.0, 1),
        ("auto", {"rate_per": "session"}, 0.1, 1),
        # 100 lines a second are 200 messages: four times 50
        ("auto", {"rate_per": "connection"}, 1.0, 4),
        ("auto", {"rate_per": "connection"}, 0.99, 5),
        # a free cancel halves the messages; one that is not known to be free does not
        ("auto", {"rate_per": "connection", "cancels_count": False}, 1.0, 2),
        ("auto", {"rate_per": "connection", "cancels_count": None}, 1.0, 4),
        # lines that are held for long are full with one
        ("auto", {"rate_per": "connection"}, 11.0, 1),
        # 32 is what IB lets in: four are left to others
        ("auto", {"rate_per": "connection"}, 0.01, 28),
        ("auto", {"rate_per": "connection"}, 0.0, 28),
        ("auto", {"rate_per": "connection"}, math.nan, 28),
        ("auto", {"rate_per": "connection"}, math.inf, 1),
        (7, None, 1.0, 7),
        (7, {"rate_per": "session"}, 1.0, 7),
        (32, {"rate_per": "connection"}, 1.0, 32),
    ],
)
def test_so_many_connections_as_fill_the_lines_where_each_was_found_to_have_the_rate(
    setting: Any, found: dict[str, Any] | None, line_seconds: float, connections: int
) -> None:
    probed = None if found is None else result_of("ibkr-paper", 15).model_copy(update=found)
    assert connections_for(setting, probed, 100, 50.0, line_seconds) == connections
    # one without a line would have nothing to do
    assert connections_for(setting, probed, 3, 50.0, line_seconds) <= 3


def test_what_a_simulated_gateway_showed_does_not_count_for_a_real_one_at_its_address(tmp_path: Path) -> None:
    real, simulated = result_of("ibkr-live", 14), result_of("simulated", 15)
    for one in (real, simulated):
        store(one, tmp_path)
    assert stored(tmp_path, "127.0.0.1:4002") == simulated
    assert stored(tmp_path, "127.0.0.1:4002", "ibkr-live") == real
    assert stored(tmp_path, "127.0.0.1:4002", "ibkr-paper") is None


def test_the_latest_result_of_a_gateway_is_read_back_as_it_was(tmp_path: Path) -> None:
    paper, live = result_of("ibkr-paper", 15), result_of("ibkr-live", 14)
    files = {store(live, tmp_path), store(paper, tmp_path), store(paper, tmp_path)}
    assert len(files) == 2
    assert stored(tmp_path, "127.0.0.1:4002") == paper
    assert stored(tmp_path, "127.0.0.1:4001") is None
    # a half-written or older file is passed over
    for file in files:
        if "paper" in file.name:
            file.write_text("{")
    assert stored(tmp_path, "127.0.0.1:4002") == live
