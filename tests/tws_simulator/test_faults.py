"""Faults by scenario: what a real client sees of each, and that the same seed strikes the same contracts."""

import asyncio
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
from ib_insync import Contract, Option, Ticker

from tests.tws_simulator.conftest import OPEN_MARKET, Client, ConnectClient, StartGateway
from tws_simulator import GatewayError, SimulatedGateway
from tws_simulator.faults import load_scenario
from tws_simulator.faults.scenario import Fault
from tws_simulator.worlds.instruments import Option as ListedOption

SCENARIOS = Path(__file__).resolve().parents[2] / "config" / "scenarios"
QUICK = {"latency_ms": (0, 0)}


def chain(gateway: SimulatedGateway, count: int) -> list[ListedOption]:
    """Calls near the money of one expiry, by strike."""
    world, now = gateway.world, gateway.clock.now()
    underlying = world.underlyings()[0]
    spot = world.previous_close(underlying, now)
    assert spot is not None
    series = world.series(underlying, now)[4]
    calls = [option for option in series.options() if option.right == "C"]
    return sorted(sorted(calls, key=lambda one: abs(one.strike - spot))[:count], key=lambda one: one.strike)


def contract(option: ListedOption) -> Contract:
    return Option(conId=option.conid, exchange="SMART")


def scenario(folder: Path, *faults: Mapping[str, object], **rest: object) -> Path:
    """A scenario file; JSON is YAML."""
    path = folder / "scenario.yaml"
    path.write_text(json.dumps({"faults": list(faults), **rest}))
    return path


async def inject(gateway: SimulatedGateway, **fault: object) -> None:
    """Add a fault through the control port."""
    await control(gateway, {"op": "fault", "fault": fault})


async def control(gateway: SimulatedGateway, request: Mapping[str, object]) -> dict[str, object]:
    assert gateway.control_port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.control_port)
    writer.write(json.dumps(request).encode() + b"\n")
    answer: dict[str, object] = json.loads(await reader.readline())
    writer.close()
    assert answer["ok"], answer
    return answer


def unknown(value: float) -> bool:
    return math.isnan(value)


def complete(ticker: Ticker) -> bool:
    return ticker.modelGreeks is not None and not unknown(ticker.ask) and not unknown(ticker.bid)


# -- answers to requests


async def test_an_error_strikes_the_contracts_it_names_and_no_other(
    start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path
) -> None:
    gateway = await start_gateway(**QUICK)
    low, high = chain(gateway, 2)
    fault = {"fault": "error", "code": 354, "strikes": [low.strike, low.strike]}
    gateway = await start_gateway(**QUICK, scenario=scenario(tmp_path, fault))
    client = await connect(gateway)
    struck, spared = client.reqMktData(contract(low)), client.reqMktData(contract(high))
    await client.until(lambda: complete(spared) and client.codes() == [354])
    assert unknown(struck.bid)
    assert gateway.lines.in_use == 1


async def test_times_each_fails_the_first_attempt_only(
    start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path
) -> None:
    fault = {"fault": "error", "code": 420, "times_each": 1, "instruments": ["option"]}
    gateway = await start_gateway(**QUICK, scenario=scenario(tmp_path, fault))
    client = await connect(gateway)
    first, second = chain(gateway, 2)
    for option in (first, second):
        client.reqMktData(contract(option))
    await client.until(lambda: client.codes() == [420, 420])
    again = [client.reqMktData(contract(option)) for option in (first, second)]
    await client.until(lambda: all(complete(ticker) for ticker in again))
    assert client.codes() == [420, 420]


async def test_a_probability_of_errors_is_met_and_the_same_for_the_same_seed(
    start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path
) -> None:
    fault = {"fault": "error", "code": 354, "probability": 0.3}
    struck = []
    for seed in (1, 1, 2):
        gateway = await start_gateway(**QUICK, scenario=scenario(tmp_path, fault, seed=seed))
        client = await connect(gateway)
        for option in chain(gateway, 20):
            for _ in range(5):
                client.reqMktData(contract(option))
        await client.until(lambda c=client, g=gateway: c.codes().count(354) + g.lines.in_use == 100)
        struck.append([req_id for req_id, code, _ in client.errors if code == 354])
    assert struck[0] == struck[1] != struck[2]
    # 100 draws at 0.3: 30 expected, standard deviation 4.6
    assert all(12 <= len(one) <= 48 for one in struck)


