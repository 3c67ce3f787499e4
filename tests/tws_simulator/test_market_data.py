"""What subscribers see: streaming, greeks, open interest, the four market data types, snapshots, refusals."""

import asyncio
import math
from datetime import UTC, datetime, timedelta

import pytest
from ib_insync import Contract, Option, Stock, Ticker

from tests.tws_simulator.conftest import OPEN_MARKET, ConnectClient, StartGateway
from tws_simulator import SimulatedGateway
from tws_simulator.worlds.instruments import Option as ListedOption

STOCK = Stock("AAPL", "SMART", "USD")
AFTER_CLOSE = datetime(2026, 11, 20, 21, 5, tzinfo=UTC)
AT_CLOSE = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)
BEFORE_OPEN = datetime(2026, 11, 20, 14, 25, tzinfo=UTC)


def listed(gateway: SimulatedGateway, distance: float = 0.0, right: str = "C") -> ListedOption:
    """A contract of the third expiry, its strike `distance` (0.1 is 10 %) above the price."""
    world, now = gateway.world, gateway.clock.now()
    underlying = world.underlyings()[0]
    close = world.previous_close(underlying, now)
    assert close is not None
    series = world.series(underlying, now)[4]
    strike = min(series.strikes.tolist(), key=lambda one: abs(one - close * (1 + distance)))
    option = series.find(strike, "C" if right == "C" else "P")
    assert option is not None
    return option


def contract(option: ListedOption) -> Contract:
    return Option(conId=option.conid, exchange="SMART")


def known(value: float) -> bool:
    return not math.isnan(value)


