"""Every kind and size of historical bars, and IB's pacing of the requests for them."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from conftest import GENEROUS, OPEN, STANDING, Connect
from driver import SECONDS, TEXT, Bar, Terms
from gateway import Gateway

STOCK = Terms("AAPL", "STK")
OTHER = Terms("MSFT", "STK")
CALL = Terms("AAPL", "OPT", "20261218", 100, "C")
SESSION_OPEN = datetime(2026, 11, 19, 14, 30, tzinfo=UTC)
LAST_SECOND = "20261119-21:00:00"
DAY_OVER = "2026-11-20T21:30:00Z"


@pytest.fixture(scope="module")
def history_gateway() -> Iterator[Gateway]:
    """A gateway whose limits of history the tests below share: no kind of a contract is asked for six times."""
    with Gateway("--symbols", "AAPL,MSFT", "--at", OPEN, *STANDING, *GENEROUS) as gateway:
        yield gateway


@pytest.fixture
def paced() -> Iterator[Gateway]:
    """A gateway that nobody has asked for history yet."""
    with Gateway("--symbols", "AAPL,MSFT", "--at", OPEN, *STANDING, *GENEROUS) as gateway:
        yield gateway


# -- kinds: a day of two quotes, of which every bar can be worked out --------------------------------------------------


def only(bars: list[Bar]) -> tuple[float, ...]:
    (bar,) = bars
    assert bar.at == date(2026, 11, 20)
    return bar.open, bar.high, bar.low, bar.close


def test_trades(recorded: Gateway, connect: Connect) -> None:
    """150 contracts at 3.30, then 250 more at 4.10."""
    recorded.set_clock(DAY_OVER)
    bars = connect(recorded).bars(CALL, "TRADES", duration="1 D").rows
    assert only(bars) == (3.3, 4.1, 3.3, 4.1)
    assert bars[0].volume == 400
    assert bars[0].average == pytest.approx((150 * 3.3 + 250 * 4.1) / 400, abs=0.001)


@pytest.mark.parametrize(
    ("what", "prices"),
    [("MIDPOINT", (3.3, 4.1, 3.3, 4.1)), ("BID", (3.2, 4.0, 3.2, 4.0)), ("ASK", (3.4, 4.2, 3.4, 4.2))],
)
def test_quotes(recorded: Gateway, connect: Connect, what: str, prices: tuple[float, ...]) -> None:
    recorded.set_clock(DAY_OVER)
    bars = connect(recorded).bars(CALL, what, duration="1 D").rows
    assert only(bars) == pytest.approx(prices)
    assert (bars[0].volume, bars[0].trades) == (-1, -1)


def test_bid_ask_has_averages_over_time_and_the_extremes(recorded: Gateway, connect: Connect) -> None:
    """Open: average bid, high: highest ask, low: lowest bid, close: average ask (TWS API, historical bar data).

    The first quote stands for 329 minutes, from 09:31 to 15:00, the second for 60.
    """
    recorded.set_clock(DAY_OVER)
    bars = connect(recorded).bars(CALL, "BID_ASK", duration="1 D").rows
    bid, ask = (329 * 3.2 + 60 * 4.0) / 389, (329 * 3.4 + 60 * 4.2) / 389
    assert only(bars) == pytest.approx((bid, 4.2, 3.2, ask), abs=0.005)


@pytest.mark.parametrize("what", ["OPTION_IMPLIED_VOLATILITY", "HISTORICAL_VOLATILITY"])
def test_volatilities_of_a_stock(history_gateway: Gateway, connect: Connect, what: str) -> None:
    bars = connect(history_gateway).bars(STOCK, what, duration="3 D").rows
    assert [bar.at for bar in bars] == [date(2026, 11, day) for day in (18, 19, 20)]
    assert all(0.01 < bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high < 3 for bar in bars)


def test_an_option_has_no_history_of_volatility(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    answer = client.bars(CALL, "OPTION_IMPLIED_VOLATILITY", duration="2 D")
    assert (answer.rows, client.codes_of(answer.req_id)) == ([], [162])


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "minutes", "count"), [("1 min", 1, 390), ("5 mins", 5, 78), ("30 mins", 30, 13)], ids=str
)
def test_bars_within_a_session(history_gateway: Gateway, connect: Connect, size: str, minutes: int, count: int) -> None:
    """A session of 390 minutes from 09:30 New York on, without a gap."""
    bars = connect(history_gateway).bars(STOCK, "TRADES", end=LAST_SECOND, duration="1 D", size=size).rows
    assert [bar.at for bar in bars] == [SESSION_OPEN + timedelta(minutes=minutes * k) for k in range(count)]
    assert all(0 < bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in bars)


def test_the_first_hourly_bar_has_half_an_hour(history_gateway: Gateway, connect: Connect) -> None:
    bars = connect(history_gateway).bars(STOCK, "MIDPOINT", end=LAST_SECOND, duration="1 D", size="1 hour").rows
    hours = [datetime(2026, 11, 19, hour, tzinfo=UTC) for hour in range(15, 21)]
    assert [bar.at for bar in bars] == [SESSION_OPEN, *hours]


def test_bars_of_an_early_close_end_with_it(history_gateway: Gateway, connect: Connect) -> None:
    """2025-11-28, the day after Thanksgiving: 09:30 to 13:00."""
    client = connect(history_gateway)
    bars = client.bars(STOCK, "TRADES", end="20251128-22:00:00", duration="1 D", size="30 mins").rows
    first = datetime(2025, 11, 28, 14, 30, tzinfo=UTC)
    assert [bar.at for bar in bars] == [first + timedelta(minutes=30 * k) for k in range(7)]


def test_bars_of_half_a_minute_for_half_an_hour(history_gateway: Gateway, connect: Connect) -> None:
    client = connect(history_gateway)
    bars = client.bars(STOCK, "BID_ASK", end=LAST_SECOND, duration="1800 S", size="30 secs").rows
    last = datetime(2026, 11, 19, 20, 30, tzinfo=UTC)
    assert [bar.at for bar in bars] == [last + timedelta(seconds=30 * k) for k in range(60)]


def test_instants_are_the_same_as_text_and_as_seconds(history_gateway: Gateway, connect: Connect) -> None:
    client = connect(history_gateway)
    seconds, texts = (
        client.bars(OTHER, "TRADES", end=LAST_SECOND, duration="1 D", size="2 hours", date_format=how).rows
        for how in (SECONDS, TEXT)
    )
    assert len(seconds) > 1
    assert seconds == texts


# -- pacing ------------------------------------------------------------------------------------------------------------


def test_the_same_request_within_fifteen_seconds_is_reported_as_162(history_gateway: Gateway, connect: Connect) -> None:
    client = connect(history_gateway)
    assert client.bars(STOCK, "BID", duration="2 D").rows
    again = client.bars(STOCK, "BID", duration="2 D")
    assert again.rows == []
    (report,) = client.reports_of(again.req_id)
    assert report.code == 162
    assert "pacing violation" in report.text
    assert client.bars(STOCK, "BID", duration="3 D").rows


def test_the_sixth_request_for_a_contract_within_two_seconds_is_reported_as_162(
    history_gateway: Gateway, connect: Connect
) -> None:
    client = connect(history_gateway)
    answers = [client.ask_bars(STOCK, "ASK", end="", duration=f"{days} D", size="1 day") for days in range(1, 7)]
    client.wait(lambda: all(answer.done or client.reports_of(answer.req_id) for answer in answers))
    assert [client.codes_of(answer.req_id) for answer in answers] == [[], [], [], [], [], [162]]


def test_fifty_requests_may_be_open_and_sixty_made_in_ten_minutes(paced: Gateway, connect: Connect) -> None:
    client = connect(paced)
    # the client's own throttle would spread them
    client.unthrottle()
    found = client.contract_details(Terms("AAPL", "OPT", "202612", right="C")).rows
    contracts = [row.contract for row in found[:61]]
    assert len({contract.conid for contract in contracts}) == 61

    def ask(some: list[Terms]) -> list[int]:
        answers = [client.ask_bars(one, "ASK", end="", duration="1 D", size="1 day") for one in some]
        client.wait(lambda: all(answer.done or client.reports_of(answer.req_id) for answer in answers))
        return [code for answer in answers for code in client.codes_of(answer.req_id)]

    assert ask(contracts[:51]) == [322]
    assert ask(contracts[50:60]) == []
    assert ask(contracts[60:]) == [162]
