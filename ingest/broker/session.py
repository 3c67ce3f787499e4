"""One connection to TWS or IB Gateway, through the client library's async calls only.

Everything above this module sees plain values. The library's own throttle is off: the capture engine paces.
"""

import asyncio
import contextlib
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from datetime import datetime

import structlog

from ingest.broker import codes, link
from ingest.broker.common import CommonState
from ingest.broker.library import IB, Contract, Ticker, evict, request_market_data
from ingest.broker.outages import Outage, OutageKind, Outages, farm_name, outage_change
from ingest.broker.pacing import Pace
from ingest.broker.subscription import NullWatcher, RequestError, Subscription, Watcher
from ingest.calendar.clock import Clock, ControlPort
from ingest.contracts import OptionContract, Underlying
from ingest.errors import BrokerUnreachable
from ingest.settings import AcquisitionSettings, IbSettings
from lake.origin import Origin

log = structlog.get_logger(__name__)

# An error 100 does not name the message that was dropped: it is one of the last second, or came just before it.
DROPPED_WITHIN_S = 2.0
# How often IB is asked whether it is back, seconds.
REACHABLE_S = 15.0
# How accounts that are not live begin, longest prefix first.
ACCOUNTS: dict[str, Origin] = {"SIMR": "replay", "SIM": "simulated", "D": "ibkr-paper"}


