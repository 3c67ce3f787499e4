"""One client's connection: greeting, message budget, subscriptions, and the way out."""

import asyncio
import contextlib
import struct
from asyncio.trsock import TransportSocket
from collections import deque
from datetime import datetime
from socket import SO_LINGER, SOL_SOCKET
from typing import cast

import structlog

from tws_simulator.connections import outages
from tws_simulator.connections.deliveries import Answer
from tws_simulator.connections.limits import MOST_CLIENTS, MessageBucket, MessageBudget
from tws_simulator.connections.state import GatewayState
from tws_simulator.connections.subscriptions import Delivery, Subscription
from tws_simulator.history.queries import HistoryQueries
from tws_simulator.market import LIVE
from tws_simulator.protocol import codes
from tws_simulator.protocol.messages import Encoder, message, server_greeting
from tws_simulator.protocol.versions import HIGHEST_VERSION, LOWEST_VERSION
from tws_simulator.protocol.wire import BadFrame, FrameReader, parse_greeting, split_fields
from tws_simulator.requests import answer
from tws_simulator.requests.replies import invalid

_START_API = 71
# A client's greeting can ask for pacing instead of error 100 (TWS 974 and later).
_PACE_OPTION = "+PACEAPI"
# Market data, history, head time stamps.
_CANCELS = frozenset({2, 25, 90})
# Bytes of requests that may wait before the socket is left to push back, and of answers gathered for one write.
_MOST_WAITING = 1 << 18
_MOST_GATHERED = 1 << 18
# Wall-clock seconds for a peer that does not read to take what was sent before its connection was closed.
_CLOSING_SECONDS = 1.0
# Until it is looked again whether a client that reads slowly has taken its answers.
_NOTE_AGAIN_SECONDS = 0.01
_log = structlog.get_logger(__name__)


