"""Bars of both worlds, held against the worlds' own quotes, against Polars on recorded rows, and IB's definitions."""

import math
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.calendar.sessions import Session, new_york, session_on, sessions_between
from tests.tws_simulator.conftest import replay_file
from tws_simulator.history.bars import Bar, Size, standing_bars, starts, trade_bars
from tws_simulator.history.collect import session_bars
from tws_simulator.history.request import BAR_SIZES, BarType, Kind
from tws_simulator.worlds.instruments import Instrument, Option, UnderlyingSpec
from tws_simulator.worlds.replay import ReplayWorld
from tws_simulator.worlds.synthetic import SyntheticWorld
from tws_simulator.worlds.synthetic.events import read_corporate_actions
from tws_simulator.worlds.world import TradeTicks, World

WORLD = SyntheticWorld([UnderlyingSpec("AAPL"), UnderlyingSpec("SPX")])
# two early closes among them
SESSIONS = [
    *sessions_between(date(2014, 6, 1), date(2016, 6, 30))[::70],
    *sessions_between(date(2014, 11, 26), date(2014, 11, 28)),
    *sessions_between(date(2015, 12, 23), date(2015, 12, 24)),
]
FRIDAY = session_on(date(2026, 11, 20))
EARLY = session_on(date(2015, 12, 24))
INTRADAY = [size for size in BAR_SIZES.values() if isinstance(size, int) and size >= 30]


def bars_of(
    world: World, instrument: Instrument, kind: Kind, size: Size, session: Session, end: datetime | None = None
) -> list[Bar]:
    return session_bars(world, instrument, BarType(kind, size), session, end or session.close, session.trade_date)


@lru_cache(maxsize=16)
def near_the_money(world: SyntheticWorld, session: Session, *, busy: bool = True) -> list[Option]:
    """Contracts of AAPL in several expiries and on both sides, those that are traded on the day."""
    stock = world.underlying("AAPL", session.open)
    assert stock is not None
    spot = world.underlying_quote(stock, session.open).last
    assert spot is not None
    options = [
        option
        for series in world.series(stock, session.open)[::3]
        for option in series.options()
        if abs(option.strike / spot - 1) < 0.06
    ]
    return [one for one in options if not busy or (world.option_quote(one, session.close).volume or 0) > 0]


def shown(world: SyntheticWorld, instrument: Instrument, instant: datetime) -> dict[str, float | int | None]:
    quote = (
        world.option_quote(instrument, instant)
        if isinstance(instrument, Option)
        else world.underlying_quote(instrument, instant)
    )
    middle = (quote.bid + quote.ask) / 2 if quote.bid is not None and quote.ask is not None else None
    return {"BID": quote.bid, "ASK": quote.ask, "MIDPOINT": middle, "last": quote.last, "volume": quote.volume}


# -- when bars begin


@pytest.mark.parametrize(
    ("size", "full", "early"),
    [(30, 780, 420), (60, 390, 210), (300, 78, 42), (1200, 20, 11), (1800, 13, 7), (3600, 7, 4), (4 * 3600, 2, 2),
     (8 * 3600, 1, 1), ("day", 1, 1)],
)  # fmt: skip
def test_a_session_has_its_number_of_bars(size: Size, full: int, early: int) -> None:
    assert FRIDAY is not None
    assert EARLY is not None
    assert (len(starts(FRIDAY, size)), len(starts(EARLY, size))) == (full, early)


def test_hourly_bars_begin_at_the_open_and_then_on_the_hour() -> None:
    assert EARLY is not None
    assert starts(EARLY, 3600) == [EARLY.at(one) for one in (time(9, 30), time(10), time(11), time(12))]


# -- the synthetic world: bars say what its quotes say