class BrokerSession:
    """A connection whose market data is routed per request, and that can be had again. Make one with `connect`.

    The `watcher` is told of ticks, errors and outages; `outages` are those in force. When the socket is lost the
    session stays what it is, without subscriptions, until `reconnect` brings it back with its market data type.
    Sessions of a pool have a `common` state; `client_id` is the one that is tried first.
    """

    def __init__(self, settings: IbSettings, common: CommonState | None = None, client_id: int | None = None) -> None:
        self.settings = settings
        self.messages = 0
        self.pacing_errors = 0
        self.common = common or CommonState()
        self.control: ControlPort | None = None
        self.watcher: Watcher = NullWatcher()
        self.outages = Outages()
        self._ib = IB()
        self._client_id = client_id
        self._origin: Origin | None = None
        self._wanted_type = 1
        self._market_data_type: int | None = None
        self._by_request: dict[int, Subscription] = {}
        self._by_ticker: dict[int, Subscription] = {}
        self._recent_cancels: deque[tuple[float, Subscription]] = deque(maxlen=1000)
        self._notices: dict[int, str] = {}
        self._heartbeat: asyncio.Task[None] | None = None
        self._reachability: asyncio.Task[None] | None = None
        self.known_contract = Contract(symbol="SPY", secType="STK", exchange="SMART", currency="USD")
        self._paces: dict[str, Pace] = {}
        self._opening = asyncio.Lock()

    # -- the connection ------------------------------------------------------------------------------------------

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, settings: IbSettings) -> AsyncIterator["BrokerSession"]:
        """A connected session; disconnects at the end. Raises BrokerUnreachable with the reason and the next step."""
        session = cls(settings)
        await session.open()
        try:
            yield session
        finally:
            session.close()

    async def reconnect(self, seconds: float) -> None:
        """Connect again, trying for so many seconds; at once when it is connected.

        Raises BrokerUnreachable when there is no gateway in that time, or another account behind it.
        """
        if self.connected:
            return
        await link.open_persistently(self._open_if_lost, self.address, seconds)
        if self._market_data_type is not None:
            self._market_data_type = None
            self.use_market_data_type(self._wanted_type)
        self._outage_over("socket")

    async def _open_if_lost(self) -> None:
        # A step may seek the connection while its capture does.
        async with self._opening:
            if not self.connected:
                await self.open()

    async def open(self) -> None:
        """Connect. Raises BrokerUnreachable with the reason and the next step."""
        self._ib, self._client_id = await link.open_link(self.settings, self._error_arrived, self._client_id)
        self._ib.pendingTickersEvent += self._ticks_arrived
        self._ib.disconnectedEvent += self._socket_lost
        try:
            if self._origin not in (None, self.origin):
                raise BrokerUnreachable(f"the gateway at {self.address} came back as {self.origin}: log in as before")
            self._origin = self.origin
            await self._take_gateway_clock()
            if not self.connected:
                raise BrokerUnreachable(f"the gateway at {self.address} hung up: look at its window or its log")
        except BaseException:
            self.close()
            raise
        self._heartbeat = asyncio.create_task(self._watch_heartbeat(self._ib), name="broker-heartbeat")
        log.info(
            "connected",
            gateway=self.address,
            client_id=self._client_id,
            account_origin=self.origin,
            server=self._ib.client.serverVersion(),
        )

    def close(self) -> None:
        """Disconnect."""
        self._stop_heartbeat()
        self._ib.disconnectedEvent -= self._socket_lost
        self._ib.disconnect()

    async def _watch_heartbeat(self, ib: IB) -> None:
        with contextlib.suppress(ConnectionError):
            await link.until_silent(ib, self.settings.heartbeat_s, self.settings.heartbeat_timeout_s, self._count)
            log.warning("heartbeat_missed", gateway=self.address)
            link.abort(ib)

    def _stop_heartbeat(self) -> None:
        for task in (self._heartbeat, self._reachability):
            if task is not None:
                task.cancel()
        self._heartbeat = self._reachability = None

    def _count(self) -> None:
        self.messages += 1

    @property
    def address(self) -> str:
        """``host:port`` of the gateway."""
        return f"{self.settings.host}:{self.settings.port}"

    @property
    def clock(self) -> Clock:
        """The pipeline's clock: the host's, or that of a simulated gateway, one for all connections to it."""
        return self.common.clock

    @clock.setter
    def clock(self, clock: Clock) -> None:
        self.common.clock = clock

    @property
    def delayed(self) -> bool:
        """Whether delayed data is taken, on all connections to the gateway."""
        return self.common.delayed

    @property
    def client_id(self) -> int | None:
        """The client id that was free, or is tried first; None when it is not known yet."""
        return self._client_id

    @property
    def client(self) -> IB:
        """The library's client of the present socket; after `reconnect` it is another. For this package only."""
        return self._ib

    @property
    def connected(self) -> bool:
        """Whether the socket is up."""
        return bool(self._ib.isConnected())

    @property
    def origin(self) -> Origin:
        """What kind of data this gateway gives, by its account: ibkr-live, ibkr-paper, simulated or replay."""
        if not self.connected and self._origin is not None:
            return self._origin
        account = next(iter(self._ib.managedAccounts()), "")
        return next((origin for prefix, origin in ACCOUNTS.items() if account.startswith(prefix)), "ibkr-live")

    async def _take_gateway_clock(self) -> None:
        if self.origin.startswith("ibkr"):
            return
        # A simulated gateway tells where its control port is; without one its clock is real time. It does so right
        # behind the handshake, and answers are in order: any answer says that the notice has come.
        if codes.SIMULATOR_NOTICE not in self._notices:
            self.messages += 1
            with contextlib.suppress(TimeoutError, ConnectionError):
                await asyncio.wait_for(self._ib.reqCurrentTimeAsync(), self.settings.connect_timeout_s)
        if port := re.search(r"control port (\d+)", self._notices.get(codes.SIMULATOR_NOTICE, "")):
            self.control = ControlPort(self.settings.host, int(port[1]))
            self.clock = await self.control.read_clock()

    async def step_clock(self, instant: datetime) -> None:
        """Set the simulated gateway's market clock to `instant`."""
        if self.control is None:
            raise BrokerUnreachable(f"the gateway at {self.address} has no control port: start it with --control-port")
        self.clock = await self.control.step(instant)

    def pace(self, acquisition: AcquisitionSettings) -> Pace:
        """The budget of this connection under the preset: what it has learned holds from one slot to the next."""
        if acquisition.preset not in self._paces:
            lines = self.common.lines(self.settings, acquisition)
            free = self.common.cancels_free
            self._paces[acquisition.preset] = Pace(self.settings, acquisition, lines=lines, cancels_free=free)
        return self._paces[acquisition.preset]

    # -- market data ---------------------------------------------------------------------------------------------

    def use_market_data_type(self, market_data_type: int) -> None:
        """Ask for live (1), frozen (2), delayed (3) or delayed-frozen (4) data from now on.

        After `fall_back_to_delayed` its delayed counterpart is asked for instead.
        """
        self._wanted_type = market_data_type
        asked = codes.DELAYED_COUNTERPARTS.get(market_data_type, market_data_type) if self.delayed else market_data_type
        if asked == self._market_data_type:
            return
        if self.connected:
            self.messages += 1
            self._ib.reqMarketDataType(asked)
        self._market_data_type = asked

    def fall_back_to_delayed(self) -> None:
        """Take delayed data for as long as this session lasts: IB still shows live data where it is permitted."""
        if not self.delayed:
            self.common.delayed = True
            log.warning("delayed_fallback", gateway=self.address, market_data_type=self._wanted_type)
        self.use_market_data_type(self._wanted_type)

    @property
    def asks_for_delayed(self) -> bool:
        """Whether this connection has asked IB for delayed data."""
        return self._market_data_type in codes.DELAYED_TYPES

    @property
    def lines_in_use(self) -> int:
        """Market data lines that this connection holds."""
        return len(self._by_request)

    def subscribe_option(self, contract: OptionContract, generic_ticks: str, *, snapshot: bool = False) -> Subscription:
        """Start market data of an option; a snapshot takes no generic ticks and ends by itself."""
        asked = Contract(conId=contract.conid, exchange=contract.exchange)
        return self._subscribe(asked, generic_ticks, contract.right, snapshot=snapshot)

    def subscribe_underlying(
        self, underlying: Underlying, generic_ticks: str, *, snapshot: bool = False
    ) -> Subscription:
        """Start market data of an underlying; a snapshot takes no generic ticks and ends by itself."""
        asked = Contract(conId=underlying.conid or 0, exchange=underlying.exchange)
        return self._subscribe(asked, generic_ticks, None, snapshot=snapshot)

    def cancel(self, subscription: Subscription) -> None:
        """End market data, and forget what had arrived: the library itself never does."""
        self._forget(subscription)
        if self.connected and subscription.is_open:
            self.messages += 1
            self._ib.client.cancelMktData(subscription.request_id)
            self._recent_cancels.append((time.monotonic(), subscription))

    def doubtful_cancels(self) -> list[Subscription]:
        """Subscriptions whose cancel an error 100 may have dropped; cancelling once more is harmless (error 300)."""
        earliest = time.monotonic() - DROPPED_WITHIN_S
        doubtful = [subscription for at, subscription in self._recent_cancels if at >= earliest]
        self._recent_cancels.clear()
        return doubtful

    def _subscribe(self, contract: Contract, generic_ticks: str, right: str | None, *, snapshot: bool) -> Subscription:
        if not self.connected:
            raise BrokerUnreachable(f"the connection to {self.address} was lost")
        self.messages += 1
        delayed = self.asks_for_delayed
        if snapshot:
            generic_ticks = ""
        elif delayed:
            generic_ticks = codes.delayed_generic_ticks(generic_ticks)
        request_id, ticker, ended = request_market_data(self._ib, contract, generic_ticks, snapshot=snapshot)
        subscription = Subscription(request_id, contract, ticker, right, self.clock.now(), snapshot, delayed)
        self._by_request[request_id] = self._by_ticker[id(ticker)] = subscription
        if ended is not None:
            ended.add_done_callback(lambda future: self._snapshot_ended(subscription, future))
        return subscription

    def _forget(self, subscription: Subscription) -> None:
        # Request ids begin anew on a new socket: an old subscription must not end the one that has its number now.
        if self._by_request.get(subscription.request_id) is subscription:
            del self._by_request[subscription.request_id]
            self._by_ticker.pop(id(subscription.ticker), None)
            evict(self._ib, subscription.request_id)

    # -- events --------------------------------------------------------------------------------------------------

    def _ticks_arrived(self, tickers: Iterable[Ticker]) -> None:
        now = self.clock.now()
        for ticker in tickers:
            if subscription := self._by_ticker.get(id(ticker)):
                subscription.updated_at = now
                if self.outages:
                    asked_at, option = subscription.sent_at, subscription.right is not None
                    for outage in self.outages.disproved_by(option=option, asked_at=asked_at):
                        self._outage_over(outage.kind)
                self.watcher.updated(subscription)

    def _snapshot_ended(self, subscription: Subscription, ended: "asyncio.Future[object]") -> None:
        if not ended.cancelled() and ended.exception() is None and subscription.error is None:
            subscription.ended = True
            self._forget(subscription)
            self.watcher.updated(subscription)

    def _error_arrived(self, request_id: int, code: int, message: str, _contract: Contract | None) -> None:
        if code in codes.PACING:
            self.pacing_errors += 1
            self.watcher.pacing_error(code)
        self._note_outage(code, message)
        subscription = self._by_request.get(request_id)
        if subscription is None:
            self._notices[code] = message
            log.debug("broker_notice", code=code, message=message, request_id=request_id)
        elif codes.is_advisory(code):
            subscription.advisory = RequestError(code, message)
        else:
            subscription.error = RequestError(code, message)
            if not subscription.is_open:
                self._forget(subscription)
            self.watcher.updated(subscription)

    def _note_outage(self, code: int, message: str) -> None:
        if (change := outage_change(code, message)) is None:
            return
        kind, begins = change
        if begins:
            if code == codes.FARM_BROKEN:
                self.outages.farm_broken(kind, farm_name(message))
            self._outage_began(kind)
            return
        if code in codes.FARM_OK and not self.outages.farm_back(kind, farm_name(message)):
            return
        data_lost = code == codes.RESTORED_DATA_LOST
        if data_lost:
            self._outage_began(kind)
            self._forget_all()
        self._outage_over(kind, data_lost=data_lost)

    def _socket_lost(self) -> None:
        self._stop_heartbeat()
        self._forget_all()
        # What was reported on the old socket is reported again on the next one, if it still holds.
        for outage in self.outages:
            self._outage_over(outage.kind)
        self._outage_began("socket")

    def _forget_all(self) -> None:
        for subscription in list(self._by_request.values()):
            subscription.ended = True
            self._forget(subscription)
        self._recent_cancels.clear()

    def answered(self, asked_at: float) -> None:
        """IB has answered a question that was asked at `asked_at` (monotonic): it is not out of reach."""
        if any(outage.kind == "ib_connection" and outage.since < asked_at for outage in self.outages):
            self._outage_over("ib_connection")

    async def _ask_until_reachable(self) -> None:
        """Ask IB about the contract known last, until it answers: it does not always say that it is back."""
        while any(outage.kind == "ib_connection" for outage in self.outages) and self.connected:
            await asyncio.sleep(REACHABLE_S)
            asked_at = time.monotonic()
            self.messages += 1
            with contextlib.suppress(TimeoutError, ConnectionError):
                if await asyncio.wait_for(self._ib.reqContractDetailsAsync(self.known_contract), REACHABLE_S):
                    self.answered(asked_at)

    def _outage_began(self, kind: OutageKind) -> None:
        if outage := self.outages.begin(kind, self.clock.now(), time.monotonic()):
            log.warning("broker_outage_began", kind=kind, gateway=self.address)
            self.watcher.outage_began(outage)
            if kind == "ib_connection":
                self._reachability = asyncio.create_task(self._ask_until_reachable(), name="broker-reachability")

    def _outage_over(self, kind: OutageKind, *, data_lost: bool = False) -> None:
        outage: Outage | None = self.outages.end(kind)
        if outage is not None:
            seconds = round(time.monotonic() - outage.since, 3)
            log.warning("broker_outage", kind=kind, gateway=self.address, seconds=seconds, data_lost=data_lost)
            self.watcher.outage_over(outage, data_lost=data_lost)
