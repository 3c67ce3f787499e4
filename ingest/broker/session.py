"""One connection to TWS or IB Gateway, through the client library's async calls only.

Everything above this module sees plain values. The library's own throttle is off: the capture engine paces.
"""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TypeVar

import structlog
from ib_insync import IB, Contract, Option, Stock, Ticker

from ingest.broker.quotes import Quote, quote_of
from ingest.clock import Clock, ControlPort, HostClock
from ingest.contracts import ChainParameters, OptionContract, OptionSpec, Underlying, occ_expiry
from ingest.errors import BrokerUnreachable
from ingest.settings import IbSettings
from lake.store import Origin

log = structlog.get_logger(__name__)
T = TypeVar("T")

ANSWER_TIMEOUT_S = 60.0
CLIENT_ID_IN_USE = 326
PACING_ERRORS = frozenset({100, 101, 420})
SIMULATOR_NOTICE = 2199
# How accounts that are not live begin, longest prefix first.
ACCOUNTS: dict[str, Origin] = {"SIMR": "replay", "SIM": "simulated", "D": "ibkr-paper"}
# ib_insync logs every tick that arrives after a cancel, and every error that we route ourselves.
for _name in ("ib_insync.wrapper", "ib_insync.client", "ib_insync.ib"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class RequestError:
    """An error that IB reported for one request."""

    code: int
    message: str


@dataclass(slots=True, eq=False)
class Subscription:
    """Market data of one contract, from request to cancel. Ticks of an earlier request never reach it."""

    request_id: int
    contract: Contract
    ticker: Ticker
    right: str | None
    requested_at: datetime
    sent_at: float = field(default_factory=time.monotonic)
    updated_at: datetime | None = None
    error: RequestError | None = None

    def quote(self) -> Quote:
        """What has arrived so far."""
        return quote_of(self.ticker, self.right)


class BrokerSession:
    """A connection whose market data is routed per request. Make one with `connect`.

    `on_update` is called with a subscription whenever it received ticks or an error, `on_pacing` on errors 100, 101 and
    420 (100 names no request), `on_lost` when the socket drops.
    """

    def __init__(self, ib: IB, settings: IbSettings) -> None:
        self.settings = settings
        self.messages = 0
        self.pacing_errors = 0
        self.clock: Clock = HostClock()
        self.control: ControlPort | None = None
        self.on_update: Callable[[Subscription], None] = lambda subscription: None
        self.on_lost: Callable[[], None] = lambda: None
        self.on_pacing: Callable[[], None] = lambda: None
        self._ib = ib
        self._market_data_type: int | None = None
        self._by_request: dict[int, Subscription] = {}
        self._notices: dict[int, str] = {}
        self._connecting: asyncio.Future[IB] | None = None
        ib.pendingTickersEvent += self._ticks_arrived
        ib.errorEvent += self._error_arrived
        ib.disconnectedEvent += self._socket_lost

    # -- the connection ------------------------------------------------------------------------------------------

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, settings: IbSettings) -> AsyncIterator["BrokerSession"]:
        """A connected session; disconnects at the end. Raises BrokerUnreachable with the reason and the next step."""
        ib = IB()
        ib.client.MaxRequests = 0
        session = cls(ib, settings)
        where = f"{settings.host}:{settings.port}"
        try:
            await session._shake_hands()
        except (OSError, TimeoutError, asyncio.CancelledError) as error:
            if CLIENT_ID_IN_USE in session._notices:
                raise BrokerUnreachable(
                    f"client id {settings.client_id} is in use at {where}: set another --client-id"
                ) from None
            if isinstance(error, asyncio.CancelledError):
                raise
            reason = "did not answer in time" if isinstance(error, TimeoutError) else "refused the connection"
            raise BrokerUnreachable(
                f"the gateway at {where} {reason}: "
                "start TWS, IB Gateway or `chainlake gateway`, or set --host and --port"
            ) from None
        try:
            await session._take_gateway_clock()
            log.info("connected", gateway=where, account_origin=session.origin, server=ib.client.serverVersion())
            yield session
        finally:
            session.on_lost = lambda: None
            ib.disconnect()

    async def _shake_hands(self) -> None:
        # readonly: Chainlake never trades, so it does not ask for orders.
        settings = self.settings
        self._connecting = asyncio.ensure_future(
            self._ib.connectAsync(
                settings.host, settings.port, settings.client_id, timeout=settings.connect_timeout_s, readonly=True
            )
        )
        await self._connecting

    @property
    def address(self) -> str:
        """``host:port`` of the gateway."""
        return f"{self.settings.host}:{self.settings.port}"

    @property
    def connected(self) -> bool:
        """Whether the socket is up."""
        return bool(self._ib.isConnected())

    @property
    def origin(self) -> Origin:
        """What kind of data this gateway gives, by its account: ibkr-live, ibkr-paper, simulated or replay."""
        account = next(iter(self._ib.managedAccounts()), "")
        return next((origin for prefix, origin in ACCOUNTS.items() if account.startswith(prefix)), "ibkr-live")

    async def _take_gateway_clock(self) -> None:
        # A simulated gateway tells where its control port is; without one its clock is real time.
        if not self.origin.startswith("ibkr") and (
            port := re.search(r"control port (\d+)", self._notices.get(SIMULATOR_NOTICE, ""))
        ):
            self.control = ControlPort(self.settings.host, int(port[1]))
            self.clock = await self.control.read_clock()

    async def step_clock(self, instant: datetime) -> None:
        """Set the simulated gateway's market clock to `instant`."""
        if self.control is None:
            raise BrokerUnreachable(f"the gateway at {self.address} has no control port: start it with --control-port")
        self.clock = await self.control.step(instant)

    # -- reference data ------------------------------------------------------------------------------------------

    async def qualify_underlyings(self, underlyings: Sequence[Underlying]) -> list[Underlying]:
        """Those of `underlyings` that IB knows, with their conid."""
        contracts = [
            Contract(conId=u.conid, symbol=u.symbol, secType=u.sec_type, exchange=u.exchange, currency="USD")
            if u.conid
            else Stock(u.symbol, u.exchange, "USD")
            for u in underlyings
        ]
        await self._qualify(contracts)
        # A contract that was not found stays as it was asked: it has no local symbol.
        return [
            Underlying(u.symbol, c.conId, u.sec_type, u.exchange, u.weight, u.group, u.views)
            for u, c in zip(underlyings, contracts, strict=True)
            if c.localSymbol
        ]

    async def option_chain(self, underlying: Underlying) -> list[ChainParameters]:
        """Trading classes, expirations (last trade dates) and strikes of an underlying, on all exchanges."""
        self.messages += 1
        chains = await self._answer(
            self._ib.reqSecDefOptParamsAsync(underlying.symbol, "", underlying.sec_type, underlying.conid or 0)
        )
        return [
            ChainParameters(
                chain.exchange,
                chain.tradingClass,
                chain.multiplier,
                frozenset(_day(text) for text in chain.expirations),
                frozenset(float(strike) for strike in chain.strikes),
            )
            for chain in chains
        ]

    async def qualify_options(self, specs: Sequence[OptionSpec]) -> list[OptionContract]:
        """The listed contracts among `specs`; a combination that is not listed is left out."""
        contracts = [
            Option(
                symbol=spec.underlying,
                lastTradeDateOrContractMonth=f"{spec.last_trade_date:%Y%m%d}",
                strike=spec.strike,
                right=spec.right,
                exchange=spec.exchange,
                multiplier=spec.multiplier,
                currency="USD",
                tradingClass=spec.trading_class,
            )
            for spec in specs
        ]
        await self._qualify(contracts)
        return [
            OptionContract(
                conid=contract.conId,
                underlying=spec.underlying,
                symbol=contract.localSymbol,
                trading_class=contract.tradingClass,
                expiry=occ_expiry(contract.localSymbol),
                last_trade_date=_day(contract.lastTradeDateOrContractMonth),
                right=spec.right,
                strike=contract.strike,
                multiplier=float(contract.multiplier),
                exchange=spec.exchange,
            )
            for spec, contract in zip(specs, contracts, strict=True)
            if contract.conId
        ]

    async def _qualify(self, contracts: Sequence[Contract]) -> None:
        self.messages += len(contracts)
        await self._answer(self._ib.qualifyContractsAsync(*contracts))

    async def _answer(self, request: Awaitable[T]) -> T:
        # The library's requests wait for ever when the gateway stays silent.
        try:
            return await asyncio.wait_for(request, ANSWER_TIMEOUT_S)
        except TimeoutError:
            raise BrokerUnreachable(
                f"{self.address} left a request without an answer for {ANSWER_TIMEOUT_S:.0f} s"
            ) from None
        except ConnectionError:
            raise BrokerUnreachable(f"the connection to {self.address} was lost") from None

    # -- market data ---------------------------------------------------------------------------------------------

    def use_market_data_type(self, market_data_type: int) -> None:
        """Ask for live (1), frozen (2), delayed (3) or delayed-frozen (4) data from now on."""
        if market_data_type != self._market_data_type:
            self.messages += 1
            self._ib.reqMarketDataType(market_data_type)
            self._market_data_type = market_data_type

    def subscribe_option(self, contract: OptionContract, generic_ticks: str) -> Subscription:
        """Start market data of an option."""
        return self._subscribe(
            Contract(conId=contract.conid, exchange=contract.exchange), generic_ticks, contract.right
        )

    def subscribe_underlying(self, underlying: Underlying, generic_ticks: str) -> Subscription:
        """Start market data of an underlying."""
        return self._subscribe(Contract(conId=underlying.conid or 0, exchange=underlying.exchange), generic_ticks, None)

    def cancel(self, subscription: Subscription) -> None:
        """End market data, and forget what had arrived: the library itself never does."""
        self._by_request.pop(subscription.request_id, None)
        wrapper = self._ib.wrapper
        wrapper.reqId2Ticker.pop(subscription.request_id, None)
        wrapper.tickers.pop(id(subscription.contract), None)
        wrapper.endTicker(subscription.ticker, "mktData")
        if self.connected and subscription.error is None:
            self.messages += 1
            self._ib.client.cancelMktData(subscription.request_id)

    def _subscribe(self, contract: Contract, generic_ticks: str, right: str | None) -> Subscription:
        if not self.connected:
            raise BrokerUnreachable(f"the connection to {self.address} was lost")
        self.messages += 1
        # A new contract object every time: the library hands out the old ticker, old quotes included, for an old one.
        ticker = self._ib.reqMktData(contract, generic_ticks)
        request_id = self._ib.wrapper.ticker2ReqId["mktData"][ticker]
        subscription = Subscription(request_id, contract, ticker, right, self.clock.now())
        self._by_request[request_id] = subscription
        return subscription

    # -- events --------------------------------------------------------------------------------------------------

    def _ticks_arrived(self, tickers: Iterable[Ticker]) -> None:
        now = self.clock.now()
        live = self._ib.wrapper.ticker2ReqId["mktData"]
        for ticker in tickers:
            if subscription := self._by_request.get(live.get(ticker, -1)):
                subscription.updated_at = now
                self.on_update(subscription)

    def _error_arrived(self, request_id: int, code: int, message: str, _contract: Contract | None) -> None:
        if code in PACING_ERRORS:
            self.pacing_errors += 1
            self.on_pacing()
        subscription = self._by_request.get(request_id)
        if subscription is None:
            self._notices[code] = message
            if code == CLIENT_ID_IN_USE and self._connecting:
                # The library would wait for its time-out: it learns of this error only here.
                self._connecting.cancel()
            log.debug("broker_notice", code=code, message=message, request_id=request_id)
        elif not _is_advisory(code):
            subscription.error = RequestError(code, message)
            self.on_update(subscription)

    def _socket_lost(self) -> None:
        self._by_request.clear()
        self.on_lost()


def _is_advisory(code: int) -> bool:
    # Data keeps flowing after these: 10167 shows delayed data, 10090 and 10091 name what is partly missing.
    return code in {399, 10090, 10091, 10167} or 2100 <= code < 2200


def _day(text: str) -> date:
    return date.fromisoformat(f"{text[:4]}-{text[4:6]}-{text[6:8]}")
