"""Historical requests as a client meets them: durations, dates, refusals, cancels, updates, head time stamps."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from ib_insync import BarDataList, Contract, Index, Option, Stock

from ingest.calendar.sessions import NEW_YORK, sessions_between
from tests.tws_simulator.conftest import Client, ConnectClient, StartGateway, replay_file
from tws_simulator import SimulatedGateway
from tws_simulator.worlds.instruments import Option as ListedOption

STOCK = Stock("AAPL", "SMART", "USD")
# A Monday morning after the early close of 2015-12-24 and the holiday of the 25th.
MONDAY = datetime(2015, 12, 28, 16, 0, tzinfo=UTC)
QUICK = {"history_latency_ms": (0, 0), "history_pacing": "off"}


def at_the_money(gateway: SimulatedGateway, right: str = "C") -> ListedOption:
    """A contract of the fifth expiry."""
    world, now = gateway.world, gateway.clock.now()
    underlying = world.underlyings(now)[0]
    close = world.previous_close(underlying, now)
    assert close is not None
    series = world.series(underlying, now)[4]
    option = series.find(min(series.strikes.tolist(), key=lambda one: abs(one - close)), "C" if right == "C" else "P")
    assert option is not None
    return option


async def bars(
    client: Client, contract: Contract, duration: str, size: str, what: str = "TRADES", **more: Any
) -> BarDataList:
    asked = {"endDateTime": "", "useRTH": True} | more
    return await client.reqHistoricalDataAsync(
        contract, durationStr=duration, barSizeSetting=size, whatToShow=what, **asked
    )


def new_york(moment: date | datetime) -> str:
    assert isinstance(moment, datetime)
    return f"{moment.astimezone(NEW_YORK):%m%d %H:%M:%S}"


async def test_daily_bars_are_of_sessions(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(at=MONDAY, **QUICK)
    client = await connect(gateway)
    days = await bars(client, STOCK, "3 D", "1 day")
    assert [bar.date for bar in days] == [date(2015, 12, 23), date(2015, 12, 24), date(2015, 12, 28)]
    underlying = gateway.world.underlyings()[0]
    quote = gateway.world.underlying_quote(underlying, gateway.clock.now())
    assert days[-2].close == gateway.world.previous_close(underlying, gateway.clock.now())
    assert (days[-1].close, days[-1].volume) == (quote.last, quote.volume)
    # the day that is running, of an option
    option = at_the_money(gateway)
    (today,) = await bars(client, Option(conId=option.conid, exchange="SMART"), "1 D", "1 day", "MIDPOINT")
    standing = gateway.world.option_quote(option, gateway.clock.now())
    assert standing.bid is not None
    assert standing.ask is not None
    assert today.close == pytest.approx((standing.bid + standing.ask) / 2)
    assert (today.volume, today.average, today.barCount) == (-1, -1, -1)


@pytest.mark.parametrize(
    ("duration", "size", "first", "last", "count"),
    [
        ("1800 S", "1 min", "1228 10:30:00", "1228 10:59:00", 30),
        # an hour and a half has passed today, so half an hour is of the day before, which closed at 13:00
        ("7200 S", "30 mins", "1224 12:30:00", "1228 10:30:00", 4),
        ("7200", "30 mins", "1224 12:30:00", "1228 10:30:00", 4),
        ("60 S", "5 secs", "1228 10:59:00", "1228 10:59:55", 12),
        ("1 D", "1 hour", "1228 09:30:00", "1228 10:00:00", 2),
        ("2 D", "30 mins", "1224 09:30:00", "1228 10:30:00", 7 + 3),
        ("2 D", "1 min", "1224 09:30:00", "1228 10:59:00", 210 + 90),
        ("1 W", "1 hour", "1222 09:30:00", "1228 10:00:00", 7 + 7 + 4 + 2),
        ("10 D", "1 min", "1214 09:30:00", "1228 10:59:00", 8 * 390 + 210 + 90),
    ],
)
async def test_intraday_bars_of_every_duration(
    start_gateway: StartGateway, connect: ConnectClient, duration: str, size: str, first: str, last: str, count: int
) -> None:
    client = await connect(await start_gateway(at=MONDAY, **QUICK))
    found = await bars(client, STOCK, duration, size)
    assert (new_york(found[0].date), new_york(found[-1].date), len(found)) == (first, last, count)


@pytest.mark.parametrize(
    ("duration", "first"),
    [
        ("2 W", date(2015, 12, 15)),
        ("2 M", date(2015, 10, 29)),
        ("1 Y", date(2014, 12, 29)),
        ("3 Y", date(2012, 12, 31)),
    ],
)
async def test_weeks_months_and_years_are_of_the_calendar(
    start_gateway: StartGateway, connect: ConnectClient, duration: str, first: date
) -> None:
    client = await connect(await start_gateway(at=MONDAY, **QUICK))
    sessions = [one.trade_date for one in sessions_between(first, date(2015, 12, 28))]
    assert [bar.date for bar in await bars(client, STOCK, duration, "1 day")] == sessions


async def test_weekly_and_monthly_bars_are_made_of_daily_ones(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    client = await connect(await start_gateway(at=MONDAY, **QUICK))
    days = await bars(client, STOCK, "1 Y", "1 day")
    weeks = await bars(client, STOCK, "2 W", "1 week")
    # dated with their last session, the Thursday of Christmas week
    assert [bar.date for bar in weeks] == [date(2015, 12, 18), date(2015, 12, 24), date(2015, 12, 28)]
    months = await bars(client, STOCK, "2 M", "1 month")
    assert [bar.date for bar in months] == [date(2015, 10, 30), date(2015, 11, 30), date(2015, 12, 28)]
    for whole, inside in (
        (weeks[1], [bar for bar in days if date(2015, 12, 21) <= bar.date <= date(2015, 12, 24)]),
        (months[1], [bar for bar in days if bar.date.month == 11]),
    ):
        assert (whole.open, whole.close) == (inside[0].open, inside[-1].close)
        assert (whole.high, whole.low) == (max(bar.high for bar in inside), min(bar.low for bar in inside))
        assert (whole.volume, whole.barCount) == (sum(b.volume for b in inside), sum(b.barCount for b in inside))
        weighted = sum(bar.average * bar.volume for bar in inside) / whole.volume
        assert whole.average == pytest.approx(weighted, abs=1e-4)


@pytest.mark.parametrize(
    "end",
    ["20151224 12:00:00 US/Eastern", "20151224 12:00:00", "20151224-17:00:00", "20151224 17:00:00 UTC",
     datetime(2015, 12, 24, 17, tzinfo=UTC)],
)  # fmt: skip
async def test_the_end_is_an_instant_in_any_zone(
    start_gateway: StartGateway, connect: ConnectClient, end: str | datetime
) -> None:
    gateway = await start_gateway(at=MONDAY, **QUICK)
    client = await connect(gateway)
    found = await bars(client, STOCK, "1800 S", "10 mins", endDateTime=end)
    assert [new_york(bar.date) for bar in found] == ["1224 11:30:00", "1224 11:40:00", "1224 11:50:00"]
    at_noon = gateway.world.underlying_quote(gateway.world.underlyings()[0], datetime(2015, 12, 24, 17, tzinfo=UTC))
    assert found[-1].close == at_noon.last


async def test_an_end_to_come_is_now(start_gateway: StartGateway, connect: ConnectClient) -> None:
    client = await connect(await start_gateway(at=MONDAY, **QUICK))
    late = await bars(client, STOCK, "1 D", "5 mins", endDateTime="20160105 12:00:00 US/Eastern")
    assert new_york(late[-1].date) == "1228 10:55:00"


@pytest.mark.parametrize(
    ("version", "dates_as_seconds", "text"),
    [(173, 1, "20151228  10:30:00"), (174, 1, "20151228 10:30:00 US/Eastern"), (176, 1, "20151228 10:30:00 US/Eastern"),
     (157, 2, "1451316600"), (176, 2, "1451316600")],
)  # fmt: skip
async def test_dates_as_each_protocol_version_has_them(
    start_gateway: StartGateway,
    connect: ConnectClient,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
    dates_as_seconds: int,
    text: str,
) -> None:
    client = await connect(await start_gateway(at=MONDAY, **QUICK), version=version)
    monkeypatch.setattr("ib_insync.wrapper.parseIBDatetime", lambda date_text: date_text)
    found = await bars(client, STOCK, "1800 S", "15 mins", formatDate=dates_as_seconds)
    assert found[0].date == text
    # daily bars have a date in both formats
    (day,) = await bars(client, STOCK, "1 D", "1 day", formatDate=dates_as_seconds)
    assert day.date == "20151228"


async def test_volumes_of_stocks_were_lots_of_100_before_version_175(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    gateway = await start_gateway(at=MONDAY, **QUICK)
    volume = gateway.world.underlying_quote(gateway.world.underlyings()[0], MONDAY).volume
    assert volume is not None
    for version, wanted in ((174, volume // 100), (175, volume)):
        client = await connect(gateway, version=version)
        (day,) = await bars(client, STOCK, "1 D", "1 day")
        assert day.volume == wanted


# -- refusals


@pytest.mark.parametrize(
    ("duration", "size", "what", "code", "text"),
    [
        ("1 D", "7 mins", "TRADES", 321, "bar size setting is invalid"),
        ("1 D", "1 hour", "SCHEDULE", 321, "bar size of 1 day"),
        ("1 D", "1 day", "trades", 321, "not served"),
        ("some", "1 day", "TRADES", 321, "duration"),
        ("0 D", "1 day", "TRADES", 321, "duration"),
        ("86401 S", "1 min", "TRADES", 321, "must be made in days"),
        ("366 D", "1 day", "TRADES", 321, "must be made in years"),
        ("53 W", "1 day", "TRADES", 321, "must be made in years"),
        ("13 M", "1 day", "TRADES", 321, "must be made in years"),
        ("3600 S", "1 day", "TRADES", 162, "invalid step: 86400"),
        ("1801 S", "1 secs", "TRADES", 162, "invalid step: 1"),
        ("1 D", "30 secs", "TRADES", 162, "invalid step: 30"),
        ("1 Y", "1 min", "TRADES", 162, "Time length exceed max."),
    ],
)
async def test_what_cannot_be_asked_for(
    start_gateway: StartGateway, connect: ConnectClient, duration: str, size: str, what: str, code: int, text: str
) -> None:
    client = await connect(await start_gateway(**QUICK))
    assert not await bars(client, STOCK, duration, size, what)
    assert client.codes() == [code]
    assert text in client.errors[-1][2]


@pytest.mark.parametrize(("rule", "codes"), [("small", []), ("all", [162])])
async def test_the_table_of_steps_can_be_for_all_bars(
    start_gateway: StartGateway, connect: ConnectClient, rule: str, codes: list[int]
) -> None:
    """IB's table has bars of 3 minutes and more for a week; its own sample asks for 10 D of 1 min."""
    client = await connect(await start_gateway(history_steps=rule, **QUICK))
    assert len(await bars(client, STOCK, "1 W", "3 mins")) > 500
    assert bool(await bars(client, STOCK, "10 D", "1 min")) == (not codes)
    assert client.codes() == codes


