"""The synthetic market: what must hold whatever the seed, the symbol and the day."""

import json
import math
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.calendar.sessions import (
    NEW_YORK,
    Session,
    new_york,
    next_session,
    previous_session,
    session_on,
    sessions_between,
)
from ingest.discovery.selection import is_monthly, is_quarterly
from ingest.universe import read_universe
from tws_simulator import GatewayError, UnderlyingSpec
from tws_simulator.worlds.instruments import Option, parse_occ_symbol
from tws_simulator.worlds.synthetic import SyntheticWorld
from tws_simulator.worlds.synthetic.chain import SyntheticSeries
from tws_simulator.worlds.synthetic.expiries import expiries_on, third_friday
from tws_simulator.worlds.synthetic.smile import total_variance

SYMBOLS = [UnderlyingSpec(symbol) for symbol in ("AAPL", "MSFT", "XOM")]
WORLDS = {seed: SyntheticWorld(SYMBOLS, seed=seed) for seed in (7, 8)}
TIMES = time(10), time(13, 37, 11), time(15, 59, 59)

sessions = st.dates(date(2005, 1, 10), date(2030, 12, 20)).map(lambda day: session_on(day) or next_session(day))
seeds = st.sampled_from(sorted(WORLDS))
# a chain costs some ten milliseconds the first time
examples = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def at(session: Session, fraction: float) -> datetime:
    return session.open + (session.close - session.open) * fraction


def some_options(world: SyntheticWorld, now: datetime, symbol: str = "AAPL") -> list[Option]:
    underlying = world.underlying(symbol)
    assert underlying is not None
    return [option for series in world.series(underlying, now) for option in series.options()]


@examples
@given(seeds, sessions, st.floats(0, 1))
def test_quotes_are_a_market(seed: int, session: Session, fraction: float) -> None:
    world, instant = WORLDS[seed], at(session, fraction)
    underlying = world.underlyings()[0]
    stock = world.underlying_quote(underlying, instant)
    assert stock.bid is not None
    assert stock.ask is not None
    assert 0 < stock.bid < stock.ask < stock.bid * 1.005
    for option in some_options(world, instant)[::7]:
        quote = world.option_quote(option, instant)
        model = quote.model
        assert quote.ask is not None
        assert model is not None
        assert model.underlying_price is not None
        assert quote.ask > 0
        assert quote.bid is None or 0 < quote.bid < quote.ask
        assert (quote.bid is None) == (quote.bid_size == 0)
        assert on_grid(quote.ask, option.series.min_tick)
        assert quote.bid is None or on_grid(quote.bid, option.series.min_tick)
        sign = 1 if option.right == "C" else -1
        intrinsic = max(sign * (model.underlying_price - option.strike), 0)
        upper = model.underlying_price if option.right == "C" else option.strike
        assert intrinsic <= quote.ask + 1e-9
        assert quote.bid is None or quote.bid <= upper
        assert model.price is not None
        assert (quote.bid or 0) <= model.price + 1e-9 <= quote.ask + 2e-9
        assert 0 <= sign * (model.delta or 0) <= 1
        assert min(model.gamma or 0, model.vega or 0) >= 0
        assert model.iv is not None
        assert 0.01 < model.iv < 10


def on_grid(price: float, min_tick: float) -> bool:
    step = min_tick if price < 3 else (0.05 if min_tick < 0.05 else 0.1)
    return abs(price / step - round(price / step)) < 1e-6


@examples
@given(seeds, sessions)
def test_the_chain_has_no_static_arbitrage(seed: int, session: Session) -> None:
    world, instant = WORLDS[seed], at(session, 0.4)
    for series in world.series(world.underlyings()[0], instant):
        models = {(o.strike, o.right): world.option_quote(o, instant).model for o in series.options()}
        strikes = [k for k in series.strikes.tolist() if (k, "C") in models and (k, "P") in models]
        calls = np.array([models[k, "C"].price for k in strikes])
        puts = np.array([models[k, "P"].price for k in strikes])
        spot = next(iter(models.values())).underlying_price
        np.testing.assert_allclose(calls - puts, spot - np.array(strikes), atol=1e-8)
        assert (np.diff(calls) <= 1e-9).all()
        assert (np.diff(puts) >= -1e-9).all()
        slopes = np.diff(calls) / np.diff(strikes)
        assert (np.diff(slopes) >= -1e-9).all(), "butterflies have no negative price"