async def test_an_error_can_strike_details_parameters_and_history(
    start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path
) -> None:
    faults = [
        {"fault": "error", "code": 200, "requests": ["contract_details"], "instruments": ["option"]},
        {"fault": "error", "code": 321, "requests": ["option_parameters"]},
        {"fault": "error", "code": 162, "requests": ["history"]},
    ]
    gateway = await start_gateway(**QUICK, scenario=scenario(tmp_path, *faults))
    client = await connect(gateway)
    assert await client.reqContractDetailsAsync(contract(chain(gateway, 1)[0])) == []
    stock = gateway.world.underlyings()[0]
    assert await client.reqSecDefOptParamsAsync(stock.symbol, "", "STK", stock.conid) == []
    assert not await client.reqHistoricalDataAsync(Contract(conId=stock.conid), "", "5 D", "1 day", "TRADES", True)
    assert client.codes() == [200, 321, 162]


@pytest.mark.parametrize(
    ("fault", "requested", "code", "reported"),
    [
        ("delayed_only", 1, 354, None),
        ("delayed_only", 2, 354, None),
        ("delayed_only", 3, 10167, 3),
        ("delayed_only", 4, 10167, 3),
        ("no_permission", 1, 354, None),
        ("no_permission", 3, 10168, None),
    ],
)
async def test_without_permission_a_request_is_refused_or_delayed(
    start_gateway: StartGateway,
    connect: ConnectClient,
    tmp_path: Path,
    fault: str,
    requested: int,
    code: int,
    reported: int | None,
) -> None:
    gateway = await start_gateway(**QUICK, scenario=scenario(tmp_path, {"fault": fault}))
    client = await connect(gateway)
    client.reqMarketDataType(requested)
    ticker = client.reqMktData(contract(chain(gateway, 1)[0]))
    await client.until(lambda: any(found == code for _, found, _ in client.errors))
    await asyncio.sleep(0.05)
    if reported is None:
        assert unknown(ticker.bid)
        assert gateway.lines.in_use == 0
    else:
        assert (ticker.marketDataType, ticker.bid > 0) == (reported, True)


@pytest.mark.parametrize("delayed", [True, False])
async def test_with_part_of_the_permission_there_is_the_model_and_no_book(
    start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path, delayed: bool
) -> None:
    fault = {"fault": "partial_permission", "delayed": delayed}
    gateway = await start_gateway(**QUICK, scenario=scenario(tmp_path, fault))
    client = await connect(gateway)
    option = contract(chain(gateway, 1)[0])
    ticker = client.reqMktData(option)
    await client.until(lambda: ticker.modelGreeks is not None)
    assert unknown(ticker.bid)
    assert unknown(ticker.ask)
    assert unknown(ticker.last)
    (text,) = [text for _, code, text in client.errors if code == 10091]
    assert text.endswith("Delayed market data is available." if delayed else "Delayed market data is not available.")
    client.cancelMktData(option)
    client.reqMarketDataType(3)
    later = client.reqMktData(option)
    await client.until(lambda: client.errors[-1][1] == (10167 if delayed else 10168))
    if delayed:
        await client.until(lambda: complete(later))
        assert later.marketDataType == 3


async def test_delayed_data_is_ignored_where_live_data_is_permitted_if_so_chosen(
    start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path
) -> None:
    for path, reported in ((None, 1), (scenario(tmp_path, {"fault": "delayed_only"}), 3)):
        gateway = await start_gateway(**QUICK, delayed_requests="ignored", scenario=path)
        client = await connect(gateway)
        client.reqMarketDataType(3)
        ticker = client.reqMktData(contract(chain(gateway, 1)[0]))
        await client.until(lambda ticker=ticker: not unknown(ticker.bid))
        assert ticker.marketDataType == reported


# -- ticks


async def ticker_under(
    start_gateway: StartGateway, connect: ConnectClient, folder: Path, **fault: object
) -> tuple[SimulatedGateway, Client, Ticker]:
    """A subscription to an option near the money whose contract is struck, 0.1 s after it began."""
    gateway = await start_gateway(**QUICK, scenario=scenario(folder, fault))
    client = await connect(gateway)
    ticker = client.reqMktData(contract(chain(gateway, 1)[0]), "101")
    # without latency the first ticks are on the socket before this answer
    await client.reqCurrentTimeAsync()
    return gateway, client, ticker


