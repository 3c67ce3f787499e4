"""One client's connection: greeting, message budget, subscriptions, and the way out."""

import asyncio
from datetime import datetime
from typing import cast

import structlog

from ingest.gateway import codes
from ingest.gateway.limits import MessageBudget
from ingest.gateway.market import LIVE
from ingest.gateway.messages import HIGHEST_VERSION, LOWEST_VERSION, Encoder, message, server_greeting
from ingest.gateway.requests import answer
from ingest.gateway.state import GatewayState
from ingest.gateway.subscriptions import Delivery, Subscription
from ingest.gateway.wire import BadFrame, FrameReader, parse_versions, split_fields

MOST_CLIENTS = 32
_START_API = 71
_log = structlog.get_logger(__name__)


class ClientConnection(asyncio.Protocol):
    """Speaks to one client. Three phases: the greeting, ``startApi``, then requests.

    What the client may not do costs this connection only: bytes that are no frames and the third excess of the message
    rate close it, a request that cannot be read is answered with an error.
    """

    def __init__(self, state: GatewayState) -> None:
        self.state = state
        self.encoder = Encoder(LOWEST_VERSION)
        self.client_id: int | None = None
        self.requested_type = LIVE
        self.subscriptions: dict[int, Subscription] = {}
        self.delivery = Delivery(
            state.market,
            state.timers,
            self.send,
            (state.options.latency_ms[0] / 1000, state.options.latency_ms[1] / 1000),
            state.options.snapshot_seconds,
            state.random,
        )
        self._budget = MessageBudget(state.options.message_rate)
        self._frames = FrameReader()
        self._negotiated = False
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._congested = False

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self.state.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes have come in."""
        try:
            for payload in self._frames.feed(data):
                if self._transport is None:
                    return
                self._receive(payload)
        except BadFrame as reason:
            _log.warning("client closed: not the TWS protocol", client_id=self.client_id, reason=str(reason))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone: its lines are free again."""
        self._transport = None
        self._out.clear()
        for subscription in list(self.subscriptions.values()):
            self.end_subscription(subscription)
        self.state.connections.discard(self)
        if self.client_id is not None and self.state.clients.get(self.client_id) is self:
            del self.state.clients[self.client_id]
            _log.info("client disconnected", client_id=self.client_id)

    def pause_writing(self) -> None:
        """The client reads too slowly: updates of quotes wait, so that the next one it gets is fresh."""
        self._congested = True

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._congested = False

    # -- the gateway's side

    def send(self, data: bytes) -> None:
        """Queue framed messages; all that are queued in one turn of the loop leave in one write."""
        if self._transport is None:
            return
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(data)

    def error(self, req_id: int, code: int, text: str) -> None:
        """Tell the client of an error; `req_id` is -1 when it concerns no request."""
        self.state.stats.errors += 1
        self.send(self.encoder.error(req_id, code, text))

    def close(self) -> None:
        """Send what is queued and close."""
        if self._transport is not None:
            self._flush()
            self._transport.close()
            self._transport = None

    def refresh(self, now: datetime) -> None:
        """Send the quotes that have changed by `now`, the market's time."""
        if not self._congested:
            for subscription in list(self.subscriptions.values()):
                subscription.refresh(now)

    def end_subscription(self, subscription: Subscription) -> None:
        """Stop a subscription and free its line."""
        if self.subscriptions.pop(subscription.req_id, None) is not None:
            subscription.cancel()
            self.state.lines.release()

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            data = b"".join(self._out)
            self._out.clear()
            self._transport.write(data)

    def _receive(self, payload: bytes) -> None:
        if not self._negotiated:
            self._greet(payload)
            return
        fields = split_fields(payload)
        try:
            kind = int(fields[0])
        except ValueError:
            raise BadFrame("a message without a number") from None
        self.state.stats.messages += 1
        if not self._budget.take():
            self._refuse_excess()
        elif self.client_id is None:
            self._start_api(kind, fields)
        else:
            answer(self, kind, fields)

    def _greet(self, payload: bytes) -> None:
        lowest, highest = parse_versions(payload)
        version = min(HIGHEST_VERSION, highest)
        if version < max(LOWEST_VERSION, lowest):
            self.error(
                -1,
                codes.UNSUPPORTED_VERSION,
                f"Protocol versions {lowest} to {highest} are not served, {LOWEST_VERSION} to {HIGHEST_VERSION} are",
            )
            self.close()
            return
        self._negotiated = True
        self.encoder = Encoder(version)
        self.send(server_greeting(version, self.state.market.clock.now()))

    def _start_api(self, kind: int, fields: list[str]) -> None:
        if kind != _START_API:
            raise BadFrame(f"message {kind} before startApi")
        try:
            client_id = int(fields[2])
        except (IndexError, ValueError):
            raise BadFrame("startApi without a client id") from None
        state = self.state
        if client_id in state.clients:
            self.error(-1, codes.CLIENT_ID_IN_USE, codes.CLIENT_ID_IN_USE_TEXT)
            self.close()
            return
        if len(state.clients) >= MOST_CLIENTS:
            self.error(-1, codes.TOO_MANY_CLIENTS, f"No more than {MOST_CLIENTS} API clients can be connected")
            self.close()
            return
        self.client_id = client_id
        state.clients[client_id] = self
        state.stats.connections += 1
        _log.info("client connected", client_id=client_id, protocol=self.encoder.version)
        self._welcome()

    def _welcome(self) -> None:
        """What TWS sends by itself after ``startApi``."""
        self.send(message(15, 1, self.state.options.account))
        self.send(message(9, 1, 1))
        inform = self.encoder.error
        self.send(inform(-1, codes.MARKET_DATA_FARM_OK, "Market data farm connection is OK:usfarm"))
        self.send(inform(-1, codes.MARKET_DATA_FARM_OK, "Market data farm connection is OK:usopt"))
        self.send(inform(-1, codes.HISTORICAL_FARM_OK, "HMDS data farm connection is OK:ushmds"))
        self.send(inform(-1, codes.DEFINITION_FARM_OK, "Sec-def data farm connection is OK:secdefnj"))
        text = "Chainlake simulated gateway"
        if self.state.control_port is not None:
            text += f"; control port {self.state.control_port}"
        self.send(inform(-1, codes.SIMULATED, text))

    def _refuse_excess(self) -> None:
        self.state.stats.violations += 1
        self.error(-1, codes.MAX_RATE, codes.max_rate_text(self._budget.rate, self._budget.violations))
        if self._budget.exhausted:
            _log.warning("client closed: message rate exceeded three times", client_id=self.client_id)
            self.close()
