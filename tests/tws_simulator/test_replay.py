"""Recorded days, held against the files themselves, read by DuckDB."""

import math
import random
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest
from ib_insync import Option, Stock
from scipy.optimize import brentq
from scipy.stats import norm

from tests.tws_simulator.conftest import ConnectClient, StartGateway, replay_file
from tws_simulator import GatewayError, GatewayOptions, SimulatedGateway
from tws_simulator.worlds.replay import ReplayWorld

STANDING = """
select expiry, strike, "right", bid, ask, bid_size, ask_size, last, volume, open_interest, underlying_price
from read_parquet(?) where ts <= ?
qualify row_number() over (partition by expiry, strike, "right" order by ts desc) = 1
order by expiry, strike, "right"
"""


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def standing(path: Path, instant: datetime) -> list[dict[str, object]]:
    """The last row of each contract at or before `instant`, by a second engine."""
    cursor = duckdb.connect().execute(STANDING, [str(path), instant])
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def local_symbol(root: str, row: dict[str, object]) -> str:
    return f"{root:<6}{row['expiry']:%y%m%d}{row['right']}{round(float(row['strike']) * 1000):08d}"


@pytest.mark.parametrize(
    ("name", "instants"),
    [
        (
            "GOOG_2015-12-24.parquet",
            [utc(2015, 12, 24, 14, 31), utc(2015, 12, 24, 16, 0, 30), utc(2015, 12, 24, 17, 59)],
        ),
        ("AAPL_2014-06-06.parquet", [utc(2014, 6, 6, 14, 0), utc(2014, 6, 6, 17, 30), utc(2014, 6, 6, 19, 59)]),
    ],
)
async def test_a_subscriber_sees_the_standing_row(
    start_gateway: StartGateway, connect: ConnectClient, name: str, instants: list[datetime]
) -> None:
    path = replay_file(name)
    root = name.split("_")[0]
    gateway = await start_gateway(world="replay", replay=(path,), at=instants[0])
    client = await connect(gateway)
    for instant in instants:
        gateway.clock.set(instant)
        rows = random.Random(1).sample(standing(path, instant), 60)
        contracts = await client.qualifyContractsAsync(
            *[Option(localSymbol=local_symbol(root, row), exchange="SMART") for row in rows]
        )
        assert len(contracts) == len(rows)
        tickers = [client.reqMktData(contract, "101") for contract in contracts]
        await client.until(lambda: gateway.lines.in_use == 60 and all(t.volume == t.volume for t in tickers))  # noqa: B023
        await client.until(lambda: all(t.modelGreeks is not None for t in tickers))  # noqa: B023
        for row, ticker in zip(rows, tickers, strict=True):
            shown = [ticker.bid, ticker.ask, ticker.volume]
            assert shown == [row["bid"] or -1, row["ask"] or -1, row["volume"]]
            assert [ticker.bidSize, ticker.askSize] == [row["bid_size"] or 0, row["ask_size"] or 0]
            assert row["last"] == (None if math.isnan(ticker.last) else ticker.last)
            interest = ticker.callOpenInterest if row["right"] == "C" else ticker.putOpenInterest
            assert row["open_interest"] == (None if math.isnan(interest) else interest)
        for contract in contracts:
            client.cancelMktData(contract)
        await client.until(lambda: gateway.lines.in_use == 0)
        stock = Stock(root, "SMART", "USD")
        ticker = await client.quote(stock)
        last_price = "select last(underlying_price order by ts) from read_parquet(?) where ts <= ?"
        (spot,) = duckdb.connect().execute(last_price, [str(path), instant]).fetchone()
        assert (ticker.last, ticker.bid, ticker.ask) == (spot, -1, -1)
    assert client.codes() == []


