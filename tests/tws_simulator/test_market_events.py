"""Corporate actions in the synthetic market: splits, special dividends, changed deliverables, new symbols."""

from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ib_insync import Option as OptionContract
from ib_insync import Stock

from ingest.calendar.sessions import Session, next_session, previous_session, session_on
from tests.tws_simulator.conftest import ConnectClient, StartGateway, replay_file
from tws_simulator import GatewayError, UnderlyingSpec
from tws_simulator.worlds.instruments import Option, OptionSeries, Underlying
from tws_simulator.worlds.synthetic import SyntheticWorld, read_corporate_actions
from tws_simulator.worlds.synthetic.chain import to_cents
from tws_simulator.worlds.synthetic.events import CorporateAction
from tws_simulator.worlds.world import NO_QUOTE

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "corporate_actions.csv"
HEADER = "symbol,event_type,effective_date,ratio_new,ratio_old,cash_amount,new_symbol,known_at,source"
MORNING = time(9)

SPLIT = CorporateAction("AAPL", "split", date(2014, 6, 9), Fraction(7))
APPLE = UnderlyingSpec("AAPL", price=92.0)


def day(when: date) -> Session:
    session = session_on(when)
    assert session is not None
    return session


def chain(world: SyntheticWorld, symbol: str, now: datetime) -> Sequence[OptionSeries]:
    underlying = world.underlying(symbol, now)
    assert underlying is not None
    return world.series(underlying, now)


def options(world: SyntheticWorld, symbol: str, now: datetime) -> list[Option]:
    return [option for series in chain(world, symbol, now) for option in series.options()]


def only(world: SyntheticWorld, now: datetime) -> Underlying:
    (underlying,) = world.underlyings(now)
    return underlying


