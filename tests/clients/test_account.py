"""The account behind the simulation: a set of values, and nothing in the portfolio."""

from conftest import Connect
from gateway import Gateway

CASH = {("NetLiquidation", "USD"), ("TotalCashValue", "USD"), ("SettledCash", "USD"), ("AvailableFunds", "USD")}


def test_the_account_summary_has_cash_and_buying_power(market: Gateway, connect: Connect) -> None:
    values = connect(market).account_values()
    assert {key: float(values[key]) for key in CASH} == dict.fromkeys(CASH, 1_000_000.0)
    assert float(values["BuyingPower", "USD"]) == 4_000_000.0
    assert float(values["GrossPositionValue", "USD"]) == float(values["InitMarginReq", "USD"]) == 0
    assert values["AccountType", ""] == "INDIVIDUAL"
    assert float(values["CashBalance", "USD"]) == float(values["TotalCashBalance", "BASE"]) == 1_000_000.0


def test_account_updates_say_the_same_and_end(market: Gateway, connect: Connect) -> None:
    client = connect(market)
    values = client.account_updates()
    assert values["AccountReady", ""] == "true"
    summary = client.account_values()
    assert summary
    assert {key: values[key] for key in summary} == summary
