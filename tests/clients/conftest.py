"""Gateways for the session, clients for each test."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from driver import PATIENCE, Client, NotConnected
from drivers import installed, new_client
from gateway import Gateway, parquet_of

# A Friday with a full session, 09:30 to 16:00 New York, which is 14:30 to 21:00 UTC. The clock stands still.
OPEN = "2026-11-20T15:00:00Z"
RECORDED_OPEN = "2026-11-20T14:45:00Z"
STANDING = ("--speed", "0", "--latency", "5-40")
# More than any test needs: what is tested there is not the limits.
GENEROUS = ("--lines", "2000", "--messages-per-second", "4000")


def pytest_report_header() -> str:
    """Name the client under test."""
    return f"client: {installed()}"


@pytest.fixture(scope="session")
def market_gateway() -> Iterator[Gateway]:
    with Gateway("--symbols", "AAPL,MSFT,SPX", "--minis", "AAPL", "--at", OPEN, *STANDING, *GENEROUS) as gateway:
        yield gateway


@pytest.fixture
def market(market_gateway: Gateway) -> Gateway:
    """A synthetic market of two stocks and an index, at 10:00 of an ordinary session."""
    market_gateway.set_clock(OPEN)
    return market_gateway


@pytest.fixture(scope="session")
def recorded_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    day = parquet_of(Path(__file__).with_name("recorded_day.csv"), tmp_path_factory.mktemp("days"))
    with Gateway("--replay", str(day), "--previous-close", "99.5", "--at", RECORDED_OPEN, *STANDING, *GENEROUS) as one:
        yield one


@pytest.fixture
def recorded(recorded_gateway: Gateway) -> Gateway:
    """The day written down in recorded_day.csv, at 09:45."""
    recorded_gateway.set_clock(RECORDED_OPEN)
    return recorded_gateway


@pytest.fixture(scope="session")
def limited() -> Iterator[Gateway]:
    """A market of few lines and IB's default message rate."""
    with Gateway(
        *("--symbols", "AAPL,MSFT", "--at", OPEN, *STANDING, "--lines", "20", "--messages-per-second", "50")
    ) as gateway:
        yield gateway


class Connect:
    """Connects clients, each with an id of its own unless one is given, and disconnects them in the end."""

    # ids are not used again: the official client lets go of one only a second after it has disconnected
    _ids = count(1)

    def __init__(self) -> None:
        self._clients: list[Client] = []

    def __call__(self, gateway: Gateway, client_id: int | None = None, timeout: float = PATIENCE) -> Client:
        """A connected client. Raises `NotConnected`."""
        self._clients.append(new_client())
        self._clients[-1].connect(gateway.port, next(self._ids) if client_id is None else client_id, timeout)
        return self._clients[-1]

    def refused(self, gateway: Gateway, client_id: int | None = None) -> Client:
        """A client that the gateway has turned away."""
        with pytest.raises(NotConnected):
            self(gateway, client_id, timeout=1.0)
        return self._clients[-1]

    def close(self) -> list[str]:
        """Disconnect all; what they have not understood."""
        for client in self._clients:
            client.disconnect()
        return [text for client in self._clients for text in client.misunderstood]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect clients to a gateway; each must have understood all it was sent."""
    connector = Connect()
    yield connector
    assert connector.close() == []
