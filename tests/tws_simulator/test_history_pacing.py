"""Limits on historical requests: at, under and over each, on a clock of the test; and as a client meets them."""

import asyncio

import pytest
from ib_insync import Stock

from tests.tws_simulator.conftest import Client, ConnectClient, StartGateway
from tws_simulator.history.pacing import HistoryPacing, PacingRule

PACING = "Historical Market Data Service error message:Historical data request pacing violation"
STOCK = Stock("AAPL", "SMART", "USD")


class Wall:
    """A wall clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Account:
    """Asks for bars of one minute, each request another one unless it is named."""

    def __init__(self, rule: PacingRule = "all") -> None:
        self.wall = Wall()
        self._pacing = HistoryPacing(rule, self.wall)
        self._count = 0

    def ask(self, name: str = "", series: str = "", *, weight: int = 1, bar_seconds: int = 60) -> bool:
        self._count += 1
        unlike = str(self._count)
        return self._pacing.admit(name or unlike, series or unlike, weight=weight, bar_seconds=bar_seconds)


def test_sixty_requests_in_ten_minutes() -> None:
    account = Account()
    for _ in range(60):
        assert account.ask()
        account.wall.seconds += 1
    assert not account.ask()
    account.wall.seconds = 1000 + 599.9
    assert not account.ask()
    # the first has left the ten minutes; what was refused had not counted
    account.wall.seconds = 1000 + 600
    assert account.ask()
    assert not account.ask()
    account.wall.seconds = 1000 + 601
    assert account.ask()


def test_the_same_request_not_within_fifteen_seconds() -> None:
    account = Account()
    assert account.ask("one")
    account.wall.seconds += 14.9
    assert not account.ask("one")
    assert account.ask("another")
    account.wall.seconds += 0.1
    assert account.ask("one")
    assert not account.ask("one")


def test_not_six_within_two_seconds_for_one_contract_exchange_and_kind() -> None:
    account = Account()
    assert [account.ask(series="AAPL trades") for _ in range(6)] == [True] * 5 + [False]
    assert account.ask(series="AAPL bids")
    account.wall.seconds += 1.9
    assert not account.ask(series="AAPL trades")
    account.wall.seconds += 0.1
    assert [account.ask(series="AAPL trades") for _ in range(6)] == [True] * 5 + [False]


def test_bids_and_asks_count_twice() -> None:
    account = Account()
    # 2 and 4 in two seconds, the third would be the sixth
    assert [account.ask(series="AAPL", weight=2) for _ in range(3)] == [True, True, False]
    assert [account.ask(weight=2) for _ in range(29)] == [True] * 28 + [False]
    account = Account()
    assert all(account.ask() for _ in range(59))
    assert not account.ask(weight=2)
    assert account.ask()


@pytest.mark.parametrize(
    ("rule", "bar_seconds", "paced"),
    [("all", 86_400, True), ("small", 30, True), ("small", 60, False), ("off", 1, False)],
)
def test_the_rule_says_which_bars_are_paced(rule: PacingRule, bar_seconds: int, paced: bool) -> None:
    account = Account(rule)
    answers = [account.ask("one", bar_seconds=bar_seconds) for _ in range(2)]
    assert answers == [True, not paced]
    assert all(account.ask(bar_seconds=bar_seconds) for _ in range(59))
    assert account.ask(bar_seconds=bar_seconds) is not paced


# -- through a client


async def many(client: Client, count: int, what: str = "TRADES", first: int = 1) -> list[int]:
    """Ask for bars of `count` durations at once; how many bars came for each."""
    answers = [
        client.reqHistoricalDataAsync(STOCK, "", f"{first + number} D", "1 day", what, True) for number in range(count)
    ]
    return [len(bars) for bars in await asyncio.gather(*answers)]


def pacing_errors(client: Client) -> int:
    return sum((code, text) == (162, PACING) for _, code, text in client.errors)


async def test_a_client_is_told_of_pacing(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(history_latency_ms=(0, 0))
    client, other = await connect(gateway), await connect(gateway)
    assert await many(client, 5) == [1, 2, 3, 4, 5]
    # the sixth for one contract, exchange and kind; the account has one count for all its clients
    assert await many(other, 1, first=6) == [0]
    assert pacing_errors(other) == 1
    assert await many(client, 2, "MIDPOINT") == [1, 2]
    assert await many(client, 1, "MIDPOINT") == [0]
    assert await many(client, 3, "BID_ASK") == [1, 2, 0]
    assert pacing_errors(client) == 2
    assert client.codes() == [162, 162]


async def test_pacing_can_be_for_small_bars_only(start_gateway: StartGateway, connect: ConnectClient) -> None:
    client = await connect(await start_gateway(history_latency_ms=(0, 0), history_pacing="small"))
    assert await many(client, 40) + await many(client, 21, first=41) == list(range(1, 62))
    small = [await client.reqHistoricalDataAsync(STOCK, "", "600 S", "30 secs", "TRADES", True) for _ in range(2)]
    assert [len(bars) for bars in small] == [20, 0]
    assert (client.codes(), pacing_errors(client)) == ([162], 1)


async def test_fifty_requests_may_be_open(start_gateway: StartGateway, connect: ConnectClient) -> None:
    gateway = await start_gateway(history_latency_ms=(60_000, 60_000), history_pacing="off")
    client, other = await connect(gateway), await connect(gateway)
    history = gateway._state.history
    waiting = [asyncio.ensure_future(many(client, 50))]
    await client.until(lambda: history.open == 50)
    waiting.append(asyncio.ensure_future(many(other, 1)))
    await other.until(lambda: bool(other.codes()))
    assert other.errors[-1][1:] == (
        322,
        "Error processing request.-'sim' : cause - Only 50 simultaneous API historical data requests allowed.",
    )
    assert not client.codes()
    # one cancel makes room for one
    first = min(client.wrapper._results)
    client.client.cancelHistoricalData(first)
    await client.until(lambda: bool(client.codes()))
    assert client.errors[-1] == (
        first,
        162,
        f"Historical Market Data Service error message:API historical data query cancelled: {first}",
    )
    client.client.cancelHistoricalData(first)
    await client.until(lambda: 366 in client.codes())
    waiting.append(asyncio.ensure_future(many(client, 2, "MIDPOINT")))
    await client.until(lambda: 322 in client.codes())
    assert client.codes() == [162, 366, 322]
    # a client that has gone holds nothing
    client.disconnect()
    await other.until(lambda: history.open == 0)
    waiting.append(asyncio.ensure_future(many(other, 50)))
    await other.until(lambda: history.open == 50)
    assert other.codes() == [322]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    other.disconnect()
    for _ in range(100):
        await asyncio.sleep(0.01 if history.open else 0)
    assert history.open == 0
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("history-")]
