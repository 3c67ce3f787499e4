"""The one account behind the simulation: a million dollars in cash, nothing bought, nothing owed.

Tags and currencies as TWS names them (TWS API, account summary and account updates). Nobody trades here, so the values
never change.
"""

from collections.abc import Iterator
from typing import NamedTuple

_CASH, _NOTHING = "1000000.00", "0.00"
# Regulation T: four times the excess for a margin account, within the day.
_BUYING_POWER = "4000000.00"
_BASE = "USD"


class AccountValue(NamedTuple):
    """One value; ``currency`` is empty where the value is no money."""

    tag: str
    value: str
    currency: str


_WORDS = {
    "AccountType": "INDIVIDUAL",
    "Cushion": "1",
    "DayTradesRemaining": "-1",
    "HighestSeverity": "0",
    "Leverage": "0.00",
    "LookAheadNextChange": "0",
}
_MONEY = {
    "AccruedCash": _NOTHING,
    "AvailableFunds": _CASH,
    "BuyingPower": _BUYING_POWER,
    "EquityWithLoanValue": _CASH,
    "ExcessLiquidity": _CASH,
    "FullAvailableFunds": _CASH,
    "FullExcessLiquidity": _CASH,
    "FullInitMarginReq": _NOTHING,
    "FullMaintMarginReq": _NOTHING,
    "GrossPositionValue": _NOTHING,
    "InitMarginReq": _NOTHING,
    "LookAheadAvailableFunds": _CASH,
    "LookAheadExcessLiquidity": _CASH,
    "LookAheadInitMarginReq": _NOTHING,
    "LookAheadMaintMarginReq": _NOTHING,
    "MaintMarginReq": _NOTHING,
    "NetLiquidation": _CASH,
    "PreviousEquityWithLoanValue": _CASH,
    "RegTEquity": _CASH,
    "RegTMargin": _NOTHING,
    "SMA": _CASH,
    "SettledCash": _CASH,
    "TotalCashValue": _CASH,
}
SUMMARY = tuple(
    [AccountValue(tag, value, "") for tag, value in _WORDS.items()]
    + [AccountValue(tag, value, _BASE) for tag, value in _MONEY.items()]
)
# By currency: one that is held, and all of them in the base currency.
LEDGER = tuple(
    AccountValue(tag, value, currency)
    for currency in ("BASE", _BASE)
    for tag, value in {
        "Currency": currency,
        "CashBalance": _CASH,
        "TotalCashBalance": _CASH,
        "AccruedCash": _NOTHING,
        "StockMarketValue": _NOTHING,
        "OptionMarketValue": _NOTHING,
        "NetLiquidationByCurrency": _CASH,
        "UnrealizedPnL": _NOTHING,
        "RealizedPnL": _NOTHING,
        "ExchangeRate": "1.00",
    }.items()
)
_LEDGER_TAG = "$LEDGER"


def summary(tags: str) -> Iterator[AccountValue]:
    """The values of the comma-separated `tags`, in their own order.

    ``$LEDGER`` (of the base currency, ``:ALL`` of each) asks for the ledger. A tag that the account does not have is
    left out, as TWS does.
    """
    wanted = {tag.strip() for tag in tags.split(",")}
    yield from (one for one in SUMMARY if one.tag in wanted)
    for tag in wanted:
        name, _, currency = tag.partition(":")
        if name == _LEDGER_TAG:
            yield from (one for one in LEDGER if currency == "ALL" or one.currency == (currency or "BASE"))


def updates(account: str) -> Iterator[AccountValue]:
    """All that a subscriber of account updates is told of `account`."""
    yield AccountValue("AccountCode", account, "")
    yield AccountValue("AccountReady", "true", "")
    yield from SUMMARY
    yield from LEDGER
