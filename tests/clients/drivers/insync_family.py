"""ib_insync and its successor ib_async: the same calls, and the differences where they have them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, date, datetime
from math import isnan
from typing import Any

from driver import (
    HOST,
    PATIENCE,
    SECONDS,
    Answer,
    Bar,
    Client,
    Details,
    Model,
    NotConnected,
    OptionParameters,
    Quote,
    Report,
    Subscription,
    Terms,
)

from drivers import installed

if installed() == "ib_async":
    import ib_async as ib
else:
    import ib_insync as ib

_GREEKS = ("impliedVol", "delta", "optPrice", "pvDividend", "gamma", "vega", "theta", "undPrice")


class TickerSubscription(Subscription):
    """A request whose ticks the client gathers in a Ticker."""

    def __init__(self, req_id: int, ticker: ib.Ticker) -> None:
        super().__init__(req_id)
        self.ticker = ticker
        ticker.updateEvent += self._updated

    def _updated(self, ticker: ib.Ticker) -> None:
        self.updates += 1
        self.tick_types.update(tick.tickType for tick in ticker.ticks)

    @property
    def quote(self) -> Quote:
        one = self.ticker
        greeks = one.modelGreeks
        return Quote(
            *[
                _arrived(value)
                for value in (
                    *(one.bid, one.ask, one.last, one.bidSize, one.askSize, one.lastSize, one.volume),
                    *(one.open, one.high, one.low, one.close, one.callOpenInterest, one.putOpenInterest),
                    *(one.histVolatility, one.impliedVolatility),
                )
            ],
            model=_model(greeks) if greeks else None,
            data_type=one.marketDataType,
            min_tick=_arrived(getattr(one, "minTick", float("nan"))),
            exchange_map=one.bboExchange or None,
            call_volume=_arrived(one.callVolume),
            put_volume=_arrived(one.putVolume),
        )


class InsyncClient(Client):
    """An `IB` and the event loop it runs on."""

    version = 178 if installed() == "ib_async" else 176

    def __init__(self) -> None:
        super().__init__()
        self.ib = ib.IB()
        # the loop that the client's own blocking calls run on
        self._loop = ib.util.getLoop()
        self.ib.errorEvent += lambda req_id, code, text, contract: self.reports.append(Report(req_id, code, text))
        self._log = _Complaints(self.misunderstood)
        logging.getLogger(installed()).addHandler(self._log)

    def wait_if(self, condition: Callable[[], object], seconds: float) -> bool:
        # not IB.sleep, which raises when the gateway closes the connection
        deadline = self._loop.time() + seconds
        while not condition():
            if self._loop.time() > deadline:
                return False
            self._loop.run_until_complete(asyncio.sleep(0.005))
        return True

    @property
    def connected(self) -> bool:
        return self.ib.isConnected()

    def connect(self, port: int, client_id: int, timeout: float = PATIENCE) -> None:
        try:
            self.ib.connect(HOST, port, client_id, timeout)
        except (TimeoutError, ConnectionError) as reason:
            raise NotConnected(repr(reason)) from None

    def disconnect(self) -> None:
        self.ib.disconnect()
        logging.getLogger(installed()).removeHandler(self._log)

    @property
    def server_version(self) -> int:
        return self.ib.client.serverVersion()

    @property
    def accounts(self) -> list[str]:
        return self.ib.managedAccounts()

    def current_time(self) -> datetime:
        return self.ib.reqCurrentTime()

    def account_values(self) -> dict[tuple[str, str], str]:
        return {(one.tag, one.currency): one.value for one in self.ib.accountSummary()}

    def account_updates(self) -> dict[tuple[str, str], str]:
        self.ib.reqAccountUpdates(self.accounts[0])
        assert self.ib.portfolio() == []
        return {(one.tag, one.currency): one.value for one in self.ib.accountValues(self.accounts[0])}

    def smart_components(self, key: str) -> Answer[tuple[int, str, str]]:
        req_id = self._next()
        rows = self._ask(req_id, self.ib.reqSmartComponentsAsync(key))
        return Answer(req_id, [(row.bitNumber, row.exchange, row.exchangeLetter) for row in rows])

    def historical_schedule(self, terms: Terms, days: int, *, regular: bool = True) -> Answer[tuple[str, str, str]]:
        req_id = self._next()
        found = self._ask(req_id, self.ib.reqHistoricalScheduleAsync(_new(terms), days, useRTH=regular))
        return Answer(req_id, [(one.startDateTime, one.endDateTime, one.refDate) for one in found.sessions])

    def calculate_volatility(self, terms: Terms, price: float, spot: float) -> Answer[Model]:
        req_id = self._next()
        found = self._ask(req_id, self.ib.calculateImpliedVolatilityAsync(_new(terms), price, spot))
        return Answer(req_id, [_model(found)] if found else [])

    def calculate_price(self, terms: Terms, volatility: float, spot: float) -> Answer[Model]:
        req_id = self._next()
        found = self._ask(req_id, self.ib.calculateOptionPriceAsync(_new(terms), volatility, spot))
        return Answer(req_id, [_model(found)] if found else [])

    def account_summary(self) -> dict[str, int]:
        return {
            "positions": len(self.ib.reqPositions()),
            "orders": len(self.ib.reqOpenOrders()),
            "completed orders": len(self.ib.reqCompletedOrders(False)),
            "executions": len(self.ib.reqExecutions()),
        }

    def contract_details(self, terms: Terms) -> Answer[Details]:
        req_id = self._next()
        return Answer(
            req_id, [_details(row) for row in self._ask(req_id, self.ib.reqContractDetailsAsync(_new(terms)))]
        )

    def qualify(self, terms: Iterable[Terms]) -> list[Terms | None]:
        contracts = [_new(one) for one in terms]
        found = self.ib.qualifyContracts(*contracts)
        # ib_insync drops what it cannot qualify, ib_async leaves None in its place
        kept = {id(contract) for contract in found if contract is not None}
        return [_terms(contract) if id(contract) in kept else None for contract in contracts]

    def option_parameters(self, symbol: str, conid: int, sec_type: str = "STK") -> Answer[OptionParameters]:
        req_id = self._next()
        rows = self._ask(req_id, self.ib.reqSecDefOptParamsAsync(symbol, "", sec_type, conid))
        return Answer(
            req_id,
            [
                OptionParameters(
                    row.exchange,
                    int(row.underlyingConId),
                    row.tradingClass,
                    row.multiplier,
                    frozenset(row.expirations),
                    frozenset(row.strikes),
                )
                for row in rows
            ],
        )

    def market_data_type(self, number: int) -> None:
        self.ib.reqMarketDataType(number)

    def subscribe(self, terms: Terms, generics: str = "", *, snapshot: bool = False) -> TickerSubscription:
        contract, req_id = _new(terms), self._next()
        if snapshot and not generics:
            # what `reqTickers` does for each contract; its id is known and nothing waits
            future = self.ib.wrapper.startReq(req_id, contract)
            subscription = TickerSubscription(req_id, self.ib.wrapper.startTicker(req_id, contract, "snapshot"))
            self.ib.client.getReqId()
            self.ib.client.reqMktData(req_id, contract, "", True, False, [])
            future.add_done_callback(lambda done: setattr(subscription, "ended", True))
            return subscription
        return TickerSubscription(req_id, self.ib.reqMktData(contract, generics, snapshot))

    def subscribe_again(self, subscription: Subscription, terms: Terms) -> None:
        self.ib.client.reqMktData(subscription.req_id, _new(terms), "", False, False, [])

    def cancel(self, subscription: Subscription) -> None:
        assert isinstance(subscription, TickerSubscription)
        self.ib.cancelMktData(subscription.ticker.contract)
        # the client would hand out the old Ticker, with its old quotes, to the next request for the contract
        kept = self.ib.wrapper.tickers
        for key in [key for key, ticker in kept.items() if ticker is subscription.ticker]:
            del kept[key]

    def cancel_id(self, req_id: int) -> None:
        self.ib.client.cancelMktData(req_id)

    def ask_bars(
        self, terms: Terms, what: str, *, end: str, duration: str, size: str, date_format: int = SECONDS
    ) -> Answer[Bar]:
        answer: Answer[Bar] = Answer(self._next())
        task = self._start(
            self.ib.reqHistoricalDataAsync(_new(terms), end, duration, size, what, useRTH=True, formatDate=date_format)
        )
        task.add_done_callback(lambda done: _failed(done) or answer.fill([_bar(row) for row in done.result()]))
        return answer

    def head_timestamp(self, terms: Terms, what: str = "TRADES") -> Answer[datetime]:
        req_id = self._next()
        found = self._ask(req_id, self.ib.reqHeadTimeStampAsync(_new(terms), what, True, 2))
        return Answer(req_id, [found] if isinstance(found, datetime) else [])

    def place_order(self, terms: Terms) -> int:
        return self.ib.placeOrder(_new(terms), ib.LimitOrder("BUY", 1, 1.0)).order.orderId

    def unthrottle(self) -> None:
        self.ib.client.MaxRequests = 0

    def ask_time(self, times: int) -> None:
        for _ in range(times):
            if self.connected:
                self.ib.client.reqCurrentTime()

    def _next(self) -> int:
        """The id of the next request: ids go up by one."""
        return self.ib.client.getReqId() + 1

    def _start(self, request: Awaitable[Any]) -> "asyncio.Future[Any]":
        """Have a request sent; its answer is awaited in the background."""
        task = asyncio.ensure_future(request, loop=self._loop)
        task.add_done_callback(_failed)
        self._loop.run_until_complete(asyncio.sleep(0))
        return task

    def _ask(self, req_id: int, request: Awaitable[Any]) -> Any:
        """The answer of `request`, an empty list when it is refused; ib_async waits on after an error 321."""
        task = self._start(request)
        self.wait(lambda: task.done() or self.reports_of(req_id))
        self.wait_if(task.done, 0.2)
        if not task.done():
            task.cancel()
            return []
        return task.result()


class _Complaints(logging.Handler):
    """Keeps what the client logs about messages it cannot read, or that belong to no request of its own."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info or "Unknown reqId" in text or "timed out" in text:
            self._kept.append(text)