def test_nothing_can_be_earned_at_the_quotes_without_risk() -> None:
    """Buying at the ask and selling at the bid: no free vertical spread, no free butterfly, no conversion."""
    world, instant = WORLDS[7], datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
    underlying = world.underlyings()[0]
    stock = world.underlying_quote(underlying, instant)
    for series in world.series(underlying, instant):
        strikes = series.strikes
        (bid, ask), (put_bid, put_ask) = (
            np.array([(quote.bid or 0.0, quote.ask) for quote in quotes]).T
            for quotes in (
                [world.option_quote(option, instant) for option in series.options() if option.right == right]
                for right in ("C", "P")
            )
        )
        assert (bid[1:] <= ask[:-1]).all()
        assert (put_bid[:-1] <= put_ask[1:]).all()
        for wing in (1, 3, 8):
            low, middle, high = slice(0, -2 * wing), slice(wing, -wing), slice(2 * wing, None)
            weight = (strikes[high] - strikes[middle]) / (strikes[high] - strikes[low])
            assert (weight * ask[low] + (1 - weight) * ask[high] >= bid[middle]).all()
        assert (bid - put_ask <= stock.ask - strikes + 1e-9).all()
        assert (ask - put_bid >= stock.bid - strikes - 1e-9).all()


@examples
@given(seeds, sessions)
def test_open_interest_changes_by_no_more_than_the_days_volume(seed: int, session: Session) -> None:
    world = WORLDS[seed]
    following = next_session(session.trade_date)
    if following.trade_date.year > 2030:
        return
    morning, next_morning = session.at(time(4)), following.at(time(4))
    moved = 0
    for option in some_options(world, session.open)[::3]:
        before, after = world.open_interest(option, morning), world.open_interest(option, next_morning)
        volume = world.option_quote(option, session.close).volume
        assert before is not None
        assert after is not None
        assert volume is not None
        assert min(before, after) >= 0
        assert abs(after - before) <= volume
        moved += after != before
    assert moved > 0


@examples
@given(seeds, sessions)
def test_volume_and_last_grow_through_the_day(seed: int, session: Session) -> None:
    world = WORLDS[seed]
    for option in some_options(world, session.open)[::11]:
        volumes = [world.option_quote(option, at(session, fraction)).volume for fraction in (0, 0.2, 0.5, 0.9, 1)]
        assert volumes[0] == 0
        assert None not in volumes
        assert volumes == sorted(volumes, key=lambda volume: volume or 0)
        if volumes[-1]:
            assert world.option_quote(option, session.close).last is not None


def test_some_contracts_have_no_bid_and_some_never_traded() -> None:
    world, instant = WORLDS[7], datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
    quotes = [world.option_quote(option, instant) for option in some_options(world, instant)]
    without_bid = sum(quote.bid is None for quote in quotes) / len(quotes)
    assert all(abs(quote.model.delta) < 0.05 for quote in quotes if quote.bid is None), "they are the wings"
    without_last = sum(quote.last is None for quote in quotes) / len(quotes)
    stale = sum(quote.last is not None and not quote.volume for quote in quotes) / len(quotes)
    assert 0.01 < without_bid < 0.6
    assert 0.01 < without_last < 0.5
    assert stale > 0.05


def test_spreads_widen_away_from_the_money() -> None:
    world, instant = WORLDS[7], datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
    spot = world.underlying_quote(world.underlyings()[0], instant).last
    assert spot is not None
    for series in world.series(world.underlyings()[0], instant)[-4:]:
        # of out-of-the-money contracts with a bid, as a share of what they are worth
        shares: dict[bool, list[float]] = {True: [], False: []}
        for option in series.options():
            quote = world.option_quote(option, instant)
            distance = math.log(option.strike / spot) * (1 if option.right == "C" else -1)
            if quote.bid is not None and 0 <= distance < 0.6:
                shares[distance < 0.1].append((quote.ask - quote.bid) / quote.model.price)
        assert np.mean(shares[True]) < np.mean(shares[False])


