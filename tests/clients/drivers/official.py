"""Interactive Brokers' own client: callbacks on a thread of its own, no pacing, nothing kept."""

# ruff: noqa: N802, N803 - EWrapper names its callbacks and their arguments

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from driver import (
    HOST,
    PATIENCE,
    SECONDS,
    TEXT,
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
from ibapi import errors
from ibapi.account_summary_tags import AccountSummaryTags
from ibapi.client import EClient
from ibapi.common import BarData, HistoricalSession, SmartComponent, TickAttrib
from ibapi.contract import Contract, ContractDetails
from ibapi.execution import ExecutionFilter
from ibapi.order import Order
from ibapi.wrapper import EWrapper

# The client does not pace itself: its users must. 45 a second is the pace that ib_insync chose for IB's limit of 50.
REQUESTS_PER_SECOND = 45
# Reported by the client itself: a message that it does not know, or cannot read.
_UNREADABLE = {errors.UNKNOWN_ID.code(), errors.BAD_LENGTH.code(), errors.BAD_MESSAGE.code()}
_PRICES = {1: "bid", 2: "ask", 4: "last", 6: "high", 7: "low", 9: "close", 14: "open"}
_PRICES |= {66: "bid", 67: "ask", 68: "last", 72: "high", 73: "low", 75: "close", 76: "open"}
_SIZES = {0: "bid_size", 3: "ask_size", 5: "last_size", 8: "volume", 27: "call_open_interest", 28: "put_open_interest"}
_SIZES |= {29: "call_volume", 30: "put_volume"}
_SIZES |= {69: "bid_size", 70: "ask_size", 71: "last_size", 74: "volume"}
_GENERICS = {23: "historical_volatility", 24: "implied_volatility"}
_MODELS, _CALCULATED = {13, 83}, 53


class CallbackSubscription(Subscription):
    """A request whose ticks are gathered here, since the client keeps none."""

    def __init__(self, req_id: int) -> None:
        super().__init__(req_id)
        self._quote = Quote()

    @property
    def quote(self) -> Quote:
        return self._quote

    def tick(self, tick_type: int | None, **values: Any) -> None:
        """Take a tick over."""
        self.updates += 1
        if tick_type is not None:
            self.tick_types.add(tick_type)
        self._quote = replace(self._quote, **values)


class OfficialClient(Client, EWrapper, EClient):
    """An EWrapper and an EClient in one, as IB's samples have it."""

    version = 178

    def __init__(self) -> None:
        Client.__init__(self)
        EWrapper.__init__(self)
        EClient.__init__(self, wrapper=self)
        self.subscriptions: dict[int, CallbackSubscription] = {}
        self._bars: dict[int, Answer[Bar]] = {}
        self._rows: dict[int | str, list[Any]] = {}
        self._ended: set[int | str] = set()
        self._accounts: list[str] = []
        self._first_id = 0
        self._last_id = 0
        self._log = _Complaints(self.misunderstood)
        logging.getLogger("ibapi.decoder").addHandler(self._log)

    # -- the suite's side

    def wait_if(self, condition: Callable[[], object], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    @property
    def connected(self) -> bool:
        return bool(self.isConnected())

    def connect(self, port: int, client_id: int, timeout: float = PATIENCE) -> None:
        EClient.connect(self, HOST, port, client_id)
        if self.connected:
            threading.Thread(target=self._run, name=f"ibapi-{client_id}", daemon=True).start()
            self.wait_if(lambda: (self._first_id and self._accounts) or not self.connected, timeout)
        if not (self.connected and self._first_id and self._accounts):
            raise NotConnected(f"errors: {self.errors()}")

    def _run(self) -> None:
        try:
            self.run()
        except Exception as reason:
            self.misunderstood.append(f"the client's message loop ended: {reason!r}")

    def disconnect(self) -> None:
        # Also called by the client itself, when its message loop ends. Its reader sits in a receive for up to a second,
        # and so long the gateway would count a client of a test that is over.
        if self.conn is not None and self.conn.socket is not None:
            with suppress(OSError):
                self.conn.socket.shutdown(socket.SHUT_RDWR)
        EClient.disconnect(self)
        logging.getLogger("ibapi.decoder").removeHandler(self._log)

    @property
    def server_version(self) -> int:
        return self.serverVersion()

    @property
    def accounts(self) -> list[str]:
        return self._accounts

    def current_time(self) -> datetime:
        self.reqCurrentTime()
        return datetime.fromtimestamp(self._gathered("time")[0], UTC)

    def account_values(self) -> dict[tuple[str, str], str]:
        req_id = self._new_id()
        self.reqAccountSummary(req_id, "All", f"{AccountSummaryTags.AllTags},$LEDGER:ALL")
        return dict(self._gathered(req_id))

    def account_updates(self) -> dict[tuple[str, str], str]:
        self.reqAccountUpdates(True, self.accounts[0])
        self._gathered("account")
        return dict(self._rows.pop("account values"))

    def smart_components(self, key: str) -> Answer[tuple[int, str, str]]:
        req_id = self._new_id()
        self.reqSmartComponents(req_id, key)
        return Answer(req_id, self._gathered(req_id))

    def historical_schedule(self, terms: Terms, days: int, *, regular: bool = True) -> Answer[tuple[str, str, str]]:
        req_id = self._new_id()
        self.reqHistoricalData(req_id, _new(terms), "", f"{days} D", "1 day", "SCHEDULE", int(regular), TEXT, False, [])
        return Answer(req_id, self._gathered(req_id))

    def calculate_volatility(self, terms: Terms, price: float, spot: float) -> Answer[Model]:
        req_id = self._new_id()
        self.calculateImpliedVolatility(req_id, _new(terms), price, spot, [])
        return Answer(req_id, self._gathered(req_id))

    def calculate_price(self, terms: Terms, volatility: float, spot: float) -> Answer[Model]:
        req_id = self._new_id()
        self.calculateOptionPrice(req_id, _new(terms), volatility, spot, [])
        return Answer(req_id, self._gathered(req_id))

    def account_summary(self) -> dict[str, int]:
        self.reqPositions()
        self.reqOpenOrders()
        self.reqCompletedOrders(False)
        execution_id = self._new_id()
        self.reqExecutions(execution_id, ExecutionFilter())
        self._rows.pop("account values", None)
        self.reqAccountUpdates(True, self.accounts[0])
        multi_id = self._new_id()
        self.reqAccountUpdatesMulti(multi_id, self.accounts[0], "", False)
        for end in ("account", multi_id):
            self._gathered(end)
        counts = {what: len(self._gathered(what)) for what in ("positions", "orders", "completed orders")}
        return counts | {"executions": len(self._gathered(execution_id))}

    def contract_details(self, terms: Terms) -> Answer[Details]:
        req_id = self._new_id()
        self.reqContractDetails(req_id, _new(terms))
        return Answer(req_id, self._gathered(req_id))

    def qualify(self, terms: Iterable[Terms]) -> list[Terms | None]:
        ids = []
        for one in terms:
            ids.append(self._new_id())
            self.reqContractDetails(ids[-1], _new(one))
            time.sleep(1 / REQUESTS_PER_SECOND)
        answers = [self._gathered(req_id) for req_id in ids]
        return [rows[0].contract if len(rows) == 1 else None for rows in answers]

    def option_parameters(self, symbol: str, conid: int, sec_type: str = "STK") -> Answer[OptionParameters]:
        req_id = self._new_id()
        self.reqSecDefOptParams(req_id, symbol, "", sec_type, conid)
        return Answer(req_id, self._gathered(req_id))

    def market_data_type(self, number: int) -> None:
        self.reqMarketDataType(number)

    def subscribe(self, terms: Terms, generics: str = "", *, snapshot: bool = False) -> CallbackSubscription:
        subscription = CallbackSubscription(self._new_id())
        self.subscriptions[subscription.req_id] = subscription
        self.reqMktData(subscription.req_id, _new(terms), generics, snapshot, False, [])
        return subscription

    def subscribe_again(self, subscription: Subscription, terms: Terms) -> None:
        self.reqMktData(subscription.req_id, _new(terms), "", False, False, [])

    def cancel(self, subscription: Subscription) -> None:
        self.cancelMktData(subscription.req_id)

    def cancel_id(self, req_id: int) -> None:
        self.cancelMktData(req_id)

    def ask_bars(
        self, terms: Terms, what: str, *, end: str, duration: str, size: str, date_format: int = SECONDS
    ) -> Answer[Bar]:
        answer: Answer[Bar] = Answer(self._new_id())
        self._bars[answer.req_id] = answer
        self.reqHistoricalData(answer.req_id, _new(terms), end, duration, size, what, 1, date_format, False, [])
        return answer

    def head_timestamp(self, terms: Terms, what: str = "TRADES") -> Answer[datetime]:
        req_id = self._new_id()
        self.reqHeadTimeStamp(req_id, _new(terms), what, 1, 2)
        return Answer(req_id, [datetime.fromtimestamp(int(row), UTC) for row in self._gathered(req_id)])

    def place_order(self, terms: Terms) -> int:
        order = Order()
        order.action, order.orderType, order.totalQuantity, order.lmtPrice = "BUY", "LMT", Decimal(1), 1.0
        order_id = self._new_id()
        self.placeOrder(order_id, _new(terms), order)
        return order_id

    def unthrottle(self) -> None:
        """It has no throttle."""

    def ask_time(self, times: int) -> None:
        for _ in range(times):
            if self.connected:
                self.reqCurrentTime()

    def _new_id(self) -> int:
        self._last_id = max(self._last_id, self._first_id) + 1
        return self._last_id

    def _gathered(self, key: int | str) -> list[Any]:
        """What a request has gathered, once it is over: answered, or refused."""
        self.wait(lambda: key in self._ended or (isinstance(key, int) and self.reports_of(key)))
        self._ended.discard(key)
        return self._rows.pop(key, [])

    def _row(self, key: int | str, row: Any) -> None:
        self._rows.setdefault(key, []).append(row)

    # -- the client's side: called on the thread of its message loop

    def error(
        self, reqId: int, errorTime: int, errorCode: int, errorString: str, advancedOrderRejectJson: str = ""
    ) -> None:
        if errorCode in _UNREADABLE:
            self.misunderstood.append(errorString)
        self.reports.append(Report(reqId, errorCode, errorString))

    def managedAccounts(self, accountsList: str) -> None:
        self._accounts = [account for account in accountsList.split(",") if account]

    def nextValidId(self, orderId: int) -> None:
        self._first_id = orderId

    def currentTime(self, time: int) -> None:
        self._rows["time"] = [time]
        self._ended.add("time")

    def position(self, account: str, contract: Contract, position: Decimal, avgCost: float) -> None:
        self._row("positions", contract)

    def positionEnd(self) -> None:
        self._ended.add("positions")

    def openOrder(self, orderId: int, contract: Contract, order: Order, orderState: object) -> None:
        self._row("orders", order)

    def openOrderEnd(self) -> None:
        self._ended.add("orders")

    def completedOrder(self, contract: Contract, order: Order, orderState: object) -> None:
        self._row("completed orders", order)

    def completedOrdersEnd(self) -> None:
        self._ended.add("completed orders")

    def execDetails(self, reqId: int, contract: Contract, execution: object) -> None:
        self._row(reqId, execution)

    def execDetailsEnd(self, reqId: int) -> None:
        self._ended.add(reqId)

    def accountSummary(self, reqId: int, account: str, tag: str, value: str, currency: str) -> None:
        self._row(reqId, ((tag, currency), value))

    def accountSummaryEnd(self, reqId: int) -> None:
        self._ended.add(reqId)

    def updateAccountValue(self, key: str, val: str, currency: str, accountName: str) -> None:
        self._row("account values", ((key, currency), val))

    def updatePortfolio(self, contract: Contract, *values: object) -> None:
        self.misunderstood.append(f"a position in {contract}, of an account that has none")

    def smartComponents(self, reqId: int, smartComponentMap: list[SmartComponent]) -> None:
        self._rows[reqId] = [(one.bitNumber, one.exchange, one.exchangeLetter) for one in smartComponentMap]
        self._ended.add(reqId)

    def historicalSchedule(
        self, reqId: int, startDateTime: str, endDateTime: str, timeZone: str, sessions: list[HistoricalSession]
    ) -> None:
        self._rows[reqId] = [(one.startDateTime, one.endDateTime, one.refDate) for one in sessions]
        self._ended.add(reqId)

    def accountDownloadEnd(self, accountName: str) -> None:
        self._ended.add("account")

    def accountUpdateMultiEnd(self, reqId: int) -> None:
        self._ended.add(reqId)

    def contractDetails(self, reqId: int, contractDetails: ContractDetails) -> None:
        self._row(reqId, _details(contractDetails))

    def contractDetailsEnd(self, reqId: int) -> None:
        self._ended.add(reqId)

    def securityDefinitionOptionParameter(
        self,
        reqId: int,
        exchange: str,
        underlyingConId: int,
        tradingClass: str,
        multiplier: str,
        expirations: set[str],
        strikes: set[float],
    ) -> None:
        terms = (exchange, underlyingConId, tradingClass, multiplier)
        self._row(reqId, OptionParameters(*terms, frozenset(expirations), frozenset(strikes)))

    def securityDefinitionOptionParameterEnd(self, reqId: int) -> None:
        self._ended.add(reqId)

    def historicalData(self, reqId: int, bar: BarData) -> None:
        self._row(reqId, _bar(bar))

    def historicalDataEnd(self, reqId: int, start: str, end: str) -> None:
        self._bars[reqId].fill(self._rows.pop(reqId, []))

    def headTimestamp(self, reqId: int, headTimestamp: str) -> None:
        self._row(reqId, headTimestamp)
        self._ended.add(reqId)

    def marketDataType(self, reqId: int, marketDataType: int) -> None:
        self._tick(reqId, None, data_type=marketDataType)

    def tickReqParams(self, tickerId: int, minTick: float, bboExchange: str, snapshotPermissions: int) -> None:
        self._tick(tickerId, None, min_tick=minTick, exchange_map=bboExchange or None)

    def tickPrice(self, reqId: int, tickType: int, price: float, attrib: TickAttrib) -> None:
        self._tick(reqId, tickType, **{_PRICES[tickType]: price})

    def tickSize(self, reqId: int, tickType: int, size: Decimal) -> None:
        self._tick(reqId, tickType, **{_SIZES[tickType]: float(size)})

    def tickGeneric(self, reqId: int, tickType: int, value: float) -> None:
        self._tick(reqId, tickType, **{_GENERICS[tickType]: value})

    def tickOptionComputation(self, reqId: int, tickType: int, tickAttrib: int, *values: float | None) -> None:
        if tickType == _CALCULATED:
            self._row(reqId, Model(*values))
            self._ended.add(reqId)
        else:
            self._tick(reqId, tickType, **({"model": Model(*values)} if tickType in _MODELS else {}))

    def tickSnapshotEnd(self, reqId: int) -> None:
        self.subscriptions[reqId].ended = True

    def _tick(self, req_id: int, tick_type: int | None, **values: Any) -> None:
        if req_id in self.subscriptions:
            self.subscriptions[req_id].tick(tick_type, **values)
        else:
            self.misunderstood.append(f"a tick for request {req_id}, which is none")


class _Complaints(logging.Handler):
    """Keeps what the decoder logs as an error: a message with too many or too few fields."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(record.getMessage())


def _new(terms: Terms) -> Contract:
    contract = Contract()
    contract.conId, contract.symbol, contract.secType = terms.conid, terms.symbol, terms.sec_type
    contract.lastTradeDateOrContractMonth, contract.right = terms.expiry, terms.right
    if terms.strike:
        contract.strike = terms.strike
    contract.multiplier, contract.exchange, contract.currency = terms.multiplier, terms.exchange, terms.currency
    contract.primaryExchange = terms.primary_exchange
    contract.localSymbol, contract.tradingClass = terms.local_symbol, terms.trading_class
    if terms.isin:
        contract.secIdType, contract.secId = "ISIN", terms.isin
    return contract


def _details(row: ContractDetails) -> Details:
    one = row.contract
    return Details(
        Terms(
            one.symbol,
            one.secType,
            one.lastTradeDateOrContractMonth,
            one.strike,
            one.right,
            one.exchange,
            one.currency,
            one.conId,
            one.localSymbol,
            one.tradingClass,
            one.multiplier,
            one.primaryExchange,
        ),
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
        next((pair.value for pair in row.secIdList or [] if pair.tag == "ISIN"), ""),
        *(float(size) for size in (row.minSize, row.sizeIncrement, row.suggestedSizeIncrement)),
    )


def _bar(bar: BarData) -> Bar:
    prices = bar.open, bar.high, bar.low, bar.close
    return Bar(_instant(bar.date), *prices, float(bar.volume), float(bar.wap), bar.barCount)


def _instant(text: str) -> date | datetime:
    """``20261120``, ``1795186800`` or ``20261120 10:00:00 US/Eastern``."""
    if " " in text:
        day, clock, zone = text.split()
        local = datetime.strptime(f"{day} {clock}", "%Y%m%d %H:%M:%S").replace(tzinfo=ZoneInfo(zone))
        return local.astimezone(UTC)
    if len(text) == 8:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    return datetime.fromtimestamp(int(text), UTC)
