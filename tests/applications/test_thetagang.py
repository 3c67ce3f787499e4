"""thetagang: its scanner reads the chain, quotes, greeks and open interest, and its accounting the account."""

import asyncio

from gateway import HOST, Gateway
from ib_async import IB, Stock, Ticker
from thetagang.config import Config
from thetagang.ibkr import IBKR
from thetagang.orders import Orders
from thetagang.trading_operations import OptionChainScanner, OrderOperations

ACCOUNT = "SIM0000001"
CONFIG = {
    "meta": {"schema_version": 2},
    "run": {"strategies": ["wheel"]},
    "runtime": {
        "account": {"number": ACCOUNT, "margin_usage": 0.5},
        "option_chains": {"expirations": 2, "strikes": 10},
        "orders": {"exchange": "SMART"},
    },
    "portfolio": {"symbols": {"AAPL": {"weight": 1.0, "primary_exchange": "NASDAQ"}}},
    "strategies": {
        "wheel": {
            "defaults": {
                "target": {"dte": 20, "delta": 0.4, "minimum_open_interest": 1},
                "roll_when": {"dte": 7},
            }
        }
    },
}


async def scan(port: int) -> tuple[Ticker, float, float]:
    """The put that the scanner chooses, and net liquidation from the cache and from the summary."""
    ib = IB()
    await ib.connectAsync(HOST, port, clientId=1)
    try:
        config = Config(**CONFIG)
        broker = IBKR(ib, 5, "SMART")
        orders = OrderOperations(config=config, account_number=ACCOUNT, orders=Orders(), data_store=None)
        scanner = OptionChainScanner(config=config, ibkr=broker, order_ops=orders)
        (stock,) = await broker.qualify_contracts(Stock("AAPL", "SMART", "USD", primaryExchange="NASDAQ"))
        found = await scanner.find_eligible_contracts(stock, "P", None, lambda: 0.01)
        await broker.refresh_account(ACCOUNT)
        summary = {one.tag: one.value for one in await broker.account_summary(ACCOUNT)}
        assert broker.portfolio(ACCOUNT) == []
        return found, broker.cached_net_liquidation(ACCOUNT), float(summary["NetLiquidation"])
    finally:
        ib.disconnect()


def test_the_scanner_finds_a_put_by_delta_and_open_interest(gateway: Gateway) -> None:
    found, cached, summarised = asyncio.run(scan(gateway.port))
    assert found.contract is not None
    assert (found.contract.symbol, found.contract.right) == ("AAPL", "P")
    assert found.modelGreeks is not None
    assert -0.4 <= found.modelGreeks.delta < 0
    assert found.putOpenInterest >= 1
    assert 0 < found.bid < found.ask
    assert cached == summarised == 1_000_000