class TestSplit:
    """AAPL 7:1 of 2014-06-09; the answers are OCC's rule, the real chains, and a world without the split."""

    before, effective = day(date(2014, 6, 6)), day(date(2014, 6, 9))
    after = next_session(effective.trade_date)
    world = SyntheticWorld([APPLE], actions=[SPLIT])
    plain = SyntheticWorld([APPLE])

    def closes(self, world: SyntheticWorld, session: Session) -> float:
        close = world.previous_close(only(world, session.open), session.open)
        assert close is not None
        return close

    def test_the_price_falls_by_seven_at_the_open_of_the_date_and_the_previous_close_is_restated(self) -> None:
        assert self.closes(self.world, self.before) == pytest.approx(7 * self.closes(self.plain, self.before), abs=0.04)
        assert self.closes(self.world, self.effective) == self.closes(self.plain, self.effective)
        for session, factor in ((self.before, 7), (self.effective, 1), (self.after, 1)):
            for instant in (session.open, session.close):
                quote = self.world.underlying_quote(only(self.world, instant), instant)
                plain = self.plain.underlying_quote(only(self.plain, instant), instant)
                assert (quote.last, quote.high) == pytest.approx((factor * plain.last, factor * plain.high), abs=0.04)

    def test_every_contract_continues_at_its_strike_over_seven_half_a_cent_up(self) -> None:
        def expected(strike: float) -> float:
            return float((Decimal(str(strike)) / 7).quantize(Decimal("0.01"), ROUND_HALF_UP))

        old = {(o.series.expiry, o.right, o.strike) for o in options(self.world, "AAPL", self.before.open)}
        new = {(o.series.expiry, o.right, o.strike) for o in options(self.world, "AAPL", self.effective.open)}
        mapped = {(expiry, right, expected(strike)) for expiry, right, strike in old if expiry > date(2014, 6, 7)}
        assert len(mapped) > 1000
        assert mapped <= new
        # what is new lies beyond the strikes of before, where the last close took the range
        assert len(new - mapped) < 0.02 * len(mapped)
        weekly = chain(self.world, "AAPL", self.effective.open)[0]
        assert {92.14, 91.43} <= set(weekly.strikes.tolist()), "645 and 640"

    def test_the_rule_maps_apples_real_strikes_one_to_one(self) -> None:
        strikes = [
            set(pl.read_parquet(replay_file(name)).filter(pl.col("expiry") > date(2014, 6, 9))["strike"].to_list())
            for name in ("AAPL_2014-06-06.parquet", "AAPL_2014-06-09.parquet")
        ]
        mapped = set(to_cents(np.array(sorted(strikes[0])) / 7).tolist())
        assert len(mapped) == len(strikes[0]) > 100
        assert mapped <= strikes[1]

    def test_open_interest_is_the_old_contracts_on_the_effective_morning_and_times_seven_on_the_next(self) -> None:
        now, next_morning = self.effective.at(MORNING), self.after.at(MORNING)
        stamped = {o.local_symbol: o for o in options(self.world, "AAPL", self.before.open)}
        continued = {
            (o.series.expiry, o.right, float(to_cents(np.array([o.strike / 7]))[0])): o for o in stamped.values()
        }
        times_seven = shown = 0
        for option in options(self.world, "AAPL", now):
            namesake = stamped.get(option.local_symbol)
            seen = self.world.open_interest(option, now)
            assert seen == (None if namesake is None else self.world.open_interest(namesake, now))
            shown += seen is not None
            old = continued.get((option.series.expiry, option.right, option.strike))
            if old is None:
                continue
            before, after = self.world.open_interest(old, now), self.world.open_interest(option, next_morning)
            volume = self.world.option_quote(option, self.effective.close).volume
            assert before is not None
            assert after is not None
            assert volume is not None
            assert abs(after - 7 * before) <= volume
            times_seven += before > 0 and after == 7 * before
        assert times_seven > 50
        assert shown < 0.1 * len(stamped)

    def test_after_a_split_open_interest_again_changes_by_no_more_than_volume(self) -> None:
        session, moved = self.after, 0
        for _ in range(4):
            following = next_session(session.trade_date)
            for option in options(self.world, "AAPL", session.open):
                before = self.world.open_interest(option, session.at(MORNING))
                after = self.world.open_interest(option, following.at(MORNING))
                volume = self.world.option_quote(option, session.close).volume
                assert before is not None
                assert after is not None
                assert volume is not None
                assert abs(after - before) <= volume
                moved += after != before
            session = following
        assert moved > 1000

    def test_ids_of_the_day_before_are_known_for_one_more_day_without_a_market(self) -> None:
        now, later = self.effective.at(MORNING), self.after.at(MORNING)
        today = {o.conid for o in options(self.world, "AAPL", now)}
        replaced = [o for o in options(self.world, "AAPL", self.before.open) if o.conid not in today][::25]
        assert len(replaced) > 10
        for option in replaced:
            found = self.world.by_conid(option.conid, now)
            assert isinstance(found, Option)
            assert found.local_symbol == option.local_symbol
            assert self.world.open_interest(found, now) == self.world.open_interest(option, now)
            assert self.world.option_quote(found, self.effective.open) == NO_QUOTE
            assert self.world.previous_close(found, now) is None
            assert self.world.by_conid(option.conid, later) is None

    def test_previous_closes_of_options_are_restated(self) -> None:
        compared = 0
        for series in chain(self.world, "AAPL", self.effective.open):
            old = next((s for s in chain(self.world, "AAPL", self.before.open) if s.expiry == series.expiry), None)
            assert old is not None
            for strike in old.strikes.tolist()[::5]:
                option = series.find(float(to_cents(np.array([strike / 7]))[0]), "C")
                before = old.find(strike, "C")
                if option is None or before is None:
                    continue
                close = self.world.previous_close(option, self.effective.open)
                stood = self.world.option_quote(before, self.before.close).model
                assert close is not None
                assert stood is not None
                assert stood.price is not None
                # on the tick grid below the value, at a strike that is rounded to a cent
                assert close == pytest.approx(max(stood.price / 7, series.min_tick), abs=0.1 + 0.006)
                compared += 1
        assert compared > 50

    def test_an_action_of_another_company_changes_nothing(self) -> None:
        later = SyntheticWorld(
            [APPLE], actions=[SPLIT, CorporateAction("MSFT", "split", date(2014, 6, 9), Fraction(2))]
        )
        assert later.contract_count(self.before.open) == self.world.contract_count(self.before.open)


