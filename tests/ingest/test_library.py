"""Whichever client library is installed, what IB said arrives alike (`make test-ib-async` runs this by the other)."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.broker import BrokerSession, RequestError
from ingest.broker.library import LIBRARIES, LIBRARY, Ticker, installed_library, new_client
from ingest.broker.lookup import Lookup
from ingest.errors import UsageError
from ingest.settings import PROJECT
from tests.ingest import storm

OTHER = next(name for name in LIBRARIES if name != LIBRARY)
REQUEST = "7"


def price(tick: int, value: float, size: int) -> list[str]:
    """Message 1: a price with its size."""
    return ["1", "6", REQUEST, str(tick), str(value), str(size), "0"]


def size(tick: int, value: int) -> list[str]:
    """Message 2: a size."""
    return ["2", "6", REQUEST, str(tick), str(value)]


@pytest.mark.parametrize(
    ("messages", "bid", "ask"),
    [
        ([price(1, 2.5, 3), price(2, 2.6, 4)], (2.5, 3), (2.6, 4)),
        ([price(1, 2.5, 0), price(2, 2.6, 0)], (2.5, 0), (2.6, 0)),
        ([price(66, 2.5, 0), price(67, 2.6, 0)], (2.5, 0), (2.6, 0)),
        # IB sends a price once: the size that comes back belongs to it
        ([price(1, 2.5, 3), size(0, 0), price(2, 2.6, 4), size(3, 0)], (2.5, 0), (2.6, 0)),
        ([price(1, 2.5, 3), size(0, 0), size(0, 9), price(2, 2.6, 4), size(3, 0), size(3, 8)], (2.5, 9), (2.6, 8)),
        ([price(1, -1.0, 0), price(2, 0.05, 40)], (-1.0, 0), (0.05, 40)),
    ],
)
def test_prices_and_sizes_are_those_that_ib_sent(
    messages: list[list[str]], bid: tuple[float, int], ask: tuple[float, int]
) -> None:
    ib = new_client()
    ticker = ib.wrapper.reqId2Ticker[int(REQUEST)] = Ticker()
    for message in messages:
        ib.client.decoder.interpret(message)
    assert ((ticker.bid, ticker.bidSize), (ticker.ask, ticker.askSize)) == (bid, ask)


async def test_each_request_has_a_ticker_of_its_own_that_ends_with_it() -> None:
    async with storm.gateway() as gateway, BrokerSession.connect(storm.settings_for(gateway).ib) as session:
        (contract,) = storm.contracts(gateway, 1)
        first, second = session.subscribe_option(contract, "101"), session.subscribe_option(contract, "101")
        async with asyncio.timeout(5):
            while not (first.quote().has_market and second.quote().has_market):
                await asyncio.sleep(0.01)
        assert first.ticker is not second.ticker
        session.cancel(first)
        session.cancel(second)
        again = session.subscribe_option(contract, "101")
        assert (again.quote().bid_seen, again.quote().ask_seen) == (False, False)
        assert list(session._ib.wrapper.reqId2Ticker) == [again.request_id]


async def test_a_request_that_ib_refuses_as_invalid_is_answered_at_once() -> None:
    async with storm.gateway() as gateway, BrokerSession.connect(storm.settings_for(gateway).ib) as session:
        (contract,) = storm.contracts(gateway, 1)
        async with asyncio.timeout(5):
            answer = await Lookup(session).bars(contract, "NONSENSE", "1 day", "5 D", timeout_s=60)
        assert isinstance(answer, RequestError)
        assert answer.code == 321


@pytest.mark.parametrize("installed", [(), LIBRARIES])
def test_an_environment_with_neither_library_or_with_both_is_refused_in_one_line(installed: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="make setup CLIENT=ib_async") as refused:
        installed_library(lambda name: name in installed or None)
    assert "\n" not in str(refused.value)


def test_the_one_library_that_there_is_is_taken() -> None:
    assert installed_library(lambda name: name == "ib_insync" or None) == "ib_insync"
    assert installed_library(lambda name: name == "ib_async" or None) == "ib_async"
    assert LIBRARY in sys.modules
    assert OTHER not in sys.modules


def test_the_command_line_refuses_an_environment_with_both(tmp_path: Path) -> None:
    (tmp_path / OTHER).mkdir()
    (tmp_path / OTHER / "__init__.py").touch()
    paths = os.pathsep.join((str(tmp_path), str(PROJECT)))
    run = subprocess.run(
        [sys.executable, "-m", "chainlake.cli", "--help"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert len(run.stderr.splitlines()) == 1
    assert run.stderr.startswith("chainlake: ib_insync and ib_async are in one environment")


def test_it_can_be_imported_in_a_thread_without_an_event_loop() -> None:
    """As Prefect imports the flows of `chainlake serve`; in a process of its own, as a module is imported once."""
    code = """
import threading
thread = threading.Thread(target=lambda: __import__("ingest.broker.library"))
thread.start()
thread.join()
import sys
assert sys.modules["ingest.broker.library"].new_client()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=PROJECT)
    assert (done.returncode, done.stderr) == (0, "")