def _failed(done: "asyncio.Future[Any]") -> bool:
    """Whether a request has come to nothing: the connection was lost, or nobody waits for it any more."""
    return done.cancelled() or done.exception() is not None


def _arrived(value: float) -> float | None:
    return None if isnan(value) else float(value)


def _model(greeks: ib.OptionComputation) -> Model:
    return Model(*[getattr(greeks, name) for name in _GREEKS])


def _new(terms: Terms) -> ib.Contract:
    return ib.Contract(
        secType=terms.sec_type,
        conId=terms.conid,
        symbol=terms.symbol,
        lastTradeDateOrContractMonth=terms.expiry,
        strike=terms.strike,
        right=terms.right,
        multiplier=terms.multiplier,
        exchange=terms.exchange,
        primaryExchange=terms.primary_exchange,
        currency=terms.currency,
        localSymbol=terms.local_symbol,
        tradingClass=terms.trading_class,
        secIdType="ISIN" if terms.isin else "",
        secId=terms.isin,
    )


def _terms(contract: ib.Contract) -> Terms:
    return Terms(
        contract.symbol,
        contract.secType,
        # with a time and a zone behind it in ib_insync, of which qualifyContracts rids it
        contract.lastTradeDateOrContractMonth.split(" ")[0],
        contract.strike,
        contract.right,
        contract.exchange,
        contract.currency,
        contract.conId,
        contract.localSymbol,
        contract.tradingClass,
        contract.multiplier,
        contract.primaryExchange,
    )


def _details(row: ib.ContractDetails) -> Details:
    return Details(
        _terms(row.contract),
        row.minTick,
        row.underConId,
        row.underSymbol,
        row.underSecType,
        row.contractMonth,
        row.realExpirationDate,
        row.timeZoneId,
        row.tradingHours,
        row.liquidHours,
        row.validExchanges,
        row.marketRuleIds,
        row.stockType,
        row.longName,
        row.industry,
        row.category,
        next((pair.value for pair in row.secIdList if pair.tag == "ISIN"), ""),
        *(float(size) for size in (row.minSize, row.sizeIncrement, row.suggestedSizeIncrement)),
    )


def _bar(row: ib.BarData) -> Bar:
    at = row.date.astimezone(UTC) if isinstance(row.date, datetime) else row.date
    assert isinstance(at, date)
    return Bar(at, row.open, row.high, row.low, row.close, row.volume, row.average, row.barCount)