@examples
@given(st.dates(date(2005, 1, 3), date(2030, 12, 31)), st.integers(0, 2))
def test_expiries_are_sessions_and_named_as_occ_does(day: date, cycle: int) -> None:
    expiries = expiries_on(day, cycle)
    assert [one.expiry for one in expiries] == sorted({one.expiry for one in expiries})
    assert len({one.last_trade_date for one in expiries}) == len(expiries)
    kinds = {one.kind for one in expiries}
    assert {"monthly", "quarterly", "leaps"} <= kinds
    assert ("weekly" in kinds) == (day >= date(2010, 8, 1)) or date(2010, 4, 1) < day < date(2010, 8, 1)
    for one in expiries:
        assert session_on(one.last_trade_date) is not None
        assert one.listed_on <= day <= one.last_trade_date
        if one.kind in ("monthly", "leaps"):
            third = third_friday(one.last_trade_date.year, one.last_trade_date.month)
            assert one.last_trade_date in (third, third - timedelta(days=1))
            assert one.expiry == (third + timedelta(days=1) if third <= date(2015, 1, 31) else one.last_trade_date)
        if one.kind == "quarterly":
            assert next_session(one.last_trade_date).trade_date.month == one.last_trade_date.month % 12 + 1


def test_known_expiries() -> None:
    # Good Friday 2014-04-18 was a third Friday: last trading Thursday, expiry Saturday the 19th
    april = next(e for e in expiries_on(date(2014, 4, 1), 0) if e.expiry == date(2014, 4, 19))
    assert april.last_trade_date == date(2014, 4, 17)
    # Juneteenth 2026-06-19 is a third Friday
    june = next(e for e in expiries_on(date(2026, 6, 1), 0) if e.kind == "monthly")
    assert (june.expiry, june.last_trade_date) == (date(2026, 6, 18), date(2026, 6, 18))
    # Friday 2027-01-01 is a holiday: its weekly would fall on the quarter's last session, which has its own
    kinds = {e.expiry: e.kind for e in expiries_on(date(2026, 12, 1), 0)}
    assert kinds[date(2026, 12, 31)] == "quarterly"


@examples
@given(seeds, sessions, st.floats(0, 1))
def test_prices_are_continuous_over_sessions(seed: int, session: Session, fraction: float) -> None:
    world = WORLDS[seed]
    for underlying in world.underlyings():
        quote = world.underlying_quote(underlying, at(session, fraction))
        close = world.previous_close(underlying, session.open)
        yesterday = previous_session(session.trade_date)
        assert close == world.underlying_quote(underlying, yesterday.close).last
        assert quote.last is not None
        assert abs(math.log(quote.last / close)) < 0.35
        assert quote.low <= quote.last <= quote.high
        soon = world.underlying_quote(underlying, min(at(session, fraction) + timedelta(seconds=1), session.close))
        assert abs(math.log(soon.last / quote.last)) < 0.01


def test_underlyings_move_together_but_not_in_step() -> None:
    world = SyntheticWorld([UnderlyingSpec(f"S{number}") for number in range(8)] + [UnderlyingSpec("SPX")])
    underlyings = sorted(world.underlyings(), key=lambda one: one.is_index)
    closes = np.array(
        [
            [world.previous_close(one, session.open) for one in underlyings]
            for session in sessions_between(date(2020, 1, 1), date(2021, 12, 31))
        ]
    )
    correlations = np.corrcoef(np.diff(np.log(closes), axis=0).T)
    pairs = correlations[:8, :8][np.triu_indices(8, 1)]
    assert 0.1 < pairs.mean() < 0.8
    assert pairs.max() < 0.95
    assert correlations[8, :8].mean() > pairs.mean(), "an index moves as the market does"


