"""A gateway on a free port and real ib_insync clients on real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from ib_insync import IB, Contract, Ticker

from tests.reference_data import reference_data
from tws_simulator import GatewayOptions, SimulatedGateway

# A Friday in the middle of a full session, 10:00 New York.
OPEN_MARKET = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)

StartGateway = Callable[..., Awaitable[SimulatedGateway]]
ConnectClient = Callable[..., Awaitable["Client"]]


def replay_file(name: str) -> Path:
    """A recorded day."""
    return reference_data("replay", name)


class Client(IB):
    """ib_insync's client, with the errors it was told and a way to wait for ticks."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[tuple[int, int, str]] = []
        self.errorEvent += lambda req_id, code, text, contract: self.errors.append((req_id, code, text))

    def codes(self) -> list[int]:
        """Codes of real errors, without the informational messages of connecting."""
        return [code for _, code, _ in self.errors if code < 2000]

    async def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        """Wait until `condition` holds; fails the test when it does not."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, f"not within {seconds} s; errors: {self.errors}"
            await asyncio.sleep(0.005)

    async def quote(self, contract: Contract, generics: str = "", market_data_type: int = 1) -> Ticker:
        """A fresh ticker with its first ticks in; the subscription is cancelled."""
        self.reqMarketDataType(market_data_type)
        ticker = self.reqMktData(contract, generics)
        await asyncio.sleep(0.06)
        # answered on the same socket, after the ticks: they have been read when this has
        await self.reqCurrentTimeAsync()
        self.cancelMktData(contract)
        return ticker


@pytest.fixture
async def start_gateway() -> AsyncIterator[StartGateway]:
    async with AsyncExitStack() as stack:

        async def start(**changes: object) -> SimulatedGateway:
            settings: dict[str, object] = {
                "port": 0,
                "at": OPEN_MARKET,
                "speed": 0,
                "latency_ms": (1, 5),
                "lines": 1000,
                "messages_per_second": 2000,
            }
            return await stack.enter_async_context(SimulatedGateway(GatewayOptions.model_validate(settings | changes)))

        yield start


@pytest.fixture
async def connect() -> AsyncIterator[ConnectClient]:
    clients: list[Client] = []
    numbers = count(1)

    async def connect_to(gateway: SimulatedGateway, client_id: int | None = None, version: int | None = None) -> Client:
        client = Client()
        clients.append(client)
        client.client.MaxRequests = 0
        if version is not None:
            client.client.MaxClientVersion = version
        await client.connectAsync("127.0.0.1", gateway.port, next(numbers) if client_id is None else client_id)
        return client

    yield connect_to
    for client in clients:
        client.disconnect()