class TestChangedDeliverable:
    """A reverse split 1:8, as GE's of 2021-08-02: the old contracts deliver 12.5 shares under GE1."""

    before, effective = day(date(2021, 7, 30)), day(date(2021, 8, 2))
    world = SyntheticWorld(
        [UnderlyingSpec("GE", price=104.0)],
        actions=[CorporateAction("GE", "split", date(2021, 8, 2), Fraction(1, 8))],
        minis=["GE"],
    )

    def test_old_series_go_on_under_a_root_with_a_digit_and_new_ones_are_listed_around_the_new_price(self) -> None:
        old = {
            (s.expiry, s.multiplier): set(s.strikes.tolist())
            for s in chain(self.world, "GE", self.before.open)
            if s.last_trade_date > self.before.trade_date
        }
        now = self.effective.open
        classes = {
            name: {(s.expiry, s.multiplier): set(s.strikes.tolist()) for s in chain(self.world, "GE", now)
                   if s.trading_class == name}
            for name in ("GE", "GE1", "GE7", "GE8")
        }  # fmt: skip
        assert classes["GE1"] | classes["GE8"] == old
        assert {multiplier for _, multiplier in classes["GE1"]} == {100.0}
        assert {multiplier for _, multiplier in classes["GE8"]} == {10.0}
        assert set(classes["GE"]) >= set(classes["GE1"])
        price = self.world.previous_close(only(self.world, now), now)
        assert price is not None
        for strikes in classes["GE"].values():
            assert min(strikes) < 0.85 * price
            assert max(strikes) > 1.15 * price

    def test_the_price_rises_and_the_adjusted_contract_is_worth_its_old_deliverable(self) -> None:
        earlier = self.world.previous_close(only(self.world, self.before.open), self.before.open)
        now = self.effective.open
        price = self.world.previous_close(only(self.world, now), now)
        assert earlier is not None
        assert price is not None
        assert 6 < price / earlier < 10
        compared = 0
        for series in chain(self.world, "GE", now):
            share = 1 / 8 if series.trading_class in ("GE1", "GE8") else 1.0
            for strike in series.strikes.tolist()[::3]:
                call, put = series.find(strike, "C"), series.find(strike, "P")
                if call is None or put is None:
                    continue
                models = [self.world.option_quote(one, self.effective.close).model for one in (call, put)]
                # put-call parity on what is delivered; the model names the share of today
                assert models[0].price - models[1].price == pytest.approx(
                    share * models[0].underlying_price - strike, abs=1e-8
                )
                compared += 1
        assert compared > 100

    def test_an_adjusted_series_keeps_its_open_interest_and_gets_no_strikes(self) -> None:
        later = next_session(self.effective.trade_date)
        held = {
            (o.series.expiry, o.right, o.strike): self.world.open_interest(o, self.effective.at(MORNING))
            for o in options(self.world, "GE", self.before.open)
            if o.series.multiplier == 100
        }
        kept = 0
        for option in options(self.world, "GE", later.open):
            if option.series.trading_class == "GE1":
                value = self.world.open_interest(option, later.at(MORNING))
                volume = self.world.option_quote(option, self.effective.close).volume
                before = held[option.series.expiry, option.right, option.strike]
                assert value is not None
                assert volume is not None
                assert before is not None
                assert abs(value - before) <= volume
                kept += value > 0
        assert kept > 100
        months_on = day(date(2021, 12, 1))
        strikes = {s.expiry: set(s.strikes.tolist()) for s in chain(self.world, "GE", months_on.open)
                   if s.trading_class == "GE1"}  # fmt: skip
        assert strikes
        assert all({o for e, _, o in held if e == expiry} == listed for expiry, listed in strikes.items())

    def test_a_second_change_gets_the_next_digit(self) -> None:
        actions = [
            CorporateAction("GE", "split", date(2021, 8, 2), Fraction(1, 8)),
            CorporateAction("GE", "deliverable_change", date(2021, 9, 1)),
        ]
        world = SyntheticWorld([UnderlyingSpec("GE", price=104.0)], actions=actions)
        classes = {s.trading_class for s in chain(world, "GE", day(date(2021, 9, 1)).open)}
        assert classes == {"GE", "GE1", "GE2"}