def test_an_early_close_ends_the_day() -> None:
    world = WORLDS[7]
    session = session_on(date(2015, 12, 24))
    assert session is not None
    assert session.close == new_york(date(2015, 12, 24), time(13))
    underlying = world.underlyings()[0]
    closed = world.underlying_quote(underlying, session.close)
    assert world.underlying_quote(underlying, session.at(time(16))) == closed
    assert world.previous_close(underlying, next_session(session.trade_date).open) == closed.last
    for option in some_options(world, session.open)[::40]:
        half_past_two, close = session.at(time(14, 30)), session.close
        assert world.option_quote(option, half_past_two) == world.option_quote(option, close)


def test_a_given_price_is_the_level_and_a_given_id_is_kept() -> None:
    world = SyntheticWorld([UnderlyingSpec("AAPL", conid=265598, price=180.0)])
    (underlying,) = world.underlyings()
    assert underlying.conid == 265598
    closes = [
        world.previous_close(underlying, s.open) for s in sessions_between(date(2006, 1, 1), date(2029, 12, 31))[::50]
    ]
    assert 0.7 * 180 < float(np.exp(np.mean(np.log(closes)))) < 1.4 * 180


@pytest.mark.long
def test_every_listed_contract_has_its_own_id_which_lasts() -> None:
    world = SyntheticWorld([UnderlyingSpec(f"S{number}") for number in range(40)])
    friday, monday = datetime(2026, 11, 20, 15, tzinfo=UTC), datetime(2026, 11, 23, 15, tzinfo=UTC)
    days = []
    for now in (friday, monday):
        options = [o for one in world.underlyings() for series in world.series(one, now) for o in series.options()]
        ids = {option.conid: option.local_symbol for option in options}
        assert len(ids) == len(options) == world.contract_count(now)
        days.append(ids)
    assert len(days[0]) > 40_000
    assert all(days[0][conid] == days[1][conid] for conid in days[0].keys() & days[1].keys())
    assert len(days[0].keys() & days[1].keys()) > 0.9 * len(days[0])
    conid, name = next(iter(days[0].items()))
    found = world.by_conid(conid, friday)
    assert isinstance(found, Option)
    assert found.local_symbol == name
    parsed = parse_occ_symbol(name)
    assert parsed is not None
    assert parsed[3] == found.strike
    # an id does not depend on which underlyings share the world
    alone = SyntheticWorld([UnderlyingSpec(found.underlying.symbol)])
    again = alone.by_conid(conid, friday)
    assert isinstance(again, Option)
    assert again.local_symbol == name


QUESTION = """
import json
from datetime import datetime, UTC
from tws_simulator import UnderlyingSpec
from tws_simulator.worlds.synthetic import SyntheticWorld
world = SyntheticWorld([UnderlyingSpec("MSFT"), UnderlyingSpec("AAPL")], seed=7)
now = datetime(2024, 3, 28, 17, 21, 5, tzinfo=UTC)
options = [o for s in world.series(world.underlying("AAPL"), now) for o in s.options()][::17]
print(json.dumps([[o.conid, world.option_quote(o, now), world.open_interest(o, now)] for o in options]))
"""


def test_the_same_question_gets_the_same_answer_in_every_process() -> None:
    command = [sys.executable, "-c", QUESTION]
    other = json.loads(subprocess.run(command, capture_output=True, check=True, text=True, timeout=120).stdout)
    now = datetime(2024, 3, 28, 17, 21, 5, tzinfo=UTC)
    world = WORLDS[7]
    here = [[o.conid, world.option_quote(o, now), world.open_interest(o, now)] for o in some_options(world, now)[::17]]
    assert json.loads(json.dumps(here)) == other
    there = WORLDS[8]
    different = [there.option_quote(o, now) for o in some_options(there, now)[::17]]
    assert [answer[1] for answer in here] != different