async def test_kinds_that_an_instrument_does_not_have(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(symbols=("AAPL", "SPX"), **QUICK)
    client = await connect(gateway)
    option = Option(conId=at_the_money(gateway).conid, exchange="SMART")
    for what in ("OPTION_IMPLIED_VOLATILITY", "HISTORICAL_VOLATILITY"):
        assert len(await bars(client, STOCK, "2 D", "1 day", what)) == 2
        assert not await bars(client, option, "2 D", "1 day", what)
        assert "No historical market data for AAPL" in client.errors[-1][2]
    index = Index("SPX", "CBOE")
    assert len(await bars(client, index, "2 D", "1 day")) == 2
    for what in ("BID", "ASK", "MIDPOINT", "BID_ASK"):
        assert len(await bars(client, STOCK, "2 D", "1 day", what)) == 2
        assert not await bars(client, index, "2 D", "1 day", what)
        assert "No historical market data for SPX/IND" in client.errors[-1][2]
    assert client.codes() == [162] * 6


async def test_no_data_and_no_contract(start_gateway: StartGateway, connect: ConnectClient) -> None:
    client = await connect(await start_gateway(**QUICK))
    assert not await bars(client, STOCK, "5 D", "1 day", endDateTime="20041231 16:00:00 US/Eastern")
    assert client.errors[-1][1:] == (
        162,
        "Historical Market Data Service error message:HMDS query returned no data: AAPL@SMART Trades",
    )
    for end in ("yesterday", "00010101 00:00:00 UTC", "20261132 00:00:00", "20261120 12:00:00 Nowhere/Land"):
        assert not await bars(client, STOCK, "5 D", "1 day", endDateTime=end)
    assert not await bars(client, Stock("NONE", "SMART", "USD"), "5 D", "1 day")
    assert client.codes() == [162, *[321] * 4, 200]


# -- cancels and updates


async def test_an_answer_takes_its_time_and_can_be_cancelled(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    client = await connect(await start_gateway(history_latency_ms=(150, 200), history_pacing="off"))
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await bars(client, STOCK, "1 D", "1 day")
    assert 0.15 <= loop.time() - started < 1.0
    waiting = asyncio.ensure_future(bars(client, STOCK, "1 D", "1 day"))
    await asyncio.sleep(0.05)
    req_id = max(client.wrapper._results)
    client.client.cancelHistoricalData(req_id)
    assert not await waiting
    assert client.errors[-1][:2] == (req_id, 162)
    await asyncio.sleep(0.25)
    assert client.codes() == [162]


async def test_bars_that_are_kept_up_to_date(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(at=MONDAY, **QUICK)
    client = await connect(gateway)
    underlying = gateway.world.underlyings()[0]
    kept = await bars(client, STOCK, "3600 S", "1 min", keepUpToDate=True)
    assert (len(kept), new_york(kept[-1].date)) == (60, "1228 10:59:00")
    seen: list[bool] = []
    kept.updateEvent += lambda _, has_new_bar: seen.append(has_new_bar)
    for seconds, count in ((20, 61), (40, 61), (150, 63)):
        now = MONDAY + timedelta(seconds=seconds)
        gateway.clock.set(now)
        await client.until(
            lambda count=count, now=now: (
                len(kept) == count and kept[-1].close == gateway.world.underlying_quote(underlying, now).last
            )
        )
    again = await bars(client, STOCK, "3600 S", "1 min")
    assert kept[-3:] == again[-3:]
    assert seen.count(True) == 3
    client.cancelHistoricalData(kept)
    await client.until(lambda: 162 in client.codes())
    gateway.clock.set(MONDAY + timedelta(minutes=10))
    await asyncio.sleep(0.7)
    assert len(kept) == 63
    for end, size in (("20151228 10:00:00", "1 min"), ("", "1 secs")):
        assert not await bars(client, STOCK, "60 S", size, keepUpToDate=True, endDateTime=end)
    assert client.codes() == [162, 321, 321]


# -- head time stamps


async def test_the_head_time_stamp_of_every_kind(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(**QUICK)
    client = await connect(gateway)
    for what in ("TRADES", "BID", "ASK", "MIDPOINT", "BID_ASK", "OPTION_IMPLIED_VOLATILITY", "HISTORICAL_VOLATILITY"):
        # the first session of 2005 opened at 09:30 New York, 14:30 UTC
        assert await client.reqHeadTimeStampAsync(STOCK, what, True, 1) == datetime(2005, 1, 3, 14, 30)  # noqa: DTZ001
        seconds = await client.reqHeadTimeStampAsync(STOCK, what, True, 2)
        assert seconds == datetime(2005, 1, 3, 14, 30, tzinfo=UTC)
    assert not client.codes()


async def test_the_head_time_stamp_is_where_the_bars_begin(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(**QUICK)
    client = await connect(gateway)
    option = Option(conId=at_the_money(gateway).conid, exchange="SMART")
    for what in ("TRADES", "ASK"):
        head = await client.reqHeadTimeStampAsync(option, what, True, 2)
        days = await bars(client, option, "3 Y", "1 day", what)
        assert days[0].date == head.astimezone(NEW_YORK).date()
        minutes = await bars(client, option, "1 D", "1 min", what, endDateTime=f"{days[0].date:%Y%m%d} 23:00:00")
        first = minutes[0].date
        assert isinstance(first, datetime)
        assert timedelta(0) <= head - first <= timedelta(minutes=1)


async def test_a_head_time_stamp_can_be_cancelled_and_refused(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    gateway = await start_gateway(history_latency_ms=(100, 100))
    client = await connect(gateway)
    client.client.reqHeadTimeStamp(7001, STOCK, "TRADES", 1, 1)
    await asyncio.sleep(0.03)
    client.client.cancelHeadTimeStamp(7001)
    await asyncio.sleep(0.15)
    assert gateway._state.history.open == 0
    assert not client.codes()
    option = Option(conId=at_the_money(gateway).conid, exchange="SMART")
    client.client.reqHeadTimeStamp(7002, option, "HISTORICAL_VOLATILITY", 1, 1)
    client.client.reqHeadTimeStamp(7003, STOCK, "SCHEDULE", 1, 1)
    await client.until(lambda: client.codes() == [162, 321])


# -- a recorded day


async def test_a_recorded_day_has_bars_until_its_early_close(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    path = replay_file("GOOG_2015-12-24.parquet")
    gateway = await start_gateway(world="replay", replay=(path,), at=MONDAY, **QUICK)
    client = await connect(gateway)
    stock = Stock("GOOG", "SMART", "USD")
    minutes = await bars(client, stock, "1 D", "1 min", endDateTime="20151224 23:59:59 US/Eastern")
    assert (len(minutes), new_york(minutes[-1].date)) == (210, "1224 12:59:00")
    assert not await bars(client, stock, "1 D", "1 min", "BID", endDateTime="20151224 23:59:59 US/Eastern")
    assert not await bars(client, stock, "1 D", "1 min")
    assert client.codes() == [162, 162]
    head = await client.reqHeadTimeStampAsync(stock, "TRADES", True, 2)
    assert head.astimezone(NEW_YORK).date() == date(2015, 12, 24)


async def test_a_query_that_fails_is_answered_with_an_error(
    start_gateway: StartGateway, connect: ConnectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start_gateway(**QUICK)
    client = await connect(gateway)

    def fail(*_: object) -> None:
        raise RuntimeError("a mistake in a world")

    monkeypatch.setattr(gateway.world, "trade_ticks", fail)
    assert not await bars(client, STOCK, "1 D", "1 day")
    assert client.codes() == [162]
    assert gateway._state.history.open == 0
    assert await bars(client, STOCK, "1 D", "1 day", "BID")