def test_a_special_dividend_is_taken_off_the_price_and_off_every_strike() -> None:
    # Costco, 15 dollars, 2023-12-27: the shipped file
    actions = read_corporate_actions(SHIPPED)
    spec = UnderlyingSpec("COST", price=600.0)
    world, plain = SyntheticWorld([spec], actions=actions), SyntheticWorld([spec])
    effective = day(date(2023, 12, 27))
    before = previous_session(effective.trade_date)
    falls = [
        one.previous_close(only(one, effective.open), effective.open)
        - one.underlying_quote(only(one, before.close), before.close).last
        for one in (world, plain)
    ]
    assert falls == pytest.approx([-15.0, 0.0], abs=0.011)
    new = {s.expiry: s for s in chain(world, "COST", effective.open)}
    following = next_session(effective.trade_date)
    compared = 0
    for series in chain(world, "COST", before.open):
        if series.last_trade_date < effective.trade_date:
            continue
        assert set(np.round(series.strikes - 15.0, 2).tolist()) <= set(new[series.expiry].strikes.tolist())
        for option in list(series.options())[::9]:
            adjusted = new[series.expiry].find(round(option.strike - 15.0, 2), option.right)
            assert adjusted is not None
            held = world.open_interest(option, effective.at(MORNING))
            value = world.open_interest(adjusted, following.at(MORNING))
            volume = world.option_quote(adjusted, effective.close).volume
            assert held is not None
            assert value is not None
            assert volume is not None
            assert abs(value - held) <= volume
            compared += held > 0
    assert compared > 20


def test_a_symbol_change_keeps_the_underlyings_id_and_renames_its_options() -> None:
    world = SyntheticWorld([UnderlyingSpec("META", conid=107113386)], actions=read_corporate_actions(SHIPPED))
    old, new = day(date(2022, 6, 8)).at(time(10)), day(date(2022, 6, 9)).at(time(10))
    for now, symbol, other in ((old, "FB", "META"), (new, "META", "FB")):
        found = world.underlying(symbol, now)
        assert found is not None
        assert (found.conid, only(world, now)) == (107113386, found)
        assert world.by_conid(107113386, now) == found
        assert world.underlying(other, now) is None
        assert {series.trading_class for series in world.series(found, now)} == {symbol}
    facebook, meta = options(world, "FB", old), options(world, "META", new)
    names = {o.local_symbol: o for o in meta}
    going_on = [o for o in facebook if o.series.last_trade_date > date(2022, 6, 8)]
    same = [(o, names[o.local_symbol.replace("FB  ", "META")]) for o in going_on]
    assert len(same) > 1500
    assert all(before.conid != after.conid for before, after in same)
    tomorrow = next_session(date(2022, 6, 9)).at(MORNING)
    held = [world.open_interest(before, new) for before, _ in same]
    assert [world.open_interest(after, new) for _, after in same] == [None] * len(same)
    assert np.corrcoef(held, [world.open_interest(after, tomorrow) for _, after in same])[0, 1] > 0.9


def test_splits_compound_back_in_time_in_the_shipped_file() -> None:
    spec = UnderlyingSpec("AAPL", price=180.0)
    world, plain = SyntheticWorld([spec], actions=read_corporate_actions(SHIPPED)), SyntheticWorld([spec])
    for when, factor in (
        (date(2005, 2, 25), 56),
        (date(2014, 6, 6), 28),
        (date(2020, 8, 28), 4),
        (date(2026, 1, 2), 1),
    ):
        close = world.underlying_quote(only(world, day(when).close), day(when).close).last
        raw = plain.underlying_quote(only(plain, day(when).close), day(when).close).last
        assert close == pytest.approx(factor * raw, abs=0.005 * (factor + 1))


def written(folder: Path, *rows: str) -> Path:
    file = folder / "actions.csv"
    file.write_text("\n".join([HEADER, *rows]))
    return file


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("AAPL,merger,2026-11-23,,,,,2026-11-01T00:00:00Z,", "line 3: event_type is 'merger'"),
        ("AAPL,split,2026-13-23,7,1,,,2026-11-01T00:00:00Z,", "line 3: .*month"),
        ("AAPL,split,2026-11-23,,,,,2026-11-01T00:00:00Z,", "line 3: .*needs its date"),
        ("AAPL,split,2026-11-23,7,0,,,2026-11-01T00:00:00Z,", "line 3: .*needs its date"),
        ("AAPL,split,2026-11-23,-7,1,,,2026-11-01T00:00:00Z,", "line 3: a ratio and cash are positive"),
        ("AAPL,special_dividend,2026-11-23,,,,,2026-11-01T00:00:00Z,", "line 3: .*needs its date"),
        ("AAPL,symbol_change,2026-11-23,,,,,2026-11-01T00:00:00Z,", "line 3: .*has a new_symbol"),
        ("AAPL,split,2026-11-23,7,1,,,2026-11-01,", "line 3: .*time zone"),
        ("AAPL,split,2026-11-23,7,1", "line 3: expected 9 fields"),
    ],
)
def test_a_bad_row_is_one_line_that_names_file_and_line(tmp_path: Path, row: str, said: str) -> None:
    file = written(tmp_path, "MSFT,split,2026-11-23,2,1,,,2026-11-01T00:00:00Z,source", row)
    with pytest.raises(GatewayError, match=f"actions.csv, {said}") as caught:
        read_corporate_actions(file)
    assert "\n" not in str(caught.value)