def test_the_surface_refuses_parameters_with_arbitrage() -> None:
    flat = total_variance(0.04, np.array([-0.5, 0.0, 0.5]), -0.3, 0.9)
    assert flat[1] == pytest.approx(0.04)
    with pytest.raises(ValueError, match="butterfly"):
        total_variance(0.04, np.array([0.0]), -0.5, 1.5)


def test_dates_and_symbols_out_of_range_are_one_clear_line() -> None:
    world = WORLDS[7]
    with pytest.raises(GatewayError, match="2005-01-01 to 2030-12-31, not 2004-06-01"):
        world.series(world.underlyings()[0], datetime(2004, 6, 1, 15, tzinfo=UTC))
    with pytest.raises(GatewayError, match="AAPL given twice"):
        SyntheticWorld([UnderlyingSpec("AAPL"), UnderlyingSpec("AAPL")])
    with pytest.raises(GatewayError, match="same contract id"):
        SyntheticWorld([UnderlyingSpec("AAPL", conid=1), UnderlyingSpec("MSFT", conid=1)])
    with pytest.raises(GatewayError, match="at least one symbol"):
        SyntheticWorld([])


def test_series_of_one_expiry_stay_listed_as_the_price_moves() -> None:
    world = WORLDS[7]
    underlying = world.underlyings()[0]
    seen: set[float] = set()
    for session in sessions_between(date(2025, 1, 2), date(2026, 1, 15)):
        series = next(s for s in world.series(underlying, session.open) if s.expiry == date(2026, 1, 16))
        assert isinstance(series, SyntheticSeries)
        strikes = set(series.strikes.tolist())
        assert seen <= strikes
        seen = strikes
        close = world.previous_close(underlying, session.open)
        assert close is not None
        assert min(strikes) <= 0.75 * close
        assert max(strikes) >= 1.3 * close
        assert session.open.astimezone(NEW_YORK).hour == 9


SPX = SyntheticWorld([UnderlyingSpec("SPX"), UnderlyingSpec("AAPL")])


def index_series(when: date) -> dict[tuple[str, date], date]:
    """(class, OCC expiry) to last trading day, of SPX on a date."""
    session = session_on(when)
    assert session is not None
    underlying = SPX.underlying("SPX")
    assert underlying is not None
    return {(s.trading_class, s.expiry): s.last_trade_date for s in SPX.series(underlying, session.open)}


@pytest.mark.parametrize(
    ("expiry", "last"),
    [
        # IB: lastTradeDateOrContractMonth 20200116 of SPX   200117P03205000
        (date(2020, 1, 17), date(2020, 1, 16)),
        # Good Friday 2019-04-19 was a third Friday: settled on Thursday's open, last traded on Wednesday
        (date(2019, 4, 18), date(2019, 4, 17)),
        # up to January 2015 the symbol names the Saturday
        (date(2014, 6, 21), date(2014, 6, 19)),
    ],
)
def test_spx_is_last_traded_on_the_session_before_it_is_settled(expiry: date, last: date) -> None:
    assert index_series(last)["SPX", expiry] == last
    assert ("SPX", expiry) not in index_series(next_session(last).trade_date), "not listed when it is settled"


def test_spxw_has_every_weekday_month_ends_and_the_third_friday_itself() -> None:
    series = index_series(date(2026, 11, 13))
    evening = {last for (name, _), last in series.items() if name == "SPXW"}
    assert {one.trade_date for one in sessions_between(date(2026, 11, 13), date(2026, 12, 18))} <= evening
    assert {date(2026, 11, 20), date(2026, 11, 30), date(2026, 12, 31), date(2027, 3, 31)} <= evening
    assert all(last == expiry for (name, expiry), last in series.items() if name == "SPXW")
    # the day before the third Friday is the last one of both classes
    assert sorted(name for (name, _), last in series.items() if last == date(2026, 11, 19)) == ["SPX", "SPXW"]
    # before 2016 only Fridays and month ends; 2013-05-31 is a Friday
    weekdays = {expiry.weekday() for name, expiry in index_series(date(2013, 5, 1)) if expiry < date(2013, 6, 10)}
    assert weekdays - {5} == {4}