@pytest.mark.parametrize("size", [30, 60, 900, 3600])
@pytest.mark.parametrize("kind", ["BID", "ASK", "MIDPOINT"])
def test_quote_bars_begin_and_end_with_the_quotes_at_their_edges(kind: Kind, size: int) -> None:
    assert FRIDAY is not None
    stock = WORLD.underlying("AAPL", FRIDAY.open)
    assert stock is not None
    for instrument in (stock, near_the_money(WORLD, FRIDAY)[0]):
        bars = bars_of(WORLD, instrument, kind, size, FRIDAY)
        begins = starts(FRIDAY, size)
        assert [bar.start for bar in bars] == begins
        for bar, end in list(zip(bars, [*begins[1:], FRIDAY.close], strict=True))[:: max(1, len(bars) // 7)]:
            assert isinstance(bar.start, datetime)
            assert bar.open == pytest.approx(shown(WORLD, instrument, bar.start)[kind])
            assert bar.close == pytest.approx(shown(WORLD, instrument, end)[kind])
            between = [shown(WORLD, instrument, bar.start + (end - bar.start) * k / 6)[kind] for k in range(7)]
            assert bar.high >= max(one for one in between if one is not None) - 0.011
            assert bar.low <= min(one for one in between if one is not None) + 0.011
            assert (bar.volume, bar.average, bar.trades) == (-1, -1.0, -1)


def test_volume_and_last_price_of_trades_are_those_of_the_quote_at_every_bars_end() -> None:
    assert FRIDAY is not None
    options = near_the_money(WORLD, FRIDAY)
    assert len(options) > 5
    for option in options[:6]:
        bars = bars_of(WORLD, option, "TRADES", 900, FRIDAY)
        total = 0
        for bar in bars:
            assert isinstance(bar.start, datetime)
            total += bar.volume
            seen = shown(WORLD, option, bar.start + timedelta(seconds=900))
            assert (seen["volume"], seen["last"]) == (total, bar.close)
        first = bars[0].start
        assert isinstance(first, datetime)
        assert shown(WORLD, option, first)["volume"] == 0


def test_the_day_of_a_stock_is_that_of_its_quote() -> None:
    for session in (FRIDAY, EARLY):
        assert session is not None
        stock = WORLD.underlying("AAPL", session.open)
        assert stock is not None
        (bar,) = bars_of(WORLD, stock, "TRADES", "day", session)
        quote = WORLD.underlying_quote(stock, session.close)
        assert bar[:6] == (session.trade_date, quote.open, quote.high, quote.low, quote.last, quote.volume)
        assert bar.low < bar.average < bar.high


def test_an_index_has_levels_and_no_volume() -> None:
    assert FRIDAY is not None
    index = WORLD.underlying("SPX", FRIDAY.open)
    assert index is not None
    (bar,) = bars_of(WORLD, index, "TRADES", "day", FRIDAY)
    quote = WORLD.underlying_quote(index, FRIDAY.close)
    assert bar[:6] == (FRIDAY.trade_date, quote.open, quote.high, quote.low, quote.last, -1)
    assert (bar.average, bar.trades) == (-1, -1)


def test_bids_and_asks_are_averaged_over_time() -> None:
    """Against the mean of the quotes at every fifth second, which is what the average is when quotes stand for 5 s."""
    assert FRIDAY is not None
    option = near_the_money(WORLD, FRIDAY)[1]
    bar = bars_of(WORLD, option, "BID_ASK", 60, FRIDAY)[20]
    assert isinstance(bar.start, datetime)
    quotes = [shown(WORLD, option, bar.start + timedelta(seconds=5 * k)) for k in range(13)]
    bids, asks = [float(one["BID"] or 0) for one in quotes], [float(one["ASK"] or 0) for one in quotes]
    assert bar.open == pytest.approx(np.mean(bids[:12]), abs=1e-6)
    assert bar.close == pytest.approx(np.mean(asks[:12]), abs=1e-6)
    assert (bar.low, bar.high) == (min(bids), max(asks))


def test_volatility_bars_are_the_volatility_ticks() -> None:
    assert FRIDAY is not None
    stock = WORLD.underlying("AAPL", FRIDAY.open)
    assert stock is not None
    kinds: tuple[Kind, ...] = ("OPTION_IMPLIED_VOLATILITY", "HISTORICAL_VOLATILITY")
    implied, historical = (bars_of(WORLD, stock, kind, 1800, FRIDAY) for kind in kinds)
    for position in (0, 5, 12):
        begin = implied[position].start
        assert isinstance(begin, datetime)
        before, after = (WORLD.volatility(stock, begin + timedelta(seconds=k)) for k in (0, 1800))
        assert before is not None
        assert after is not None
        assert (implied[position].open, implied[position].close) == (before.implied, after.implied)
        assert (historical[position].open, historical[position].close) == (before.historical, after.historical)
    assert len({bar.close for bar in implied}) > 5


def test_the_bar_in_progress_ends_at_the_clock() -> None:
    assert FRIDAY is not None
    stock = WORLD.underlying("AAPL", FRIDAY.open)
    assert stock is not None
    now = FRIDAY.at(time(10, 7, 20))
    *_, bar = bars_of(WORLD, stock, "TRADES", 300, FRIDAY, now)
    assert bar.start == FRIDAY.at(time(10, 5))
    before = WORLD.underlying_quote(stock, FRIDAY.at(time(10, 5))).volume
    quote = WORLD.underlying_quote(stock, now)
    assert before is not None
    assert (bar.close, bar.volume) == (quote.last, (quote.volume or 0) - before)
    assert bars_of(WORLD, stock, "TRADES", 300, FRIDAY, FRIDAY.at(time(10, 5)))[-1].start == FRIDAY.at(time(10))


@settings(deadline=None, max_examples=30)
@given(
    session=st.sampled_from(SESSIONS),
    size=st.sampled_from(INTRADAY),
    kind=st.sampled_from(["TRADES", "MIDPOINT", "BID", "ASK"]),
    choice=st.integers(0, 500),
)
def test_bars_are_consistent(session: Session, size: int, kind: Kind, choice: int) -> None:
    stock = WORLD.underlying("AAPL", session.open)
    assert stock is not None
    instruments = [stock, *near_the_money(WORLD, session, busy=False)]
    instrument = instruments[choice % len(instruments)]
    bars = bars_of(WORLD, instrument, kind, size, session)
    assert all(bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in bars)
    begins = starts(session, size)
    if kind == "TRADES" or instrument == stock:
        assert [bar.start for bar in bars] == begins[len(begins) - len(bars) :]
    else:
        # only where there is no bid can a bar be missing
        missing = sorted(set(begins) - {bar.start for bar in bars})
        assert all(shown(WORLD, instrument, begin)[kind] is None for begin in missing[::10])
    day = bars_of(WORLD, instrument, kind, "day", session)
    assert bool(day) == bool(bars)
    if kind == "TRADES" and bars:
        assert sum(bar.volume for bar in bars) == day[0].volume == shown(WORLD, instrument, session.close)["volume"]
        assert sum(bar.trades for bar in bars) == day[0].trades
        assert all(bar.low <= bar.average + 1e-4 and bar.average - 1e-4 <= bar.high for bar in bars)
    if bars and (kind == "TRADES" or instrument == stock):
        assert (day[0].open, day[0].close) == (bars[0].open, bars[-1].close)
        assert (day[0].high, day[0].low) == (max(bar.high for bar in bars), min(bar.low for bar in bars))


# -- the pure functions, on ticks whose bars one can write down


def test_a_bar_without_a_trade_stands_at_the_last_price() -> None:
    begins = [datetime(2026, 11, 20, 14, minute, tzinfo=UTC) for minute in (30, 31, 32, 33)]
    opened = begins[0].timestamp()
    ticks = TradeTicks(
        opened + np.array([60.0, 61.0, 200.0]), np.array([1.0, 3.0, 2.0]), np.array([5, 15, 1]), np.array([1, 1, 1])
    )
    bars = trade_bars(ticks, begins, begins[-1] + timedelta(minutes=1))
    # a trade at 14:31:00 belongs to the bar that ends there
    assert bars == [
        Bar(begins[0], 1.0, 1.0, 1.0, 1.0, 5, 1.0, 1),
        Bar(begins[1], 3.0, 3.0, 3.0, 3.0, 15, 3.0, 1),
        Bar(begins[2], 3.0, 3.0, 3.0, 3.0, 0, 3.0, 0),
        Bar(begins[3], 2.0, 2.0, 2.0, 2.0, 1, 2.0, 1),
    ]


def test_a_quote_stands_over_bars_until_the_market_is_gone() -> None:
    begins = [datetime(2026, 11, 20, 14, minute, tzinfo=UTC) for minute in (30, 31, 32, 33)]
    at = begins[0].timestamp() + np.array([30.0, 130.0, 170.0])
    bars = standing_bars(at, np.array([2.0, 5.0, math.nan]), begins, begins[-1] + timedelta(minutes=1))
    assert [bar[:5] for bar in bars] == [
        (begins[0], 2.0, 2.0, 2.0, 2.0),
        (begins[1], 2.0, 2.0, 2.0, 2.0),
        (begins[2], 2.0, 5.0, 2.0, 5.0),
    ]


# -- splits


def split_of_aapl(folder: Path) -> Path:
    file = folder / "actions.csv"
    file.write_text(
        "symbol,event_type,effective_date,ratio_new,ratio_old,cash_amount,new_symbol,known_at,source\n"
        "AAPL,split,2014-06-09,7,1,,,2014-04-23T20:30:00Z,test\n"
    )
    return file


def test_bars_before_a_split_are_in_todays_shares(tmp_path: Path) -> None:
    """A 7:1 split: a seventh of the price, seven times the volume (IB: TRADES are adjusted for splits)."""
    world = SyntheticWorld([UnderlyingSpec("AAPL")], actions=read_corporate_actions(split_of_aapl(tmp_path)))
    before, after = session_on(date(2014, 6, 6)), session_on(date(2014, 6, 9))
    assert before is not None
    assert after is not None
    stock = world.underlying("AAPL", before.open)
    assert stock is not None
    (seen_then,) = session_bars(world, stock, BarType("TRADES", "day"), before, before.close, before.trade_date)
    (seen_now,) = session_bars(world, stock, BarType("TRADES", "day"), before, before.close, after.trade_date)
    assert seen_then.close == world.underlying_quote(stock, before.close).last
    assert seen_now[1:5] == pytest.approx([price / 7 for price in seen_then[1:5]], abs=1e-6)
    assert seen_now.volume == 7 * seen_then.volume
    (next_day,) = session_bars(world, stock, BarType("TRADES", "day"), after, after.close, after.trade_date)
    assert next_day.open == pytest.approx(seen_now.close, rel=0.1)
    assert next_day.close == world.underlying_quote(stock, after.close).last


def test_an_options_bars_begin_with_its_terms(tmp_path: Path) -> None:
    world = SyntheticWorld([UnderlyingSpec("AAPL")], actions=read_corporate_actions(split_of_aapl(tmp_path)))
    before, after = session_on(date(2014, 6, 6)), session_on(date(2014, 6, 9))
    assert before is not None
    assert after is not None
    stock = world.underlying("AAPL", after.open)
    assert stock is not None
    old, new = (
        next(one for one in world.series(stock, session.open) if one.expiry == date(2014, 7, 19)).at(0, 10)
        for session in (before, after)
    )
    assert old is not None
    assert new is not None
    assert world.history_from(old) < before.trade_date < world.history_from(new) == after.trade_date
    assert bars_of(world, old, "ASK", "day", before)
    assert not bars_of(world, old, "ASK", "day", after)
    assert not bars_of(world, new, "ASK", "day", before)
    (bar,) = bars_of(world, new, "ASK", "day", after)
    assert bar.close == world.option_quote(new, after.close).ask


# -- recorded rows, aggregated by Polars


def rows_of(option: Option) -> pl.DataFrame:
    return (
        pl.read_parquet(replay_file("GOOG_2015-12-24.parquet"))
        .filter(
            (pl.col("strike") == option.strike)
            & (pl.col("right") == option.right)
            & (pl.col("expiry") == option.series.expiry)
        )
        .sort("ts")
    )


@pytest.fixture(scope="module")
def recorded() -> tuple[ReplayWorld, list[Option]]:
    """The world of 2015-12-24 and its five busiest contracts."""
    path = replay_file("GOOG_2015-12-24.parquet")
    world = ReplayWorld([path])
    busiest = (
        pl.read_parquet(path)
        .group_by("expiry", "strike", "right")
        .agg(pl.col("volume").max())
        .sort("volume", descending=True)
        .head(5)
    )
    now = new_york(date(2015, 12, 24), time(12))
    options = []
    for expiry, strike, right, _ in busiest.iter_rows():
        series = next(one for one in world.series(world.underlyings()[0], now) if one.expiry == expiry)
        option = series.find(strike, right)
        assert option is not None
        options.append(option)
    return world, options


@pytest.mark.parametrize(("size", "every"), [(60, "1m"), (300, "5m"), (1800, "30m"), ("day", "12h")])
def test_recorded_trades_make_the_bars_that_polars_makes(
    recorded: tuple[ReplayWorld, list[Option]], size: Size, every: str
) -> None:
    world, options = recorded
    assert EARLY is not None
    for option in options:
        wanted = (
            rows_of(option)
            .filter(pl.col("ts") <= EARLY.close)
            .with_columns(size=pl.col("volume").diff().fill_null(pl.col("volume")))
            .filter(pl.col("size") > 0)
            .with_columns(bar=(pl.max_horizontal(pl.col("ts") - pl.duration(microseconds=1), EARLY.open)))
            .group_by_dynamic("bar", every=every, offset="2h30m" if every == "12h" else "0m")
            .agg(
                first=pl.col("last").first(), high=pl.col("last").max(), low=pl.col("last").min(),
                close=pl.col("last").last(), volume=pl.col("size").sum(),
                average=(pl.col("last") * pl.col("size")).sum() / pl.col("size").sum(), trades=pl.len(),
            )
        )  # fmt: skip
        bars = bars_of(world, option, "TRADES", size, EARLY)
        traded = [bar for bar in bars if bar.volume]
        assert len(traded) == len(wanted)
        for bar, row in zip(traded, wanted.iter_rows(), strict=True):
            assert bar[1:7] == pytest.approx(row[1:7], abs=1e-4)
            assert bar.trades == row[7]
            assert bar.start == (EARLY.trade_date if size == "day" else row[0])
        assert sum(bar.volume for bar in bars) == rows_of(option).filter(pl.col("ts") <= EARLY.close)["volume"].max()


def test_recorded_quotes_make_the_bars_that_a_second_by_second_look_makes(
    recorded: tuple[ReplayWorld, list[Option]],
) -> None:
    """Rows are a minute apart, so that a look at every second sees every one of them for as long as it stood."""
    world, options = recorded
    assert EARLY is not None
    seconds = pl.DataFrame({"ts": pl.datetime_range(EARLY.open, EARLY.close, "1s", time_unit="us", eager=True)}).sort(
        "ts"
    )
    for option in options[:3]:
        looks = seconds.join_asof(rows_of(option).select("ts", "bid", "ask"), on="ts")
        bids, asks, both = (bars_of(world, option, kind, 900, EARLY) for kind in ("BID", "ASK", "BID_ASK"))  # type: ignore[arg-type]
        assert len(bids) == len(asks) == len(both) == 14
        for bid, ask, pair in zip(bids, asks, both, strict=True):
            assert isinstance(bid.start, datetime)
            end = bid.start + timedelta(minutes=15)
            inside = looks.filter(pl.col("ts").is_between(bid.start, end))
            for bar, side in ((bid, inside["bid"].drop_nulls()), (ask, inside["ask"].drop_nulls())):
                assert bar[1:5] == (side[0], side.max(), side.min(), side[-1])
            stood = inside.filter(pl.col("ts") < end)
            assert pair.open == pytest.approx(stood["bid"].mean(), abs=1e-6)
            assert pair.close == pytest.approx(stood["ask"].mean(), abs=1e-6)
            assert (pair.low, pair.high) == (bid.low, ask.high)


def test_a_recorded_underlying_has_its_prices_and_no_quotes(recorded: tuple[ReplayWorld, list[Option]]) -> None:
    world, _ = recorded
    assert EARLY is not None
    (underlying,) = world.underlyings()
    prices = (
        pl.read_parquet(replay_file("GOOG_2015-12-24.parquet"))
        .filter(pl.col("ts").is_between(EARLY.open, EARLY.close))
        .group_by("ts")
        .agg(pl.col("underlying_price").last())
        .sort("ts")["underlying_price"]
    )
    (bar,) = bars_of(world, underlying, "TRADES", "day", EARLY)
    assert bar[1:6] == (prices[0], prices.max(), prices.min(), prices[-1], 0)
    assert not bars_of(world, underlying, "BID", "day", EARLY)