def test_greeks_reprice_the_standing_mid() -> None:
    path = replay_file("GOOG_2015-12-24.parquet")
    world = ReplayWorld([path])
    instant = utc(2015, 12, 24, 16, 0)
    valued = unset = 0
    for row in standing(path, instant):
        option = next(
            found
            for series in world.series(world.underlyings()[0], instant)
            if series.expiry == row["expiry"]
            if (found := series.find(row["strike"], row["right"])) is not None
        )
        model = world.option_quote(option, instant).model
        assert model is not None
        bid, ask, strike = row["bid"], row["ask"], float(row["strike"])
        if model.iv is None:
            unset += 1
            assert set(model) == {None}
            continue
        valued += 1
        mid = (bid + ask) / 2 if bid is not None else ask / 2
        assert model.price == pytest.approx(mid)
        spot = model.underlying_price
        # series end at 16:00 New York, and at 13:00 on this day itself
        end_time = time(13) if option.series.expiry == date(2015, 12, 24) else time(16)
        end = datetime.combine(option.series.last_trade_date, end_time, ZoneInfo("America/New_York"))
        years = (end - instant) / timedelta(days=365)
        deviation = model.iv * math.sqrt(years)
        d1 = math.log(spot / strike) / deviation + deviation / 2
        sign = 1 if row["right"] == "C" else -1
        price = sign * (spot * norm.cdf(sign * d1) - strike * norm.cdf(sign * (d1 - deviation)))
        assert price == pytest.approx(mid, rel=1e-6, abs=1e-6)
        assert model.delta == pytest.approx(sign * norm.cdf(sign * d1), abs=1e-6)
    assert valued > 1500
    assert unset > 0
    # one volatility found by another root finder
    option = next(o for o in world.series(world.underlyings()[0], instant)[3].options() if o.strike == 750)
    quote = world.option_quote(option, instant)
    years = (utc(2016, 1, 15, 21) - instant) / timedelta(days=365)

    def excess(vol: float) -> float:
        d1 = math.log(quote.model.underlying_price / 750) / vol / math.sqrt(years) + vol * math.sqrt(years) / 2
        return float(
            quote.model.underlying_price * norm.cdf(d1)
            - 750 * norm.cdf(d1 - vol * math.sqrt(years))
            - quote.model.price
        )

    assert quote.model is not None
    assert quote.model.iv == pytest.approx(brentq(excess, 0.01, 3), rel=1e-6)