def test_a_missing_file_or_column_and_a_date_without_a_session_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match=r"none\.csv cannot be read"):
        read_corporate_actions(tmp_path / "none.csv")
    (tmp_path / "short.csv").write_text("symbol,event_type\n")
    with pytest.raises(GatewayError, match="line 1: no column effective_date"):
        read_corporate_actions(tmp_path / "short.csv")
    actions = read_corporate_actions(written(tmp_path, "AAPL,split,2026-11-22,7,1,,,2026-11-01T00:00:00Z,a Sunday"))
    with pytest.raises(GatewayError, match="line 2: 2026-11-22 is no XNYS session"):
        SyntheticWorld([APPLE], actions=actions)
    assert SyntheticWorld([UnderlyingSpec("MSFT")], actions=actions).underlyings(), "it is no event of this world"
    with pytest.raises(GatewayError, match="FB and META are both called FB"):
        SyntheticWorld([UnderlyingSpec("FB"), UnderlyingSpec("META")], actions=read_corporate_actions(SHIPPED))
    with pytest.raises(GatewayError, match="minis: SPY is no stock"):
        SyntheticWorld([APPLE], minis=["SPY"])


def test_the_last_known_edition_counts_and_a_small_dividend_adjusts_nothing(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "AAPL,split,2026-11-23,2,1,,,2026-11-02T00:00:00Z,corrected",
        "AAPL,split,2026-11-23,7,1,,,2026-11-01T00:00:00Z,first",
        "BRK.B,special_dividend,2026-11-23,,,0.10,,2026-11-01T00:00:00Z,",
        "BRK.B,special_dividend,2026-11-24,,,0.125,,2026-11-01T00:00:00Z,",
        "GE,split,2026-11-23,3,2,,,2026-11-01T00:00:00Z,",
        "GOOG,split,2026-11-23,4,2,,,2026-11-01T00:00:00Z,",
    )
    actions = {action.symbol: action for action in read_corporate_actions(file)}
    assert [(a.symbol, a.contracts, a.changes_deliverable) for a in actions.values()] == [
        ("AAPL", 2, False),
        ("BRK B", 1, False),
        ("GE", 1, True),
        ("GOOG", 2, False),
    ]
    assert actions["BRK B"].cash == 0.125


async def test_a_client_sees_the_new_name_and_terms_from_the_date_on(
    start_gateway: StartGateway, connect: ConnectClient, tmp_path: Path
) -> None:
    file = written(
        tmp_path,
        "FB,symbol_change,2026-11-23,,,,META,2026-11-01T00:00:00Z,",
        "AAPL,split,2026-11-23,7,1,,,2026-11-01T00:00:00Z,",
    )
    symbols = (UnderlyingSpec("AAPL", price=92.0), UnderlyingSpec("META", conid=107113386))
    gateway = await start_gateway(symbols=symbols, corporate_actions=file, minis=("AAPL",))
    client = await connect(gateway)
    (facebook,) = await client.qualifyContractsAsync(Stock("FB", "SMART", "USD"))
    (before,) = await client.qualifyContractsAsync(Stock("AAPL", "SMART", "USD"))
    price = (await client.quote(before)).last
    found = await client.reqContractDetailsAsync(OptionContract("AAPL", "202612", right="C", exchange="SMART"))
    assert {one.contract.multiplier for one in found} == {"100", "10"}
    gateway.clock.set(day(date(2026, 11, 23)).at(time(10)))
    (meta,) = await client.qualifyContractsAsync(Stock("META", "SMART", "USD"))
    assert (facebook.conId, meta.conId) == (107113386, 107113386)
    assert await client.reqContractDetailsAsync(Stock("FB", "SMART", "USD")) == []
    assert client.codes() == [200]
    ticker = await client.quote(Stock(conId=before.conId, exchange="SMART"))
    assert ticker.last == pytest.approx(price / 7, rel=0.1)
    assert ticker.close == pytest.approx(price / 7, rel=0.1)