async def test_silent(start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path) -> None:
    gateway, client, ticker = await ticker_under(start_gateway, connect, tmp_path, fault="silent", **{"for": 0.8})
    assert ticker.ticks == []
    assert unknown(ticker.bid)
    assert gateway.lines.in_use == 1
    await client.until(lambda: complete(ticker))


async def test_slow(start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path) -> None:
    _, client, ticker = await ticker_under(start_gateway, connect, tmp_path, fault="slow", seconds=0.3)
    assert unknown(ticker.bid)
    await client.until(lambda: complete(ticker))


@pytest.mark.parametrize("side", ["bid", "ask"])
async def test_one_sided(start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path, side: str) -> None:
    _, _, ticker = await ticker_under(start_gateway, connect, tmp_path, fault="one_sided", side=side)
    assert (unknown(ticker.bid), unknown(ticker.ask)) == (side == "ask", side == "bid")
    assert ticker.modelGreeks is not None


async def test_the_first_model_tick_is_empty_and_the_next_is_not(
    start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path
) -> None:
    _, client, ticker = await ticker_under(start_gateway, connect, tmp_path, fault="empty_model", seconds=0.3)
    assert ticker.modelGreeks is not None
    assert ticker.modelGreeks.impliedVol is None
    await client.until(lambda: ticker.modelGreeks is not None and ticker.modelGreeks.impliedVol is not None)


async def test_no_model(start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path) -> None:
    _, _, ticker = await ticker_under(start_gateway, connect, tmp_path, fault="no_model")
    assert ticker.modelGreeks is None
    assert ticker.bid > 0


@pytest.mark.parametrize(
    ("kind", "bid", "ask"), [("minus_one", -1.0, -1.0), ("zero", 0.0, 0.0), ("not_computed", None, None)]
)
async def test_sentinels(
    start_gateway: StartGateway,
    connect: ConnectClient,
    tmp_path: Path,
    kind: str,
    bid: float | None,
    ask: float | None,
) -> None:
    _, _, ticker = await ticker_under(start_gateway, connect, tmp_path, fault="sentinels", kind=kind)
    if bid is not None:
        assert (ticker.bid, ticker.ask) == (bid, ask)
    else:
        # facts.md 2: the library makes None of what it knows, and leaves vega and theta at -2
        greeks = ticker.modelGreeks
        assert greeks is not None
        assert (greeks.impliedVol, greeks.delta, greeks.gamma, greeks.vega, greeks.theta) == (None, None, None, -2, -2)


async def test_crossed_and_locked(start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path) -> None:
    for by in (0.1, 0.0):
        _, _, ticker = await ticker_under(start_gateway, connect, tmp_path, fault="crossed", by=by)
        assert ticker.bid - ticker.ask == pytest.approx(by)


async def test_stale_quotes_are_those_of_an_earlier_moment(
    start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path
) -> None:
    gateway, _, ticker = await ticker_under(start_gateway, connect, tmp_path, fault="stale", minutes=15)
    option = chain(gateway, 1)[0]
    then = gateway.world.option_quote(option, OPEN_MARKET - timedelta(minutes=15))
    now = gateway.world.option_quote(option, OPEN_MARKET)
    assert (ticker.bid, ticker.ask) == (then.bid, then.ask)
    assert (then.bid, then.ask, then.model) != (now.bid, now.ask, now.model)


async def test_wrong_order_brings_the_model_before_the_quote(
    start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path
) -> None:
    gateway = await start_gateway(latency_ms=(60, 120), scenario=scenario(tmp_path, {"fault": "wrong_order"}))
    client = await connect(gateway)
    ticker = client.reqMktData(contract(chain(gateway, 1)[0]))
    await client.until(lambda: ticker.modelGreeks is not None)
    assert unknown(ticker.bid)
    await client.until(lambda: complete(ticker))


async def test_a_share_of_the_contracts_is_struck_and_the_same_one_again(
    start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path
) -> None:
    silent = []
    for _ in range(2):
        gateway = await start_gateway(**QUICK, scenario=scenario(tmp_path, {"fault": "silent", "share": 0.25}))
        client = await connect(gateway)
        tickers = [client.reqMktData(contract(option)) for option in chain(gateway, 60)]
        await asyncio.sleep(0.2)
        silent.append({ticker.contract.conId for ticker in tickers if ticker.contract and not complete(ticker)})
    assert silent[0] == silent[1]
    # 60 contracts at 0.25: 15 expected, standard deviation 3.4
    assert 4 <= len(silent[0]) <= 28