async def test_the_close_is_early_and_the_frozen_quote_stands_at_it(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    path = replay_file("GOOG_2015-12-24.parquet")
    close = utc(2015, 12, 24, 18, 0)
    gateway = await start_gateway(world="replay", replay=(path,), at=utc(2015, 12, 24, 22, 0))
    client = await connect(gateway)
    rows = [row for row in standing(path, close) if row["bid"] and row["ask"]][::200]
    # the file goes on to 13:01: some quote at the close must differ from the file's last
    assert [r["bid"] for r in standing(path, close)] != [r["bid"] for r in standing(path, utc(2015, 12, 24, 18, 1))]
    for row in rows:
        option = Option(localSymbol=local_symbol("GOOG", row), exchange="SMART")
        frozen = await client.quote(option, market_data_type=2)
        assert (frozen.bid, frozen.ask, frozen.marketDataType) == (row["bid"], row["ask"], 2)
        live = await client.quote(Option(localSymbol=local_symbol("GOOG", row), exchange="SMART"))
        assert (live.bid, live.ask, live.marketDataType) == (-1, -1, 1)


async def test_before_its_first_row_a_contract_has_no_quote(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    path = replay_file("GOOG_2015-12-24.parquet")
    gateway = await start_gateway(world="replay", replay=(path,), at=utc(2015, 12, 24, 14, 30, 30))
    client = await connect(gateway)
    row = standing(path, utc(2015, 12, 24, 18, 0))[100]
    ticker = await client.quote(Option(localSymbol=local_symbol("GOOG", row), exchange="SMART"), "101")
    assert (ticker.bid, ticker.ask, ticker.modelGreeks) == (-1, -1, None)
    assert row["open_interest"] in (ticker.callOpenInterest, ticker.putOpenInterest)


async def test_tick_9_is_the_files_first_price_unless_given(
    start_gateway: StartGateway, connect: ConnectClient
) -> None:
    path = replay_file("GOOG_2015-12-24.parquet")
    for given, expected in ((None, 748.54), (750.0, 750.0)):
        gateway = await start_gateway(world="replay", replay=(path,), at=utc(2015, 12, 24, 14), previous_close=given)
        client = await connect(gateway)
        assert (await client.quote(Stock("GOOG", "SMART", "USD"))).close == expected


async def test_saturday_expiries_trade_until_friday(start_gateway: StartGateway, connect: ConnectClient) -> None:
    path = replay_file("AAPL_2014-06-06.parquet")
    gateway = await start_gateway(world="replay", replay=(path,), at=utc(2014, 6, 6, 15))
    client = await connect(gateway)
    (stock,) = await client.qualifyContractsAsync(Stock("AAPL", "SMART", "USD"))
    smart = (await client.reqSecDefOptParamsAsync("AAPL", "", "STK", stock.conId))[0]
    assert {"20140620", "20150116", "20150417"} <= set(smart.expirations)
    assert not {"20140621", "20150117"} & set(smart.expirations)
    (option,) = await client.qualifyContractsAsync(Option("AAPL", "20140620", 645, "C", "SMART"))
    assert (option.localSymbol, option.lastTradeDateOrContractMonth) == ("AAPL  140621C00645000", "20140620")


async def test_open_interest_is_the_stamp_of_each_morning(start_gateway: StartGateway, connect: ConnectClient) -> None:
    first, second = replay_file("TWX_2014-06-05.parquet"), replay_file("TWX_2014-06-06.parquet")
    gateway = await start_gateway(world="replay", replay=(first, second), at=utc(2014, 6, 5, 15))
    client = await connect(gateway)
    query = 'select expiry, strike, "right", any_value(open_interest) oi from read_parquet(?) group by all order by all'
    stamps = [
        {(e, k, r): oi for e, k, r, oi in duckdb.connect().execute(query, [str(path)]).fetchall()}
        for path in (first, second)
    ]
    changed = [key for key in stamps[0] if key in stamps[1] and stamps[0][key] != stamps[1][key]]
    assert len(changed) > 20
    tickers = {}
    for expiry, strike, right in changed:
        name = local_symbol("TWX", {"expiry": expiry, "strike": strike, "right": right})
        tickers[expiry, strike, right] = client.reqMktData(Option(localSymbol=name, exchange="SMART"), "101")

    def shown() -> dict[object, float]:
        return {
            key: ticker.callOpenInterest if key[2] == "C" else ticker.putOpenInterest for key, ticker in tickers.items()
        }

    for instant, stamp in (
        (utc(2014, 6, 5, 15), stamps[0]),
        (utc(2014, 6, 5, 21), stamps[0]),
        (utc(2014, 6, 6, 7, 59), stamps[0]),  # 03:59 New York
        (utc(2014, 6, 6, 8, 0), stamps[1]),
        (utc(2014, 6, 9, 15), stamps[1]),  # no later file: the value stays
    ):
        gateway.clock.set(instant)
        expected = {key: stamp[key] for key in changed}
        await client.until(lambda: shown() == expected)  # noqa: B023


def test_the_file_of_the_date_is_in_force_and_ids_last_over_days() -> None:
    friday, monday = replay_file("AAPL_2014-06-06.parquet"), replay_file("AAPL_2014-06-09.parquet")
    twx = replay_file("TWX_2014-06-06.parquet")
    world = ReplayWorld([monday, friday, twx])
    apple = world.underlying("AAPL")
    assert apple is not None
    assert [one.symbol for one in world.underlyings()] == ["AAPL", "TWX"]
    saturday, midnight = utc(2014, 6, 7, 15), utc(2014, 6, 9, 4)
    assert {s.expiry for s in world.series(apple, saturday)} - {s.expiry for s in world.series(apple, midnight)} == {
        date(2014, 6, 6)
    }
    before = {o.local_symbol: o for s in world.series(apple, saturday) for o in s.options()}
    after = {o.local_symbol: o for s in world.series(apple, midnight) for o in s.options()}
    assert "AAPL  140621C00645000" in before
    assert "AAPL  140621C00092140" in after  # 645 / 7, the split of 2014-06-09
    both = before.keys() & after.keys()
    assert {name: before[name].conid for name in both} == {name: after[name].conid for name in both}
    assert world.by_conid(before["AAPL  140621C00645000"].conid, midnight) is None
    # on the split's morning no stamp joins, so nothing is published
    assert all(world.open_interest(o, utc(2014, 6, 9, 15)) is None for o in after.values())
    # quotes never come from another date's file
    assert world.option_quote(after["AAPL  140621C00092140"], utc(2014, 6, 10, 15)).ask is None
    assert world.previous_close(apple, utc(2014, 6, 9, 15)) == 92.31


def broken(tmp_path: Path, **columns: object) -> Path:
    frame = {
        "ts": [utc(2015, 12, 24, 15)],
        "underlying": ["GOOG"],
        "underlying_price": [748.5],
        "expiry": [date(2016, 1, 15)],
        "strike": [750.0],
        "right": ["C"],
        "multiplier": [100.0],
        "bid": [1.0],
        "ask": [1.1],
        "bid_size": [1],
        "ask_size": [1],
        "last": [1.0],
        "volume": [1],
        "open_interest": [1],
    } | columns
    path = tmp_path / "day.parquet"
    pl.DataFrame({name: values for name, values in frame.items() if values is not None}).write_parquet(path)
    return path


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"bid": None}, "lacks the columns bid"),
        ({"strike": ["much"]}, "wrong type"),
        ({"right": ["X"]}, "must be C or P"),
        ({"ts": [utc(2015, 12, 26, 15)]}, "no XNYS session"),
        ({"underlying_price": [math.nan]}, "nulls in underlying_price"),
        ({"expiry": pl.Series([None], dtype=pl.Date)}, "nulls in expiry"),
        ({"strike": [-750.0]}, "values of strike that are no prices"),
        ({"strike": [0.0]}, "values of strike that are no prices"),
        ({"multiplier": [math.inf]}, "values of multiplier that are no prices"),
        ({"underlying_price": [-1.0]}, "values of underlying_price that are no prices"),
        ({"ts": pl.Series([2**56], dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))}, "values of ts outside the years"),
        ({"expiry": pl.Series([10**7], dtype=pl.Int32).cast(pl.Date)}, "values of expiry outside the years"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, columns: dict[str, object], reason: str) -> None:
    path = broken(tmp_path, **columns)
    with pytest.raises(GatewayError, match=reason) as caught:
        ReplayWorld([path])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_refused_and_never_a_panic(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Bytes that were changed anywhere, and files that were cut short: read, or one line."""
    whole, damaged = broken(tmp_path).read_bytes(), tmp_path / "damaged.parquet"
    chance = random.Random(14)
    reasons: list[str] = []
    for number in range(300):
        content = bytearray(whole[: chance.randrange(len(whole))] if number % 5 == 0 else whole)
        for _ in range(chance.choice((0, 1, 1, 2, 20)) if content else 0):
            content[chance.randrange(len(content))] = chance.randrange(256)
        damaged.write_bytes(content)
        try:
            ReplayWorld([damaged])
        except GatewayError as reason:
            reasons.append(str(reason))
    assert len(reasons) > 150
    assert not any("\n" in reason for reason in reasons)
    assert "panicked" not in capfd.readouterr().err


def test_missing_unreadable_and_repeated_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match="does not exist"):
        ReplayWorld([tmp_path / "none.parquet"])
    text = tmp_path / "text.parquet"
    text.write_text("no parquet")
    with pytest.raises(GatewayError, match="cannot be read as Parquet"):
        ReplayWorld([text])
    path = broken(tmp_path)
    with pytest.raises(GatewayError, match="both hold GOOG on 2015-12-24"):
        ReplayWorld([path, path])
    with pytest.raises(GatewayError, match="at least one file"):
        SimulatedGateway(GatewayOptions(world="replay"))


def test_two_classes_with_the_same_terms_stay_two_contracts(tmp_path: Path) -> None:
    """VXX2 after a reverse split: 25 shares, and the multiplier, strike and expiry of a standard option."""
    instant = utc(2024, 8, 1, 14)
    row = {
        "ts": instant, "underlying": "VXX", "underlying_price": 50.0, "expiry": date(2024, 8, 16), "strike": 50.0,
        "right": "C", "multiplier": 100.0, "ask_size": 1, "bid_size": 1, "last": 1.0, "volume": 0, "open_interest": 0,
    }  # fmt: skip
    rows = [
        row | {"trading_class": "VXX", "bid": 2.0, "ask": 2.1},
        row | {"trading_class": "VXX2", "bid": 0.4, "ask": 0.6},
    ]
    path = tmp_path / "day.parquet"
    pl.DataFrame(rows).write_parquet(path)
    world = ReplayWorld([path])
    found = {
        series.trading_class: world.option_quote(option, instant).ask
        for series in world.series(world.underlyings()[0], instant)
        for option in series.options()
    }
    assert found == {"VXX": 2.1, "VXX2": 0.6}


def test_a_named_last_trading_day_is_kept_apart_from_the_expiry(tmp_path: Path) -> None:
    """SPX in the morning: the local symbol carries Friday the 17th, the last trading day is the 16th."""
    path = tmp_path / "day.parquet"
    pl.DataFrame(
        {
            "ts": [utc(2020, 1, 2, 15)],
            "underlying": ["SPX"],
            "underlying_price": [3250.0],
            "expiry": [date(2020, 1, 17)],
            "last_trade_date": [date(2020, 1, 16)],
            "trading_class": ["SPX"],
            "strike": [3205.0],
            "right": ["P"],
            "multiplier": [100.0],
            "bid": [20.0],
            "ask": [20.4],
            "bid_size": [1],
            "ask_size": [1],
            "last": [20.2],
            "volume": [0],
            "open_interest": [0],
        }
    ).write_parquet(path)
    world = ReplayWorld([path])
    (series,) = world.series(world.underlyings()[0], utc(2020, 1, 2, 15))
    (option,) = series.options()
    assert (option.local_symbol, series.last_trade_date) == ("SPX   200117P03205000", date(2020, 1, 16))
