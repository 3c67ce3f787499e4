"""The synthetic market: what must hold whatever the seed, the symbol and the day."""

import json
import math
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.gateway import GatewayError, UnderlyingSpec
from ingest.gateway.instruments import Option, parse_occ_symbol
from ingest.gateway.synthetic import SyntheticWorld
from ingest.gateway.synthetic.chain import SyntheticSeries
from ingest.gateway.synthetic.expiries import expiries_on, third_friday
from ingest.gateway.synthetic.smile import total_variance
from ingest.sessions import NEW_YORK, Session, new_york, next_session, previous_session, session_on, sessions_between

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
        assert volumes == sorted(volumes)
        if volumes[-1]:
            assert world.option_quote(option, session.close).last is not None


def test_some_contracts_have_no_bid_and_some_never_traded() -> None:
    world, instant = WORLDS[7], datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
    quotes = [world.option_quote(option, instant) for option in some_options(world, instant)]
    without_bid = sum(quote.bid is None for quote in quotes) / len(quotes)
    without_last = sum(quote.last is None for quote in quotes) / len(quotes)
    stale = sum(quote.last is not None and not quote.volume for quote in quotes) / len(quotes)
    assert 0.01 < without_bid < 0.6
    assert 0.01 < without_last < 0.5
    assert stale > 0.05


def test_spreads_widen_away_from_the_money() -> None:
    world, instant = WORLDS[7], datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
    leaps = world.series(world.underlyings()[0], instant)[-1]
    quotes = [world.option_quote(option, instant) for option in leaps.options() if option.right == "C"]
    shares = [(q.ask - q.bid) / q.model.price for q in quotes if q.bid is not None]
    assert np.mean(shares[:5]) < np.mean(shares[-5:])


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
    world = SyntheticWorld([UnderlyingSpec(f"S{number}") for number in range(8)])
    closes = np.array(
        [
            [world.previous_close(one, session.open) for one in world.underlyings()]
            for session in sessions_between(date(2020, 1, 1), date(2021, 12, 31))
        ]
    )
    correlations = np.corrcoef(np.diff(np.log(closes), axis=0).T)
    pairs = correlations[np.triu_indices(8, 1)]
    assert 0.1 < pairs.mean() < 0.8
    assert pairs.max() < 0.95


def test_an_early_close_ends_the_day() -> None:
    world = WORLDS[7]
    session = session_on(date(2015, 12, 24))
    assert session is not None
    assert session.close == new_york(date(2015, 12, 24), time(13))
    underlying = world.underlyings()[0]
    (bar,) = world.daily_bars(underlying, "TRADES", session.trade_date, session.at(time(16)))
    assert bar.close == world.underlying_quote(underlying, session.close).last
    assert bar.close == world.previous_close(underlying, next_session(session.trade_date).open)
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
from ingest.gateway import UnderlyingSpec
from ingest.gateway.synthetic import SyntheticWorld
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
