"""Historical daily bars and head time stamps. No two requests are alike: IB refuses a repetition within 15 seconds."""

from datetime import UTC, date, datetime

import pytest
from conftest import Connect
from driver import Bar, Terms
from gateway import Gateway

STOCK = Terms("AAPL", "STK")
OTHER = Terms("MSFT", "STK")
# 2026-11-20 is a Friday of a week without holidays.
LAST_SESSIONS = [date(2026, 11, day) for day in (16, 17, 18, 19, 20)]


def check(bars: list[Bar]) -> None:
    for bar in bars:
        assert 0 < bar.low <= min(bar.open, bar.close)
        assert max(bar.open, bar.close) <= bar.high


@pytest.mark.parametrize(("what", "traded"), [("TRADES", True), ("MIDPOINT", False)])
def test_daily_bars(market: Gateway, connect: Connect, what: str, traded: bool) -> None:
    """Volume and count are of trades; for a midpoint they are -1 (TWS API, historical bars)."""
    bars = connect(market).bars(STOCK, what, duration="5 D").rows
    assert [bar.at for bar in bars] == LAST_SESSIONS
    check(bars)
    assert all(bar.volume > 0 if traded else bar.volume <= 0 for bar in bars)


def test_daily_bars_skip_holidays_and_weekends(market: Gateway, connect: Connect) -> None:
    """2025-11-27 was Thanksgiving, the Friday after it a session until 13:00."""
    bars = connect(market).bars(STOCK, "TRADES", end="20251202-22:00:00", duration="4 D").rows
    assert [bar.at for bar in bars] == [date(2025, 11, 26), date(2025, 11, 28), date(2025, 12, 1), date(2025, 12, 2)]


def test_daily_bars_of_a_year(market: Gateway, connect: Connect) -> None:
    """2024 had 252 sessions (NYSE)."""
    bars = connect(market).bars(OTHER, "MIDPOINT", end="20241231-22:00:00", duration="1 Y").rows
    days = [bar.at for bar in bars if isinstance(bar.at, date) and bar.at.year == 2024]
    assert len(days) == 252
    assert days == sorted(days)
    check(bars)


def test_daily_bars_of_an_option(market: Gateway, connect: Connect) -> None:
    client = connect(market)
    found = client.contract_details(Terms("AAPL", "OPT", "20261218", right="C", trading_class="AAPL")).rows
    contract = found[len(found) // 2].contract
    bars = client.bars(contract, "MIDPOINT", duration="5 D").rows
    assert [bar.at for bar in bars] == LAST_SESSIONS
    check(bars)


def test_the_head_time_stamp_is_where_bars_begin(market: Gateway, connect: Connect) -> None:
    answer = connect(market).head_timestamp(STOCK)
    (first,) = answer.rows
    assert datetime(1980, 1, 1, tzinfo=UTC) < first.astimezone(UTC) < datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("what", "duration", "size"),
    [("TRADES", "5 D", "7 mins"), ("NOTHING", "5 D", "1 day"), ("TRADES", "5 fortnights", "1 day")],
    ids=["bar size", "kind", "duration"],
)
def test_a_request_that_makes_no_sense_is_reported_as_321(
    market: Gateway, connect: Connect, what: str, duration: str, size: str
) -> None:
    client = connect(market)
    answer = client.bars(STOCK, what, duration=duration, size=size)
    assert answer.rows == []
    assert client.codes_of(answer.req_id) == [321]


def test_where_there_is_nothing_162_is_reported(market: Gateway, connect: Connect) -> None:
    client = connect(market)
    answer = client.bars(STOCK, "TRADES", end="19700105-22:00:00", duration="3 D")
    assert answer.rows == []
    (report,) = client.reports_of(answer.req_id)
    assert report.code == 162
    assert report.text.startswith("Historical Market Data Service error message:")


def test_history_of_an_unknown_contract_is_reported_as_200(market: Gateway, connect: Connect) -> None:
    client = connect(market)
    answer = client.bars(Terms("NOSUCH", "STK"), "TRADES", duration="2 D")
    assert answer.rows == []
    assert client.codes_of(answer.req_id) == [200]
