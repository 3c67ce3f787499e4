"""The one place that imports IB's client library: ib_insync, or ib_async where that is installed instead.

Above it they behave alike: where ib_async changes what IB said, it is undone here (ADR 0010).
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ingest.contracts import Underlying
from ingest.errors import UsageError

LIBRARIES = ("ib_insync", "ib_async")


def installed_library(is_there: Callable[[str], object] = find_spec) -> str:
    """The library of this environment. Raises UsageError when there is none, or both."""
    found = [name for name in LIBRARIES if is_there(name)]
    if not found:
        raise UsageError(
            "neither ib_insync nor ib_async is installed: "
            "`make setup` makes an environment with the first, `make setup CLIENT=ib_async` one with the second"
        )
    if len(found) > 1:
        raise UsageError(
            "ib_insync and ib_async are in one environment, where each overwrites the module eventkit of the other: "
            "make a new one by `make setup` or `make setup CLIENT=ib_async`"
        )
    return found[0]


@contextmanager
def some_event_loop() -> Iterator[None]:
    """Give a thread that has no event loop one for the length of the block.

    ib_insync's `eventkit` asks for the loop of the thread that imports it, and Prefect imports the flows of `serve` in
    a thread of its own. Chainlake's code runs in `asyncio.run`, and needs no loop of an import.
    """
    if threading.current_thread() is threading.main_thread():
        yield
        return
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()


LIBRARY = installed_library()

# mypy reads the first branch only: the names are used alike.
if TYPE_CHECKING or LIBRARY == "ib_insync":
    with some_event_loop():
        from ib_insync import IB, Contract, Option, OptionComputation, Ticker

    def new_client() -> IB:
        """A client that is not connected yet, without the library's own throttle: ours is the only one."""
        return _unthrottled(IB())

else:
    from ib_async import IB, Contract, Option, OptionComputation, Ticker
    from ib_async.client import Client
    from ib_async.wrapper import Wrapper

    REQUEST_INVALID = 321
    SIDES = {1: "bid", 66: "bid", 2: "ask", 67: "ask", 4: "last", 68: "last"}
    SIDES_OF_SIZES = {0: "bid", 69: "bid", 3: "ask", 70: "ask"}

    class FaithfulWrapper(Wrapper):
        """Leaves prices as IB sent them, and ends a request that IB refused."""

        def priceSizeTick(self, reqId: int, tickType: int, price: float, size: float) -> None:  # noqa: N802, N803
            """With a size of 0 ib_async replaces the price of a side by -1."""
            super().priceSizeTick(reqId, tickType, price, size)
            if size == 0 and tickType in SIDES and (ticker := self.reqId2Ticker.get(reqId)):
                setattr(ticker, SIDES[tickType], price)

        def tickSize(self, reqId: int, tickType: int, size: float) -> None:  # noqa: N802, N803
            """As in `priceSizeTick`; and the price would not come again with the next size."""
            side, ticker = SIDES_OF_SIZES.get(tickType), self.reqId2Ticker.get(reqId)
            if size or side is None or ticker is None:
                super().tickSize(reqId, tickType, size)
                return
            price = getattr(ticker, side)
            super().tickSize(reqId, tickType, size)
            setattr(ticker, side, price)

        def error(self, reqId: int, errorCode: int, *rest: str) -> None:  # noqa: N803
            """To ib_async error 321 is a warning, as it may be of an order: whoever asked would wait for a time-out."""
            super().error(reqId, errorCode, *rest)
            if errorCode == REQUEST_INVALID and reqId in self._futures:
                self._endReq(reqId)

    def new_client() -> IB:
        """A client that is not connected yet, without the library's own throttle: ours is the only one."""
        ib = IB()
        ib.wrapper = FaithfulWrapper(ib)
        ib.client = Client(ib.wrapper)
        ib.client.apiEnd += ib.disconnectedEvent
        return _unthrottled(ib)


def _unthrottled(ib: IB) -> IB:
    ib.client.MaxRequests = 0
    return ib


def ib_contract(underlying: Underlying) -> Contract:
    """The contract to ask IB for, by its id where that is known, else by its terms."""
    return Contract(
        conId=underlying.conid or 0,
        symbol=underlying.symbol,
        secType=underlying.sec_type,
        exchange=underlying.exchange,
        currency="USD",
    )


def request_market_data(
    ib: IB, contract: Contract, generic_ticks: str, *, snapshot: bool
) -> tuple[int, Ticker, "asyncio.Future[object] | None"]:
    """Ask for market data: the request's id, its ticker, and for a snapshot the future that is done at its end.

    The ticker is a new one. The libraries' own `reqMktData` hands out the old ticker, old quotes included, for a
    contract that was asked for before: ib_insync for the same object, ib_async for the same conid. It belongs to this
    request alone until `evict`.
    """
    wrapper, request_id = ib.wrapper, ib.client.getReqId()
    ended = wrapper.startReq(request_id, contract) if snapshot else None
    ticker = wrapper.reqId2Ticker[request_id] = Ticker(contract=contract)
    wrapper._reqId2Contract[request_id] = contract
    ib.client.reqMktData(request_id, contract, generic_ticks, snapshot, False, [])
    return request_id, ticker, ended


def evict(ib: IB, request_id: int) -> None:
    """Forget a request for market data, and what arrived for it: the libraries never do."""
    wrapper = ib.wrapper
    for kept in (wrapper.reqId2Ticker, wrapper._reqId2Contract, wrapper._futures, wrapper._results):
        kept.pop(request_id, None)


# They log every tick that arrives after a cancel, and every error that is routed here by its request.
for _part in ("wrapper", "client", "ib"):
    logging.getLogger(f"{LIBRARY}.{_part}").setLevel(logging.CRITICAL)

__all__ = [
    "IB",
    "LIBRARY",
    "Contract",
    "Option",
    "OptionComputation",
    "Ticker",
    "evict",
    "ib_contract",
    "installed_library",
    "new_client",
    "request_market_data",
]
