"""nautilus_trader: a node loads AAPL and its chain, subscribes to quotes, and has the account."""

import asyncio

from gateway import HOST, Gateway
from nautilus_trader.adapters.interactive_brokers.common import IBContract
from nautilus_trader.adapters.interactive_brokers.config import (
    InteractiveBrokersDataClientConfig,
    InteractiveBrokersExecClientConfig,
    InteractiveBrokersInstrumentProviderConfig,
)
from nautilus_trader.adapters.interactive_brokers.factories import (
    InteractiveBrokersLiveDataClientFactory,
    InteractiveBrokersLiveExecClientFactory,
)
from nautilus_trader.config import LoggingConfig, TradingNodeConfig
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.instruments import Equity, OptionContract
from nautilus_trader.trading.strategy import Strategy

CHAIN = InteractiveBrokersInstrumentProviderConfig(
    load_contracts=frozenset(
        [
            IBContract(
                secType="STK",
                symbol="AAPL",
                exchange="SMART",
                primaryExchange="NASDAQ",
                build_options_chain=True,
                min_expiry_days=15,
                max_expiry_days=40,
            )
        ]
    )
)
OPTIONS_WATCHED = 5


class Watch(Strategy):  # type: ignore[misc]
    """Subscribes to the stock and some options, and keeps their latest quotes."""

    def __init__(self) -> None:
        super().__init__()
        self.quotes: dict[str, QuoteTick] = {}
        self.complete = asyncio.Event()

    def on_start(self) -> None:
        """Subscribe to what has been loaded."""
        loaded = self.cache.instruments()
        options = sorted((one for one in loaded if isinstance(one, OptionContract)), key=lambda one: str(one.id))
        middle = len(options) // 2
        for one in [*(one for one in loaded if isinstance(one, Equity)), *options[middle : middle + OPTIONS_WATCHED]]:
            self.subscribe_quote_ticks(one.id)

    def on_quote_tick(self, tick: QuoteTick) -> None:
        """Keep it."""
        self.quotes[str(tick.instrument_id)] = tick
        if len(self.quotes) > OPTIONS_WATCHED:
            self.complete.set()


def test_a_node_has_stock_chain_quotes_and_account(gateway: Gateway) -> None:
    connection = {"ibg_host": HOST, "ibg_port": gateway.port, "ibg_client_id": 1, "instrument_provider": CHAIN}
    node = TradingNode(
        config=TradingNodeConfig(
            trader_id="WATCH-001",
            logging=LoggingConfig(log_level="ERROR"),
            data_clients={"IB": InteractiveBrokersDataClientConfig(**connection)},
            exec_clients={"IB": InteractiveBrokersExecClientConfig(account_id="SIM0000001", **connection)},
        )
    )
    watch = Watch()
    node.trader.add_strategy(watch)
    node.add_data_client_factory("IB", InteractiveBrokersLiveDataClientFactory)
    node.add_exec_client_factory("IB", InteractiveBrokersLiveExecClientFactory)
    node.build()

    async def run() -> None:
        running = asyncio.ensure_future(node.run_async())
        try:
            await asyncio.wait_for(watch.complete.wait(), 60)
        finally:
            await node.stop_async()
            running.cancel()

    node.get_event_loop().run_until_complete(run())
    loaded = node.cache.instruments()
    (stock,) = [one for one in loaded if isinstance(one, Equity)]
    assert stock.isin == "US0378331005"
    assert sum(isinstance(one, OptionContract) for one in loaded) > 50
    for quote in watch.quotes.values():
        assert quote.bid_price < quote.ask_price
    (account,) = node.cache.accounts()
    assert [float(money) for money in account.balances_total().values()] == [1_000_000]
