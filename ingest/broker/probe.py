"""The requests of `capacity --probe`: each is timed from its send to its ticks, its error or its end."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TypeVar

from ingest.broker.codes import LINES_EXHAUSTED, is_advisory
from ingest.broker.library import IB, Contract, Option, Ticker, ib_contract, request_market_data
from ingest.broker.link import open_link
from ingest.broker.quotes import quote_of
from ingest.contracts import Right, Underlying, ib_date
from ingest.errors import BrokerUnreachable
from ingest.settings import IbSettings

T = TypeVar("T")
RATE_EXCEEDED = 100
SMART = "SMART"
# As capture asks for options: open interest.
OPTION_TICKS = "101"
ANSWER_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Listed:
    """A listed option, as little of it as a market data request needs."""

    conid: int
    last_trade_date: date
    strike: float
    right: Right


@dataclass(slots=True, eq=False)
class TimedRequest:
    """One market data request; seconds are wall-clock, from its send.

    `quote_s`: both sides told; `model_s`: model greeks in; `end_s`: a snapshot's end. None: it has not come.
    """

    request_id: int
    contract: Contract
    right: str | None
    sent_at: float = field(default_factory=time.monotonic)
    price: float | None = None
    quote_s: float | None = None
    model_s: float | None = None
    end_s: float | None = None
    error: int | None = None

    @property
    def refused(self) -> bool:
        """Whether no market data line was free for it (error 101)."""
        return self.error == LINES_EXHAUSTED

    @property
    def touched(self) -> bool:
        """Whether anything at all has come of it."""
        return any(value is not None for value in (self.price, self.quote_s, self.model_s, self.end_s, self.error))

    @property
    def complete(self) -> bool:
        """Whether it has all that is waited for, or never will have."""
        return self.error is not None or (self.quote_s is not None and self.model_s is not None)


class ProbeLink:
    """A connection of its own for a probe. Make one with `open`.

    It does not pace: who calls decides how fast. `messages` counts what was sent, `pacing_errors` errors 100, `errors`
    the codes of refused requests.
    """

    def __init__(self, settings: IbSettings) -> None:
        self._settings = settings
        self._ib = IB()
        self._requests: dict[int, TimedRequest] = {}
        self._tickers: dict[int, TimedRequest] = {}
        self.messages = 0
        self.pacing_errors = 0
        self.errors: Counter[int] = Counter()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: IbSettings) -> AsyncIterator["ProbeLink"]:
        """A connected link; disconnecting at the end frees every line. Raises BrokerUnreachable."""
        link = cls(settings)
        link._ib, _ = await open_link(settings, link._error_arrived)
        link._ib.pendingTickersEvent += link._ticks_arrived
        try:
            link.ask_for_data_type()
            yield link
        finally:
            link._ib.disconnect()

    @property
    def connected(self) -> bool:
        """Whether the socket is up."""
        return bool(self._ib.isConnected())

    # -- contracts -----------------------------------------------------------------------------------------------

    async def identify(self, underlying: Underlying) -> Underlying | None:
        """An underlying with its conid; None when IB does not know it."""
        contract = ib_contract(underlying)
        await self._answer(self._ib.qualifyContractsAsync, contract)
        return replace(underlying, conid=contract.conId) if contract.localSymbol else None

    async def expirations(self, underlying: Underlying) -> list[date]:
        """Last trade dates of an underlying's options on SMART, ascending."""
        chains = await self._answer(
            self._ib.reqSecDefOptParamsAsync, underlying.symbol, "", underlying.sec_type, underlying.conid or 0
        )
        return sorted({ib_date(text) for chain in chains if chain.exchange == SMART for text in chain.expirations})

    async def listed(self, underlying: Underlying, last_trade_date: date) -> list[Listed]:
        """All options of one last trade date: one message, however many there are."""
        asked = Option(underlying.symbol, f"{last_trade_date:%Y%m%d}", exchange=SMART, currency="USD")
        details = await self._answer(self._ib.reqContractDetailsAsync, asked)
        return [
            Listed(one.contract.conId, last_trade_date, one.contract.strike, "C" if one.contract.right == "C" else "P")
            for one in details
            if one.contract is not None
        ]

    # -- market data ---------------------------------------------------------------------------------------------

    def stream_underlying(self, underlying: Underlying) -> TimedRequest:
        """Subscribe to an underlying; its price shows in `TimedRequest.price`."""
        contract = Contract(conId=underlying.conid or 0, exchange=underlying.exchange)
        return self._request(contract, "", None, snapshot=False)

    def stream(self, option: Listed) -> TimedRequest:
        """Subscribe to an option as capture does."""
        return self._request(Contract(conId=option.conid, exchange=SMART), OPTION_TICKS, option.right, snapshot=False)

    def snapshot(self, option: Listed) -> TimedRequest:
        """Ask for a snapshot of an option: one message, and IB ends it."""
        return self._request(Contract(conId=option.conid, exchange=SMART), "", option.right, snapshot=True)

    def cancel(self, request: TimedRequest) -> None:
        """End a subscription. One that was refused is not open: cancelling it would be an error of its own."""
        self._require_connection()
        if self._requests.pop(request.request_id, None) is not None and request.error is None:
            self.messages += 1
            self._ib.client.cancelMktData(request.request_id)

    def touch(self, option: Listed) -> int:
        """Subscribe, and look at nothing; returns the id that `let_go` takes."""
        request_id: int = self._ib.client.getReqId()
        contract = Contract(conId=option.conid, exchange=SMART)
        self._ib.client.reqMktData(request_id, contract, OPTION_TICKS, False, False, [])
        self.messages += 1
        return request_id

    def let_go(self, request_id: int) -> None:
        """Cancel what `touch` has subscribed to."""
        self._ib.client.cancelMktData(request_id)
        self.messages += 1

    def ask_for_data_type(self) -> None:
        """Ask for the configured market data type: a message that IB does not answer, and that changes nothing."""
        self.messages += 1
        self._ib.client.reqMarketDataType(self._settings.market_data_type)

    async def round_trip(self) -> float | None:
        """Seconds until IB has told its time; None when it does not."""
        started = time.monotonic()
        try:
            await self._answer(self._ib.reqCurrentTimeAsync, timeout_s=2.0)
        except BrokerUnreachable:
            return None
        return time.monotonic() - started

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until `condition` holds, at most `seconds` and not beyond an error 100; says whether it does."""
        deadline = time.monotonic() + seconds
        while not condition():
            if not self.connected or self.pacing_errors or time.monotonic() >= deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    # -- events --------------------------------------------------------------------------------------------------

    def _request(self, contract: Contract, generic_ticks: str, right: str | None, *, snapshot: bool) -> TimedRequest:
        self._require_connection()
        self.messages += 1
        sent_at = time.monotonic()
        request_id, ticker, ended = request_market_data(self._ib, contract, generic_ticks, snapshot=snapshot)
        request = TimedRequest(request_id, contract, right, sent_at)
        if ended is not None:
            ended.add_done_callback(lambda _: self._ended(request))
        self._requests[request_id] = self._tickers[id(ticker)] = request
        return request

    def _ticks_arrived(self, tickers: Iterable[Ticker]) -> None:
        now = time.monotonic()
        for ticker in tickers:
            request = self._tickers.get(id(ticker))
            if request is None:
                continue
            quote, elapsed = quote_of(ticker, request.right), now - request.sent_at
            request.price = quote.last or quote.close or request.price
            if request.quote_s is None and quote.bid_seen and quote.ask_seen:
                request.quote_s = elapsed
            if request.model_s is None and quote.has_model:
                request.model_s = elapsed

    def _error_arrived(self, request_id: int, code: int, _message: str, _contract: Contract | None) -> None:
        if code == RATE_EXCEEDED:
            self.pacing_errors += 1
        request = self._requests.get(request_id)
        if request is not None and not is_advisory(code):
            self.errors[code] += 1
            request.error = code

    def _ended(self, request: TimedRequest) -> None:
        if request.error is None:
            request.end_s = time.monotonic() - request.sent_at

    def _require_connection(self) -> None:
        if not self.connected:
            raise BrokerUnreachable(
                f"the connection to {self._settings.host}:{self._settings.port} was lost during the probe: run it again"
            )

    async def _answer(
        self, ask: Callable[..., Awaitable[T]], *arguments: object, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> T:
        self._require_connection()
        self.messages += 1
        try:
            return await asyncio.wait_for(ask(*arguments), timeout_s)
        except (TimeoutError, ConnectionError):
            where = f"{self._settings.host}:{self._settings.port}"
            raise BrokerUnreachable(f"{where} left a question of the probe without an answer: run it again") from None