# -- the connection


async def streaming(gateway: SimulatedGateway, client: Client) -> Ticker:
    ticker = client.reqMktData(contract(chain(gateway, 1)[0]))
    await client.until(lambda: complete(ticker))
    return ticker


async def test_connection_lost_and_restored_with_the_data_kept(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    gateway = await start_gateway(**QUICK, control_port=0)
    client = await connect(gateway)
    ticker = await streaming(gateway, client)
    await inject(gateway, fault="connection_lost", **{"for": 0.4})
    await client.until(lambda: client.codes() == [1100])
    before = ticker.bid, ticker.ask, ticker.last, ticker.modelGreeks
    gateway.clock.set(OPEN_MARKET + timedelta(minutes=30))
    late = client.reqMktData(contract(chain(gateway, 2)[0]))
    await asyncio.sleep(0.1)
    assert (ticker.bid, ticker.ask, ticker.last, ticker.modelGreeks) == before
    assert unknown(late.bid)
    await client.until(lambda: client.codes() == [1100, 1102])
    await client.until(lambda: ticker.modelGreeks != before[3] and complete(late))


async def test_connection_restored_with_the_data_lost_ends_the_subscriptions(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    gateway = await start_gateway(**QUICK, control_port=0)
    client = await connect(gateway)
    ticker = await streaming(gateway, client)
    await inject(gateway, fault="connection_lost", data="lost", **{"for": 0.2})
    await client.until(lambda: client.codes() == [1100, 1101])
    assert gateway.lines.in_use == 0
    before = ticker.modelGreeks
    gateway.clock.set(OPEN_MARKET + timedelta(minutes=30))
    await asyncio.sleep(0.1)
    assert ticker.modelGreeks == before
    assert complete(await streaming(gateway, client))


async def test_a_nightly_reset_tells_of_every_farm(start_gateway: StartGateway, connect: ConnectClient) -> None:
    midnight = datetime(2026, 11, 20, 5, 14, tzinfo=UTC)  # 00:14 New York
    gateway = await start_gateway(**QUICK, control_port=0, at=midnight)
    client = await connect(gateway)
    await inject(gateway, fault="nightly_reset")
    client.errors.clear()
    gateway.clock.set(midnight + timedelta(minutes=1))
    await client.until(lambda: [code for _, code, _ in client.errors] == [1100, 2103, 2103, 2105, 2157])
    gateway.clock.set(midnight + timedelta(minutes=91))
    await client.until(lambda: [code for _, code, _ in client.errors][5:] == [1102, 2104, 2104, 2106, 2158])


@pytest.mark.parametrize("farm", ["usopt", "usfarm"])
async def test_a_farm_that_is_down_silences_what_it_serves(
    start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path, farm: str
) -> None:
    gateway = await start_gateway(**QUICK, scenario=scenario(tmp_path, {"fault": "farm_down", "farm": farm}))
    client = await connect(gateway)
    assert (-1, 2103, f"Market data farm connection is broken:{farm}") in client.errors
    stock = client.reqMktData(Contract(conId=gateway.world.underlyings()[0].conid, exchange="SMART"))
    option = client.reqMktData(contract(chain(gateway, 1)[0]))
    await asyncio.sleep(0.1)
    assert (unknown(stock.bid), unknown(option.bid)) == (farm == "usfarm", farm == "usopt")


async def test_history_fails_while_its_farm_is_down(
    start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path
) -> None:
    gateway = await start_gateway(**QUICK, scenario=scenario(tmp_path, {"fault": "farm_down", "farm": "ushmds"}))
    client = await connect(gateway)
    stock = Contract(conId=gateway.world.underlyings()[0].conid, exchange="SMART")
    assert not await client.reqHistoricalDataAsync(stock, "", "5 D", "1 day", "TRADES", True)
    assert client.codes() == [162]


async def test_a_competing_session_takes_the_live_data_and_leaves_the_delayed(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    gateway = await start_gateway(**QUICK, control_port=0)
    client = await connect(gateway)
    running = await streaming(gateway, client)
    await inject(gateway, fault="competing_session")
    await client.until(lambda: client.codes() == [] and [c for _, c, _ in client.errors][-1] == 10197)
    refused = client.reqMktData(contract(chain(gateway, 3)[0]))
    client.reqMarketDataType(3)
    delayed = client.reqMktData(contract(chain(gateway, 3)[2]))
    await client.until(lambda: not unknown(delayed.bid))
    before = running.modelGreeks
    gateway.clock.set(OPEN_MARKET + timedelta(minutes=30))
    await asyncio.sleep(0.1)
    assert running.modelGreeks == before
    assert unknown(refused.bid)
    await control(gateway, {"op": "clear"})
    await client.until(lambda: running.modelGreeks != before)


@pytest.mark.parametrize("reset", [False, True])
async def test_a_socket_drop_frees_the_lines_and_refuses_clients_while_it_lasts(
    start_gateway: StartGateway, connect: ConnectClient, reset: bool
) -> None:
    gateway = await start_gateway(**QUICK, control_port=0)
    client = await connect(gateway)
    await streaming(gateway, client)
    await inject(gateway, fault="socket_drop", reset=reset, **{"for": 0.3})
    await client.until(lambda: not client.isConnected())
    assert gateway.lines.in_use == 0
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", gateway.port)
    await asyncio.sleep(0.5)
    assert complete(await streaming(gateway, await connect(gateway)))


async def test_a_half_open_socket_neither_answers_nor_ends(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(**QUICK, control_port=0)
    client = await connect(gateway)
    await streaming(gateway, client)
    await inject(gateway, fault="half_open", **{"for": 0.6})
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(client.reqCurrentTimeAsync(), 0.2)
    assert client.isConnected()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"API\0\x00\x00\x00\x09v157..176")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.1)
    writer.close()
    await client.until(lambda: not client.isConnected())
    assert complete(await streaming(gateway, await connect(gateway)))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("unknown_message", b"9999\0"), ("short", b"1\x006\0"), ("binary", b"\xff\xfe"), ("endless", b"")],
)
async def test_a_garbage_frame_reaches_the_client(start_gateway: StartGateway, kind: str, expected: bytes) -> None:
    """Read raw: what a client library makes of it is its own affair."""
    gateway = await start_gateway(**QUICK, control_port=0)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"API\0\x00\x00\x00\x09v157..178")
    assert (await frame(reader)).startswith(b"178\0")
    await inject(gateway, fault="garbage_frame", kind=kind)
    if kind == "endless":
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(frame(reader), 0.2)
    else:
        assert (await frame(reader)).startswith(expected)
    writer.close()