async def test_a_stream_has_quote_greeks_and_open_interest(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway()
    client = await connect(gateway)
    for right in ("C", "P"):
        option = listed(gateway, right=right)
        ticker = client.reqMktData(contract(option), "101")
        await client.until(lambda ticker=ticker: ticker.modelGreeks is not None and known(ticker.callOpenInterest))
        quote = gateway.world.option_quote(option, gateway.clock.now())
        assert (ticker.bid, ticker.ask, ticker.volume) == (quote.bid, quote.ask, quote.volume)
        assert (ticker.bidSize, ticker.askSize) == (quote.bid_size, quote.ask_size)
        assert ticker.bid < ticker.modelGreeks.optPrice < ticker.ask
        assert math.copysign(1, ticker.modelGreeks.delta) == (1 if right == "C" else -1)
        assert ticker.close == gateway.world.previous_close(option, gateway.clock.now())
        interest = gateway.world.open_interest(option, gateway.clock.now())
        assert (ticker.callOpenInterest, ticker.putOpenInterest) == ((interest, 0) if right == "C" else (0, interest))
        assert (ticker.minTick, ticker.marketDataType) == (option.series.min_tick, 1)


async def test_first_ticks_arrive_one_after_the_other_the_model_last(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    gateway = await start_gateway(latency_ms=(40, 160))
    client = await connect(gateway)
    option = listed(gateway)
    clock = asyncio.get_running_loop().time
    started = clock()
    seen: dict[str, float] = {}

    def note(ticker: Ticker) -> None:
        for name, there in (
            ("bid", known(ticker.bid)),
            ("ask", known(ticker.ask)),
            ("model", ticker.modelGreeks is not None),
        ):
            if there:
                seen.setdefault(name, clock() - started)

    ticker = client.reqMktData(contract(option))
    ticker.updateEvent += note
    await client.until(lambda: "model" in seen)
    assert 0.035 < seen["bid"] <= seen["ask"] <= seen["model"] < 0.4
    assert seen["bid"] < seen["model"]


async def test_underlyings_have_volatility_ticks_and_the_days_range(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    client = await connect(await start_gateway())
    ticker = client.reqMktData(STOCK, "104,106")
    await client.until(lambda: known(ticker.impliedVolatility) and known(ticker.histVolatility))
    assert 0.05 < ticker.impliedVolatility < 2
    assert 0.05 < ticker.histVolatility < 2
    assert ticker.low <= ticker.bid < ticker.ask
    assert ticker.low <= min(ticker.open, ticker.last)
    assert ticker.high >= max(ticker.open, ticker.last)


async def test_a_side_without_a_market_is_minus_one_with_size_zero(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    gateway = await start_gateway()
    client = await connect(gateway)
    now = gateway.clock.now()
    world = gateway.world
    wing = next(
        option
        for series in world.series(world.underlyings()[0], now)
        for option in series.options()
        if world.option_quote(option, now).bid is None
    )
    ticker = client.reqMktData(contract(wing))
    await client.until(lambda: known(ticker.ask) and known(ticker.bid))
    assert (ticker.bid, ticker.bidSize) == (-1, 0)
    assert ticker.ask > 0
    assert not ticker.hasBidAsk()


@pytest.mark.parametrize("requested", [1, 2, 3, 4])
async def test_while_the_market_is_open_every_type_shows_it(
    start_gateway: StartGateway, connect: ConnectClient, requested: int
) -> None:
    gateway = await start_gateway()
    client = await connect(gateway)
    option = listed(gateway)
    ticker = await client.quote(contract(option), market_data_type=requested)
    assert ticker.marketDataType == {1: 1, 2: 1, 3: 3, 4: 3}[requested]
    quote = gateway.world.option_quote(option, OPEN_MARKET)
    assert (ticker.bid, ticker.ask) == (quote.bid, quote.ask)
    assert ticker.modelGreeks.impliedVol == pytest.approx(quote.model.iv)
    ids = {tick.tickType for tick in ticker.ticks}
    assert ids <= ({66, 67, 68, 69, 70, 71, 74, 75} if requested > 2 else {0, 1, 2, 3, 4, 5, 8, 9})


@pytest.mark.parametrize("at", [AT_CLOSE, AFTER_CLOSE])
@pytest.mark.parametrize(("requested", "reported"), [(1, 1), (2, 2), (3, 3), (4, 4)])
async def test_from_the_close_on_only_frozen_types_have_quotes(
    start_gateway: StartGateway, connect: ConnectClient, at: datetime, requested: int, reported: int
) -> None:
    gateway = await start_gateway(at=at)
    client = await connect(gateway)
    option = listed(gateway)
    standing = gateway.world.option_quote(option, AT_CLOSE)
    ticker = await client.quote(contract(option), market_data_type=requested)
    assert ticker.marketDataType == reported
    if requested in (2, 4):
        assert (ticker.bid, ticker.ask) == (standing.bid, standing.ask)
        assert ticker.modelGreeks is not None
    else:
        assert (ticker.bid, ticker.bidSize, ticker.ask, ticker.askSize) == (-1, 0, -1, 0)
        assert ticker.modelGreeks is None
    assert ticker.volume == standing.volume


async def test_before_the_open_live_data_has_the_previous_close_only(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    gateway = await start_gateway(at=BEFORE_OPEN)
    client = await connect(gateway)
    ticker = await client.quote(STOCK)
    assert (ticker.bid, ticker.ask) == (-1, -1)
    assert math.isnan(ticker.last)
    thursdays_close = gateway.world.underlying_quote(
        gateway.world.underlyings()[0], datetime(2026, 11, 19, 21, 0, tzinfo=UTC)
    ).last
    assert ticker.close == thursdays_close
    frozen = await client.quote(Stock("AAPL", "SMART", "USD"), market_data_type=2)
    assert (frozen.marketDataType, frozen.last) == (2, thursdays_close)


async def test_a_running_stream_crosses_the_close(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(at=AT_CLOSE - timedelta(seconds=30))
    client = await connect(gateway)
    client.reqMarketDataType(2)
    frozen = client.reqMktData(STOCK)
    client.reqMarketDataType(1)
    live = client.reqMktData(contract(listed(gateway)))
    await client.until(lambda: known(frozen.ask) and live.modelGreeks is not None)
    assert (frozen.marketDataType, live.marketDataType) == (1, 1)
    assert live.ask > 0
    gateway.clock.set(AFTER_CLOSE)
    await client.until(lambda: frozen.marketDataType == 2 and live.ask == -1)
    assert frozen.bid > 0
    assert live.marketDataType == 1


async def test_delayed_data_can_be_old(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(delayed_by=timedelta(minutes=15))
    client = await connect(gateway)
    delayed, live = await client.quote(STOCK, market_data_type=3), await client.quote(Stock("AAPL", "SMART", "USD"))
    world = gateway.world
    past = world.underlying_quote(world.underlyings()[0], OPEN_MARKET - timedelta(minutes=15))
    assert (delayed.bid, delayed.ask) == (past.bid, past.ask) != (live.bid, live.ask)


async def test_after_a_cancel_nothing_more_comes(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(latency_ms=(30, 60))
    client = await connect(gateway)
    ticker = client.reqMktData(STOCK)
    client.cancelMktData(STOCK)
    await asyncio.sleep(0.15)
    assert math.isnan(ticker.bid)
    assert gateway.lines.in_use == 0
    client.client.cancelMktData(4711)
    await client.until(lambda: client.codes() == [300])


async def test_a_snapshot_ends_when_everything_is_in(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(snapshot_seconds=30)
    client = await connect(gateway)
    (ticker,) = await asyncio.wait_for(client.reqTickersAsync(STOCK), 5)
    assert ticker.bid > 0
    await client.until(lambda: gateway.lines.in_use == 0)


async def test_a_snapshot_without_a_quote_ends_with_its_time(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    gateway = await start_gateway(at=AFTER_CLOSE, snapshot_seconds=0.5)
    client = await connect(gateway)
    started = asyncio.get_running_loop().time()
    (ticker,) = await client.reqTickersAsync(STOCK)
    assert 0.45 < asyncio.get_running_loop().time() - started < 2
    assert ticker.bid == -1
    await client.until(lambda: gateway.lines.in_use == 0)


@pytest.mark.parametrize(
    ("on_option", "generics", "snapshot", "requested"),
    [
        (False, "104", True, 1),  # generic ticks in a snapshot
        (True, "104,101", False, 1),  # historical volatility is on the underlying
        (True, "100,101", False, 3),  # not in delayed data
        (False, "104", False, 3),
        (False, "162", False, 1),  # of indexes
        (False, "4711", False, 1),
        (False, "many", False, 1),
    ],
)
async def test_generic_ticks_where_there_are_none_are_error_321(
    start_gateway: StartGateway, connect: ConnectClient, on_option: bool, generics: str, snapshot: bool, requested: int
) -> None:
    gateway = await start_gateway()
    client = await connect(gateway)
    client.reqMarketDataType(requested)
    what = contract(listed(gateway)) if on_option else STOCK
    client.reqMktData(what, generics, snapshot)
    await client.until(lambda: client.codes() == [321])
    assert gateway.lines.in_use == 0


# What TWS lists as legal for an option, in the text of error 321 that a user logged.
LEGAL_FOR_OPTIONS = (
    "100,101,105,106,165,221,220,225,232,233,236,258,47,292,293,294,295,318,375,411,456,59,460,577,586,587,588,595,614,"
    "619,623"
)
# IB's note on delayed data.
LEGAL_WHEN_DELAYED = "101,106,165,221,232,236,258"


@pytest.mark.parametrize(
    ("generics", "requested"),
    [("100,101,106", 1), (LEGAL_FOR_OPTIONS, 1), (LEGAL_FOR_OPTIONS, 2), (LEGAL_WHEN_DELAYED, 3), ("220,47", 4)],
)
async def test_an_option_takes_every_generic_tick_that_tws_lists_for_it(
    start_gateway: StartGateway, connect: ConnectClient, generics: str, requested: int
) -> None:
    gateway = await start_gateway()
    client = await connect(gateway)
    option = listed(gateway)
    ticker = await client.quote(contract(option), generics, requested)
    quote = gateway.world.option_quote(option, gateway.clock.now())
    assert (ticker.bid, ticker.ask) == (quote.bid, quote.ask)
    assert client.codes() == []
    # volatilities of the underlying and an average of its options' volume: IB has no such number of a single option
    assert not any(known(one) for one in (ticker.impliedVolatility, ticker.histVolatility, ticker.avOptionVolume))


@pytest.mark.parametrize("right", ["C", "P"])
async def test_generic_tick_100_is_the_volume_of_an_option_by_its_right(
    start_gateway: StartGateway, connect: ConnectClient, right: str
) -> None:
    gateway = await start_gateway()
    client = await connect(gateway)
    option = next(
        one
        for series in gateway.world.series(gateway.world.underlyings()[0], OPEN_MARKET)
        for one in series.options()
        if one.right == right and gateway.world.option_quote(one, OPEN_MARKET).volume
    )
    ticker = client.reqMktData(contract(option), "100,101,106")
    await client.until(lambda: known(ticker.callVolume) and known(ticker.putVolume) and known(ticker.callOpenInterest))
    for hour in (15, 20):
        gateway.clock.set(OPEN_MARKET.replace(hour=hour))
        volume = gateway.world.option_quote(option, gateway.clock.now()).volume
        assert volume
        expected = (volume, 0) if right == "C" else (0, volume)
        await client.until(lambda expected=expected: (ticker.callVolume, ticker.putVolume) == expected)
        assert ticker.volume == volume


async def test_a_refused_list_of_generic_ticks_is_named_with_what_is_legal(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    gateway = await start_gateway()
    client = await connect(gateway)
    client.reqMktData(contract(listed(gateway)), "101,104")
    await client.until(lambda: client.codes() == [321])
    assert "Incorrect generic tick list of 101,104.  Legal ones for (OPT) are: 100,101,105,106," in client.errors[-1][2]
    client.reqMarketDataType(3)
    client.reqMktData(STOCK, "104")
    await client.until(lambda: client.codes() == [321, 321])
    assert client.errors[-1][2].endswith("Legal ones for (STK) are: 101,106,165,221/220,232,236,258/47")


async def test_an_unknown_contract_is_error_200_and_takes_no_line(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    gateway = await start_gateway()
    client = await connect(gateway)
    client.reqMktData(Option("AAPL", "20261218", 3.33, "C", "SMART"))
    client.reqMktData(Option("AAPL", "20261218", 0, "C", "SMART"))
    await client.until(lambda: client.codes() == [200, 200])
    assert "ambiguous" in client.errors[-1][2]
    assert gateway.lines.in_use == 0


async def test_open_interest_turns_over_on_the_next_sessions_morning(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    gateway = await start_gateway()
    client = await connect(gateway)
    option = next(
        one
        for distance in (0.0, 0.02, -0.02, 0.04, -0.04, 0.06)
        if gateway.world.open_interest(one := listed(gateway, distance), datetime(2026, 11, 23, 15, 0, tzinfo=UTC))
        != gateway.world.open_interest(one, OPEN_MARKET)
    )
    ticker = client.reqMktData(contract(option), "101")
    await client.until(lambda: known(ticker.callOpenInterest))
    friday = ticker.callOpenInterest
    # Friday evening, Saturday, and Monday 03:59 New York: still what Thursday left
    for instant in (AFTER_CLOSE, datetime(2026, 11, 21, 15, 0, tzinfo=UTC), datetime(2026, 11, 23, 8, 59, tzinfo=UTC)):
        gateway.clock.set(instant)
        await asyncio.sleep(0.03)
        assert ticker.callOpenInterest == friday
    gateway.clock.set(datetime(2026, 11, 23, 9, 0, tzinfo=UTC))
    await client.until(lambda: ticker.callOpenInterest != friday)