class ClientConnection(asyncio.Protocol):
    """Speaks to one client. Three phases: the greeting, ``startApi``, then requests.

    What the client may not do costs this connection only: bytes that are no frames and the third excess of the message
    rate close it, a request that cannot be read is answered with an error. A client that does not read is not served
    until it does: its requests wait, and then its socket is not read either, so that what is kept for it is bounded.
    """

    def __init__(self, state: GatewayState) -> None:
        self.state = state
        self.encoder = Encoder(LOWEST_VERSION)
        self.client_id: int | None = None
        self.requested_type = LIVE
        self.subscriptions: dict[int, Subscription] = {}
        self.delivery = Delivery(
            state.market,
            state.faults,
            state.timers,
            self.send,
            (state.options.latency_ms[0] / 1000, state.options.latency_ms[1] / 1000),
            state.options.snapshot_seconds,
            state.random,
            self._answered if state.deliveries is not None else None,
        )
        self.history = HistoryQueries(state.history)
        self._rules = state.options.rules
        bucket = state.shared_bucket or MessageBucket(state.options.message_rate)
        self._budget = MessageBudget(bucket, violation_per=self._rules.violation_per)
        self._paced = self._rules.over_rate == "pace"
        self._frames = FrameReader()
        self._negotiated = False
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._next_turn: asyncio.TimerHandle | None = None
        self._greeting_due: asyncio.TimerHandle | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._answers: list[Answer] = []
        self._notes_later = False
        self._congested = False
        self._stale = False
        self.frozen = False

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self.state.connections.add(self)
        if outages.sockets_are_dead(self.state.faults):
            self.freeze()
        elif seconds := self._rules.greeting_seconds:
            self._greeting_due = asyncio.get_running_loop().call_later(seconds, self._end_silence)

    def data_received(self, data: bytes) -> None:
        """Bytes have come in."""
        if self._transport is None:
            return
        broken: BadFrame | None = None
        try:
            for payload in self._frames.feed(data):
                self._waiting.append(payload)
                self._waiting_bytes += len(payload)
        except BadFrame as reason:
            broken = reason
        self._serve()
        if broken is not None:
            self._close_as_foreign(broken)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone: its lines are free again."""
        self._transport = None
        self._release()

    def pause_writing(self) -> None:
        """The client reads too slowly: its requests and the updates of quotes wait."""
        self._congested = True

    def resume_writing(self) -> None:
        """The client has caught up: it gets the quotes of now, and what it has asked for."""
        self._congested = False
        if self._stale:
            self._stale = False
            self.refresh(self.state.market.clock.now())
        self._serve()

    # -- the gateway's side

    def send(self, data: bytes) -> None:
        """Queue framed messages; all that are queued in one turn of the loop leave in one write."""
        if self._transport is None or self.frozen:
            return
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > _MOST_GATHERED:
            self._flush()

    def error(self, req_id: int, code: int, text: str) -> None:
        """Tell the client of an error; `req_id` is -1 when it concerns no request."""
        self.state.stats.errors += 1
        self.send(self.encoder.error(req_id, code, text))

    def inform(self, code: int, text: str) -> None:
        """Tell the client something that is no error of its own."""
        self.send(self.encoder.error(-1, code, text))

    def freeze(self) -> None:
        """From now on read nothing and send nothing, and keep the socket open: the peer of a connection that died."""
        if self._transport is not None:
            self._flush()
            self.frozen = True
            self._transport.pause_reading()

    def drop(self, *, reset: bool) -> None:
        """Close at once, sending nothing more; with `reset` the client is told by a TCP reset instead of an end."""
        transport = self._transport
        if transport is None:
            return
        if reset:
            socket: TransportSocket = transport.get_extra_info("socket")
            socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self._transport = None
        transport.abort()
        self._release()

    def close(self, *, linger: bool = True) -> None:
        """Send what is queued and close. What the client held is free at once, even when it reads no more.

        With `linger` what the client still sends is read for a second and thrown away: a socket that is closed with
        unread bytes is reset, and a reset can overtake the last error on its way to the client.
        """
        transport = self._transport
        if transport is None:
            return
        self._flush()
        self._transport = None
        if linger:
            with contextlib.suppress(OSError):  # the client may be gone already
                transport.write_eof()
            transport.resume_reading()
            asyncio.get_running_loop().call_later(_CLOSING_SECONDS, transport.abort)
        else:
            transport.close()
        self._release()

    def refresh(self, now: datetime) -> None:
        """Send the quotes that have changed by `now`, the market's time."""
        if self._congested:
            self._stale = True
            return
        for subscription in list(self.subscriptions.values()):
            subscription.refresh(now)

    def holds_line(self, snapshot: bool) -> bool:
        """Whether a request for market data uses a line."""
        return not snapshot or self._rules.snapshots_hold_lines

    def end_subscription(self, subscription: Subscription) -> None:
        """Stop a subscription and free its line."""
        if self.subscriptions.pop(subscription.req_id, None) is not None:
            subscription.cancel()
            if self.holds_line(subscription.snapshot):
                self.state.lines.release()

    def _release(self) -> None:
        if self not in self.state.connections:
            return
        self.state.connections.discard(self)
        self.history.close()
        self._out.clear()
        self._waiting.clear()
        for handle in (self._next_turn, self._greeting_due):
            if handle is not None:
                handle.cancel()
        for subscription in list(self.subscriptions.values()):
            self.end_subscription(subscription)
        if self.client_id is not None and self.state.clients.get(self.client_id) is self:
            _log.info("client disconnected", client_id=self.client_id)
            if self._rules.client_id_lingers:
                asyncio.get_running_loop().call_later(self._rules.client_id_lingers, self._free_client_id)
            else:
                self._free_client_id()

    def _free_client_id(self) -> None:
        if self.client_id is not None:
            del self.state.clients[self.client_id]

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            data = b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            self._transport.write(data)
        if self._answers:
            self._note_answers()

    def _answered(self, answer: Answer) -> None:
        """A request has its answer among what is queued, or in the socket: it is noted once it has left."""
        if self._transport is not None and not self.frozen:
            self._answers.append(answer)
            if not self._out:
                self._note_answers()

    def _note_answers(self) -> None:
        """Note the answers whose bytes the operating system has taken; look again while some wait for the client."""
        log, transport = self.state.deliveries, self._transport
        if log is None or transport is None or not self._answers:
            return
        if transport.get_write_buffer_size():
            if not self._notes_later:
                self._notes_later = True
                self.state.timers.call_later(_NOTE_AGAIN_SECONDS, self._note_later)
            return
        answers, self._answers = self._answers, []
        try:
            log.note(self.client_id, self.state.market.clock.now(), answers)
        except OSError as reason:
            # The disk is full, say: clients are served on, and whoever reads the log finds that it ends.
            _log.error("delivery log ended", reason=reason.strerror or str(reason))
            self.state.deliveries = None

    def _note_later(self) -> None:
        self._notes_later = False
        self._note_answers()

    def _serve(self) -> None:
        """Serve the requests that wait, as far as the client reads its answers and its rate allows."""
        try:
            while self._waiting and self._transport is not None and not self._congested and not self.frozen:
                if self._paced and self._negotiated and (seconds := self._budget.wait()) > 0:
                    self._serve_in(seconds)
                    break
                payload = self._waiting.popleft()
                self._waiting_bytes -= len(payload)
                self._receive(payload)
        except BadFrame as reason:
            self._close_as_foreign(reason)
        except Exception:
            _log.exception("client closed: its request could not be served", client_id=self.client_id)
            self.close()
        if self._transport is not None and not self.frozen:
            if self._waiting_bytes > _MOST_WAITING:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _serve_in(self, seconds: float) -> None:
        if self._next_turn is not None:
            self._next_turn.cancel()
        self._next_turn = asyncio.get_running_loop().call_later(seconds, self._serve)

    def _close_as_foreign(self, reason: BadFrame) -> None:
        _log.warning("client closed: not the TWS protocol", client_id=self.client_id, reason=str(reason))
        self.close()

    def _end_silence(self) -> None:
        if self.frozen:
            return
        _log.warning("client closed: no startApi in time", seconds=self._rules.greeting_seconds)
        self.close()

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
        if not self._admits(kind):
            return
        if self.client_id is None:
            self._start_api(kind, fields)
        elif kind == _START_API:
            invalid(self, -1, "startApi has already been received")
        else:
            answer(self, kind, fields)

    def _admits(self, kind: int) -> bool:
        """Count one message, and say whether it is served."""
        if (kind in _CANCELS and not self._rules.cancels_count) or self._budget.take():
            return True
        if self._budget.violated():
            self._report_violation()
        return self._transport is not None and self._rules.excess == "serve"

    def _greet(self, payload: bytes) -> None:
        lowest, highest, options = parse_greeting(payload)
        serves_from, serves_to = self.state.options.protocol_versions
        version = min(serves_to, highest, HIGHEST_VERSION)
        if version < max(serves_from, lowest):
            text = f"Protocol versions {lowest} to {highest} are not served, {serves_from} to {serves_to} are"
            self.error(-1, codes.UNSUPPORTED_VERSION, text)
            self.close()
            return
        self._negotiated = True
        self._paced = self._paced or _PACE_OPTION in options
        self.encoder = Encoder(version)
        self.send(server_greeting(version, self.state.market.clock.now(), self.state.options.greeting_zone))

    def _start_api(self, kind: int, fields: list[str]) -> None:
        if kind != _START_API:
            raise BadFrame(f"message {kind} before startApi")
        try:
            client_id = int(fields[2])
        except (IndexError, ValueError):
            raise BadFrame("startApi without a client id") from None
        state = self.state
        if state.faults:
            outages.apply_faults(state, state.market.clock.now())
        if (how := state.faults.client_id_stuck(client_id)) is not None:
            if how == "closed":
                self.close()
            return
        if client_id in state.clients:
            self.error(-1, codes.CLIENT_ID_IN_USE, codes.CLIENT_ID_IN_USE_TEXT)
            self.close()
            return
        if len(state.clients) >= MOST_CLIENTS:
            text = f"Error processing request.-'sim' : cause - Only {MOST_CLIENTS} API clients can be connected"
            self.error(-1, codes.TOO_MANY_CLIENTS, text)
            self.close()
            return
        if self._greeting_due is not None:
            self._greeting_due.cancel()
        self.client_id = client_id
        state.clients[client_id] = self
        state.stats.connections += 1
        _log.info("client connected", client_id=client_id, protocol=self.encoder.version)
        self._welcome()

    def _welcome(self) -> None:
        """What TWS sends by itself after ``startApi``."""
        self.send(message(15, 1, self.state.options.account))
        self.send(message(9, 1, 1))
        outages.send_farm_status(self)
        text = "Chainlake simulated gateway"
        if self.state.control_port is not None:
            text += f"; control port {self.state.control_port}"
        self.inform(codes.SIMULATED, text)

    def _report_violation(self) -> None:
        budget = self._budget
        self.state.stats.violations += 1
        self.error(-1, codes.MAX_RATE, codes.max_rate_text(budget.rate, budget.received, budget.violations))
        if budget.exhausted:
            _log.warning("client closed: message rate exceeded three times", client_id=self.client_id)
            self.close()