async def frame(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))


async def test_a_notice_is_told_to_every_client(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(**QUICK, control_port=0)
    clients = [await connect(gateway), await connect(gateway)]
    await inject(gateway, fault="notice", code=2148, message="exchange closed")
    for client in clients:
        await client.until(lambda client=client: (-1, 2148, "exchange closed") in client.errors)


# -- when


async def test_a_fault_waits_for_its_market_time_and_ends_at_it(
    start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path
) -> None:
    fault = {"fault": "silent", "from": "10:30", "until": "11:00"}
    gateway = await start_gateway(**QUICK, scenario=scenario(tmp_path, fault))
    client = await connect(gateway)
    ticker = await streaming(gateway, client)
    for minutes, frozen in ((30, True), (59, True), (60, False)):
        before = ticker.modelGreeks
        gateway.clock.set(OPEN_MARKET + timedelta(minutes=minutes))
        await asyncio.sleep(0.1)
        assert (ticker.modelGreeks == before) == frozen


async def test_a_fault_waits_for_so_many_requests(
    start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path
) -> None:
    fault = {"fault": "error", "code": 354, "after_requests": 10}
    gateway = await start_gateway(**QUICK, scenario=scenario(tmp_path, fault))
    client = await connect(gateway)
    tickers = [client.reqMktData(contract(option)) for option in chain(gateway, 15)]
    await asyncio.sleep(0.2)
    assert [complete(ticker) for ticker in tickers] == [True] * 10 + [False] * 5


async def test_the_control_port_tells_the_faults(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(**QUICK, control_port=0)
    client = await connect(gateway)
    await inject(gateway, fault="error", code=354, rights=["P"])
    await inject(gateway, fault="silent", **{"from": "23:00"})
    client.reqMktData(contract(chain(gateway, 1)[0]))
    await client.until(lambda: gateway.lines.in_use == 1)
    told = await control(gateway, {"op": "faults"})
    assert told["faults"] == [
        {"fault": "error", "code": 354, "rights": ["P"], "number": 1, "in_force": True, "strikes": 0},
        {"fault": "silent", "from": "23:00", "number": 2, "in_force": False, "strikes": 0},
    ]


# -- scenario files


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("faults: [", "line 1"),
        ("- fault: silent", "no 'faults:' list"),
        ("faults:\n- {fault: eror, code: 1}", "faults[0] 'eror' is no fault; there are 'error'"),
        ("faults:\n- {code: 1}", "faults[0] the line 'fault: ...' is missing"),
        ("faults:\n- {fault: silent}\n- {fault: error}", "faults[1] error.code: Field required"),
        ("faults:\n- {fault: silent, share: 1.5}", "faults[0] silent.share: Input should be less than or equal to 1"),
        ("faults:\n- {fault: silent, from: 25:99}", "faults[0] silent.from:"),
        ("faults:\n- {fault: silent, from: 10:30, until: 2026-11-20 11:00}", "give both a date, or neither"),
        ("faults:\n- {fault: silent, symbol: AAPL}", "faults[0] silent.symbol: Extra inputs are not permitted"),
        ("faults: " + "[" * 5_000 + "]" * 5_000, "nested too deeply"),
        ("a: " * 5_000, "line 1"),
        ("faults:\n- {fault: farm_down, farm: moon}", "faults[0] farm_down.farm: Input should be 'usfarm'"),
    ],
)
def test_a_mistake_in_a_scenario_is_named_in_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "storm.yaml"
    path.write_text(text)
    with pytest.raises(GatewayError) as raised:
        load_scenario(path)
    assert complaint in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_scenario_is_named(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match=r"scenario .*nowhere.yaml cannot be read"):
        load_scenario(tmp_path / "nowhere.yaml")


