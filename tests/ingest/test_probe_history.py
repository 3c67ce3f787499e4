"""The probe of historical bars: which contracts it samples, and what it reports of a real gateway's answers."""

from collections.abc import AsyncIterator
from datetime import date, time
from pathlib import Path

import pytest

from ingest.broker import BrokerSession
from ingest.calendar.sessions import session_on
from ingest.capacity.probe_history import QUESTIONS, last_friday, probe_history, sample
from ingest.context import StepContext
from ingest.contracts import OptionContract, Underlying, contract_from_row
from ingest.discovery.discover import discover
from ingest.settings import Settings, load
from lake.reads import reader
from lake.store import Lake
from tws_simulator import GatewayOptions, SimulatedGateway
from tws_simulator.worlds.instruments import Option

FRIDAY = session_on(date(2026, 11, 13))
TODAY = session_on(date(2026, 11, 17))
assert FRIDAY is not None
assert TODAY is not None


@pytest.mark.parametrize(
    ("today", "friday"),
    [
        (date(2026, 11, 16), date(2026, 11, 13)),
        (date(2026, 11, 20), date(2026, 11, 13)),  # a Friday asks for the one before
        (date(2026, 11, 21), date(2026, 11, 20)),
        (date(2025, 4, 21), date(2025, 4, 17)),  # Good Friday: the session before it
    ],
)
def test_the_last_friday_is_the_last_one_with_a_session(today: date, friday: date) -> None:
    assert last_friday(today).trade_date == friday


def contract(
    conid: int, underlying: str, expiry: date, strike: float, right: str, multiplier: float = 100
) -> OptionContract:
    return OptionContract(
        conid, underlying, f"{underlying}{conid}", underlying, expiry, expiry, right, strike, multiplier, "SMART"
    )


def test_the_sample_takes_the_pair_nearest_the_money_of_each_underlying_in_turn() -> None:
    soon, later, gone = date(2026, 12, 18), date(2027, 1, 15), date(2026, 11, 13)
    chain = [
        contract(100 * u + 10 * e + 2 * s + r, name, expiry, strike, right, 10 if e == 3 else 100)
        for u, name in enumerate("AB")
        for e, expiry in enumerate((soon, later, gone, soon))
        for s, strike in enumerate((90.0, 100.0, 110.0))
        for r, right in enumerate("CP")
    ]
    chosen = sample(chain, {"A": 101.0, "B": 109.0}, date(2026, 11, 17), 6)
    assert [(c.underlying, c.expiry, c.strike, c.right) for c in chosen] == [
        ("A", soon, 100.0, "C"),
        ("A", soon, 100.0, "P"),
        ("B", soon, 110.0, "C"),
        ("B", soon, 110.0, "P"),
        ("A", later, 100.0, "C"),
        ("A", later, 100.0, "P"),
    ]
    assert sample([c for c in chain if c.expiry == gone], {}, date(2026, 11, 17), 6) == []


@pytest.fixture
async def gateway() -> AsyncIterator[SimulatedGateway]:
    options = GatewayOptions(
        port=0,
        control_port=0,
        at=FRIDAY.at(time(9, 25)),
        speed=0,
        lines=400,
        messages_per_second=2000,
        latency_ms=(0, 5),
        history_latency_ms=(0, 20),
    )
    async with SimulatedGateway(options) as gateway:
        yield gateway


@pytest.fixture
def settings(gateway: SimulatedGateway, tmp_path: Path) -> Settings:
    return load(
        ib={"port": gateway.port, "lines": 400, "messages_per_second": 2000.0},
        lake={"root": str(tmp_path / "lake")},
        state={"dir": tmp_path / "state"},
        filters={"moneyness_pct": 0.05, "expiry_months_ahead": 3},
    )


async def test_it_reports_the_bars_and_the_refusals_and_leaves_the_lake_alone(
    gateway: SimulatedGateway, settings: Settings
) -> None:
    async with BrokerSession.connect(settings.ib) as session:
        lake = Lake.create(settings.lake.root, session.origin, session.clock.now())
        await discover(StepContext(lake, FRIDAY, [Underlying("AAPL")], settings, "manual"), session)
        await session.step_clock(TODAY.at(time(12)))
        with reader(lake) as reads:
            frozen = [contract_from_row(row) for row in reads.contracts(FRIDAY.trade_date)]
            prices = {"AAPL": reads.contracts(FRIDAY.trade_date)[0]["reference_price"]}
        versions = {name: lake.version(name) for name in lake.table_names()}
        chosen = sample(frozen, prices, TODAY.trade_date, 2)
        answers = await probe_history(session, chosen, settings)
        assert {name: lake.version(name) for name in lake.table_names()} == versions
    assert [(answer.contract, answer.question) for answer in answers] == [(c, q) for c in chosen for q in QUESTIONS]
    for contract in chosen:
        option = gateway.world.by_conid(contract.conid, gateway.clock.now())
        assert isinstance(option, Option)
        daily, half_hours, interest = [answer for answer in answers if answer.contract == contract]
        begins = max(gateway.world.history_from(option), date(2026, 10, 18))
        assert 0 < daily.bars <= 22
        assert isinstance(daily.first, date)
        assert daily.first >= begins
        assert isinstance(daily.last, date)
        assert daily.last <= TODAY.trade_date
        assert daily.volume > 0
        assert daily.error is None
        # Half an hour of bars on at most five sessions, the last of which stands at noon.
        assert 0 < half_hours.bars <= 4 * 13 + 5
        # IB has no bars of open interest for options, and says so.
        assert interest.bars == 0
        assert interest.error is not None
        assert interest.error.code == 321
