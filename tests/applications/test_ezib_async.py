"""ezib-async: account, a stock, an option of its chain, and their quotes."""

import asyncio
from typing import Any

from ezib_async import ezIBAsync
from gateway import HOST, Gateway


async def read(port: int) -> dict[str, Any]:
    """What the program knows after it has asked for everything."""
    one = ezIBAsync(ibhost=HOST, ibport=port, ibclient=1)
    await one.connectAsync()
    try:
        stock = await one.createStockContract("AAPL")
        (chain,) = [
            row
            for row in await one.ib.reqSecDefOptParamsAsync("AAPL", "", "STK", stock.conId)
            if (row.exchange, row.tradingClass) == ("SMART", "AAPL")
        ]
        (ticker,) = await one.ib.reqTickersAsync(stock)
        strike = min(chain.strikes, key=lambda each: abs(each - ticker.last))
        options = [await one.createOptionContract("AAPL", expiry, strike, "C") for expiry in sorted(chain.expirations)]
        option = next(each for each in options if each is not None)
        seen: dict[str, Any] = {}
        for event in (one.pendingMarketTickersEvent, one.pendingOptionsTickersEvent):
            event += lambda tickers: seen.update({each.contract.secType: each for each in tickers})
        await one.requestMarketData([stock, option])
        await asyncio.sleep(2)
        return {"account": one.getAccount(), "holdings": (one.getPortfolio(), one.getPosition()), **seen}
    finally:
        one.disconnect()


def test_account_stock_and_option_are_read(gateway: Gateway) -> None:
    known = asyncio.run(read(gateway.port))
    assert float(known["account"]["NetLiquidation"]) == 1_000_000
    assert float(known["account"]["BuyingPower"]) == 4_000_000
    assert known["holdings"] == ({}, {})
    for kind in ("STK", "OPT"):
        assert 0 < known[kind].bid < known[kind].ask
    assert 0 < known["OPT"].modelGreeks.delta < 1