def test_unquoted_times_are_times(tmp_path: Path) -> None:
    """YAML 1.1 makes 630 of an unquoted 10:30."""
    path = tmp_path / "s.yaml"
    path.write_text(
        "faults:\n- {fault: silent, from: 10:30, until: 16:00:30}\n- {fault: silent, from: 2026-11-20 09:30}"
    )
    first, second = load_scenario(path).faults
    assert first.from_ is not None
    assert first.until is not None
    assert second.from_ is not None
    assert (first.from_.clock.isoformat(), first.until.clock.isoformat()) == ("10:30:00", "16:00:30")
    assert (str(second.from_.day), second.from_.clock.isoformat()) == ("2026-11-20", "09:30:00")


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_scenarios_that_are_shipped_are_valid(path: Path) -> None:
    assert load_scenario(path).faults


def test_every_fault_and_field_is_documented() -> None:
    page = (SCENARIOS.parents[1] / "docs" / "reference" / "gateway-scenarios.md").read_text()
    fields = {f"`{field.alias or name}`" for fault in get_args(Fault) for name, field in fault.model_fields.items()} | {
        f"`{get_args(fault.model_fields['fault'].annotation)[0]}`" for fault in get_args(Fault)
    }
    assert sorted(one for one in fields - {"`fault`"} if one not in page) == []


async def test_a_stuck_client_id_is_left_without_an_answer_or_closed_and_others_are_let_in(
    start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path
) -> None:
    faults = [
        {"fault": "client_id_stuck", "client_ids": [3]},
        {"fault": "client_id_stuck", "client_ids": [4], "how": "closed"},
    ]
    gateway = await start_gateway(scenario=scenario(tmp_path, *faults))
    for client_id in (3, 4):
        stuck = Client()
        with pytest.raises((TimeoutError, ConnectionError)):
            await stuck.connectAsync("127.0.0.1", gateway.port, client_id, timeout=0.5)
        assert stuck.errors == []
    assert (await connect(gateway, client_id=5)).isConnected()


async def test_a_download_that_does_not_end_keeps_the_library_from_connecting(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    fault = {"fault": "unended_download", "downloads": ["executions"]}
    gateway = await start_gateway(scenario=scenario(tmp_path, fault))
    client = Client()
    with pytest.raises(TimeoutError):
        await client.connectAsync("127.0.0.1", gateway.port, 3, timeout=0.5)