def test_an_index_has_a_level_and_a_previous_close_and_no_sides() -> None:
    underlying = SPX.underlying("SPX")
    assert underlying is not None
    assert (underlying.conid, underlying.sec_type, underlying.primary_exchange) == (416904, "IND", "CBOE")
    levels = []
    for session in sessions_between(date(2006, 1, 1), date(2029, 12, 31))[::100]:
        quote = SPX.underlying_quote(underlying, session.close)
        assert (quote.bid, quote.ask, quote.volume) == (None, None, None)
        assert quote.last == SPX.previous_close(underlying, next_session(session.trade_date).open)
        levels.append(quote.last)
    assert 4500 < np.exp(np.mean(np.log(levels))) < 8000
    listed = SPX.series(underlying, datetime(2026, 11, 20, 15, tzinfo=UTC))
    assert {step for series in listed for step in np.diff(series.strikes).tolist()} == {5.0, 25.0, 50.0, 100.0}


def test_morning_settled_options_live_until_the_next_open() -> None:
    underlying = SPX.underlying("SPX")
    thursday = session_on(date(2026, 11, 19))
    assert underlying is not None
    assert thursday is not None
    time_value = {}
    for series in SPX.series(underlying, thursday.open):
        if series.last_trade_date == thursday.trade_date:
            options = [option for option in series.options() if option.strike % 25 == 0]
            models = [SPX.option_quote(option, thursday.close).model for option in options]
            signs = [1 if option.right == "C" else -1 for option in options]
            time_value[series.trading_class] = sum(
                model.price - max(sign * (model.underlying_price - option.strike), 0)
                for sign, option, model in zip(signs, options, models, strict=True)
            )
    assert time_value["SPXW"] < 2.0
    assert time_value["SPX"] > 10 * time_value["SPXW"]


def test_an_index_of_unknown_classes_is_refused() -> None:
    with pytest.raises(GatewayError, match="option classes of the index ABC are not known; use RUT, SPX"):
        SyntheticWorld([UnderlyingSpec("ABC", sec_type="IND")])


def test_minis_are_on_ten_shares_near_the_money_and_on_the_monthly_dates() -> None:
    world, now = SyntheticWorld(SYMBOLS, minis=["AAPL"]), datetime(2026, 11, 20, 15, tzinfo=UTC)
    underlying = world.underlying("AAPL")
    assert underlying is not None
    spot = world.previous_close(underlying, now)
    assert spot is not None
    standard = {s.expiry: s for s in world.series(underlying, now) if s.trading_class == "AAPL"}
    minis = [s for s in world.series(underlying, now) if s.trading_class == "AAPL7"]
    monthly = {e for e in standard if is_monthly(e)}
    assert {s.expiry for s in minis} == monthly
    for series in minis:
        assert series.multiplier == 10
        assert set(series.strikes.tolist()) < set(standard[series.expiry].strikes.tolist())
        assert series.strikes[0] < spot < series.strikes[-1]
    assert not [s for s in world.series(world.underlyings()[1], now) if s.multiplier != 100]


def test_the_whole_universe_lists_more_than_200000_contracts() -> None:
    universe = read_universe(Path(__file__).parents[2] / "config" / "universe.csv")
    world = SyntheticWorld([UnderlyingSpec(one.symbol, conid=one.conid) for one in universe])
    session = session_on(date(2026, 11, 20))
    assert session is not None
    assert len(world.underlyings()) == 503
    wanted = 0
    for underlying in world.underlyings():
        price = world.previous_close(underlying, session.open)
        assert price is not None
        for series in world.series(underlying, session.open):
            # what is captured by default: standard expiries within a year, strikes within 30 % of the price
            if (is_monthly(series.expiry) or is_quarterly(series.expiry)) and series.expiry <= date(2027, 11, 20):
                near = np.abs(series.strikes / price - 1) <= 0.3
                wanted += int(np.count_nonzero(series.conids[:, near]))
    assert world.contract_count(session.open) > wanted > 200_000
