"""Contract details and option parameters, through ib_insync."""

from datetime import UTC, date, datetime

import numpy as np
import pytest
from ib_insync import Contract, ContractDetails, Index, Option, Stock

from ingest.calendar.sessions import sessions_between
from tests.tws_simulator.conftest import Client, ConnectClient, StartGateway
from tws_simulator import UnderlyingSpec
from tws_simulator.worlds.instruments import occ_symbol, option_conids, parse_occ_symbol


@pytest.fixture
async def client(start_gateway: StartGateway, connect: ConnectClient) -> Client:
    symbols = (UnderlyingSpec("AAPL", conid=265598, price=200.0), "BRK B", "MSFT")
    return await connect(await start_gateway(symbols=symbols))


async def some_option(client: Client) -> Option:
    (stock,) = await client.qualifyContractsAsync(Stock("AAPL", "SMART", "USD"))
    parameters = await client.reqSecDefOptParamsAsync("AAPL", "", "STK", stock.conId)
    smart = next(one for one in parameters if one.exchange == "SMART")
    expiry = smart.expirations[2]
    middle = sorted(smart.strikes, key=lambda strike: abs(strike - 200))[:5]
    found = await client.qualifyContractsAsync(*[Option("AAPL", expiry, strike, "C", "SMART") for strike in middle])
    assert isinstance(found[0], Option)
    return found[0]


async def test_the_universe_files_contract_id_wins(client: Client) -> None:
    (stock,) = await client.qualifyContractsAsync(Stock("AAPL", "SMART", "USD"))
    assert (stock.conId, stock.localSymbol, stock.primaryExchange) == (265598, "AAPL", "NASDAQ")


async def test_an_option_is_found_by_id_by_terms_and_by_local_symbol(client: Client) -> None:
    option = await some_option(client)
    by_id, by_name = (
        Contract(conId=option.conId, exchange="SMART"),
        Option(localSymbol=option.localSymbol, exchange="SMART"),
    )
    found = await client.qualifyContractsAsync(by_id, by_name)
    terms = {(c.conId, c.lastTradeDateOrContractMonth, c.strike, c.right, c.multiplier, c.tradingClass) for c in found}
    assert terms == {(option.conId, option.lastTradeDateOrContractMonth, option.strike, "C", "100", "AAPL")}
    expiry = datetime.strptime(option.lastTradeDateOrContractMonth, "%Y%m%d").replace(tzinfo=UTC).date()
    assert option.localSymbol == occ_symbol("AAPL", expiry, "C", option.strike)
    (details,) = await client.reqContractDetailsAsync(option)
    assert details.underConId == 265598
    assert details.contractMonth == option.lastTradeDateOrContractMonth[:6]
    assert details.tradingHours.startswith("20261120:0930-20261120:1600;20261121:CLOSED")


async def test_the_root_of_a_symbol_with_a_blank_has_none(client: Client) -> None:
    details = await client.reqContractDetailsAsync(Option("BRK B", exchange="SMART", right="C"))
    assert {one.contract.tradingClass for one in details} == {"BRKB"}
    assert {one.contract.symbol for one in details} == {"BRK B"}
    local_symbol = details[0].contract.localSymbol
    (again,) = await client.qualifyContractsAsync(Option(localSymbol=local_symbol, exchange="SMART"))
    assert again.conId == details[0].contract.conId


async def test_an_ambiguous_description_returns_every_match(client: Client) -> None:
    option = await some_option(client)
    loose = Option("AAPL", option.lastTradeDateOrContractMonth, option.strike, exchange="SMART")
    details = await client.reqContractDetailsAsync(loose)
    assert sorted(one.contract.right for one in details) == ["C", "P"]
    # as with IB, no exchange means one match per exchange
    without = Option("AAPL", option.lastTradeDateOrContractMonth, option.strike, "C")
    exchanges = [one.contract.exchange for one in await client.reqContractDetailsAsync(without)]
    assert len(exchanges) == len(set(exchanges)) > 1
    assert await client.qualifyContractsAsync(without) == []
    assert client.codes() == []


@pytest.mark.parametrize(
    "wrong",
    [
        Stock("NOSUCH", "SMART", "USD"),
        Stock("AAPL", "SMART", "EUR"),
        Stock("AAPL", "MOON", "USD"),
        Option("AAPL", "20261121", 200, "C", "SMART"),
        Option("AAPL", "20261218", 200.01, "C", "SMART"),
        Option("AAPL", "20261218", 200, "C", "SMART", multiplier="10"),
        Option("AAPL", "20261218", 200, "C", "SMART", tradingClass="AAPL7"),
        Option(localSymbol="AAPL  261332C00200000", exchange="SMART"),
        Contract(conId=123456789, exchange="SMART"),
        Contract(conId=265598, secType="OPT", exchange="SMART"),
    ],
)
async def test_what_does_not_exist_is_error_200(client: Client, wrong: Contract) -> None:
    assert await client.reqContractDetailsAsync(wrong) == []
    assert [text for _, code, text in client.errors if code == 200] == [
        "No security definition has been found for the request"
    ]


async def test_option_parameters_are_a_union_with_holes(client: Client) -> None:
    (stock,) = await client.qualifyContractsAsync(Stock("AAPL", "SMART", "USD"))
    parameters = await client.reqSecDefOptParamsAsync("AAPL", "", "STK", stock.conId)
    assert {"SMART", "CBOE"} <= {one.exchange for one in parameters}
    smart = next(one for one in parameters if one.exchange == "SMART")
    # The library leaves the conid as the text that it received.
    assert (smart.tradingClass, smart.multiplier, str(smart.underlyingConId)) == ("AAPL", "100", "265598")
    assert smart.expirations == sorted(smart.expirations)
    existing = 0
    for expiry in smart.expirations:
        details = await client.reqContractDetailsAsync(Option("AAPL", expiry, right="C", exchange="SMART"))
        strikes = {one.contract.strike for one in details}
        assert strikes <= set(smart.strikes)
        existing += len(strikes)
    assert 0.2 < existing / (len(smart.expirations) * len(smart.strikes)) < 0.8


async def test_option_parameters_of_an_unknown_underlying_are_error_200(client: Client) -> None:
    assert not await client.reqSecDefOptParamsAsync("NOSUCH", "", "STK", 1)
    assert client.codes() == [200]


async def test_symbols_are_found_by_their_beginning(client: Client) -> None:
    found = await client.reqMatchingSymbolsAsync("aa")
    assert [(one.contract.symbol, one.contract.conId) for one in found] == [("AAPL", 265598)]


@pytest.fixture
async def index_client(start_gateway: StartGateway, connect: ConnectClient) -> Client:
    symbols = (UnderlyingSpec("AAPL", conid=265598, price=200.0), "SPX")
    return await connect(await start_gateway(symbols=symbols, minis=("AAPL",)))


async def test_an_index_is_found_on_its_own_exchange(index_client: Client) -> None:
    (spx,) = await index_client.qualifyContractsAsync(Index("SPX", "CBOE"))
    assert (spx.conId, spx.secType, spx.exchange, spx.localSymbol) == (416904, "IND", "CBOE", "SPX")
    for description in (Index("SPX"), Contract(conId=416904), Contract(conId=416904, exchange="CBOE")):
        (details,) = await index_client.reqContractDetailsAsync(description)
        assert (details.contract.conId, details.contract.exchange, details.validExchanges) == (416904, "CBOE", "CBOE")
        assert (details.stockType, details.marketRuleIds, details.underConId) == ("", "", 0)
    for wrong in (Index("SPX", "SMART"), Stock("SPX", "SMART", "USD"), Index("AAPL", "NASDAQ")):
        assert await index_client.reqContractDetailsAsync(wrong) == []
    assert index_client.codes() == [200, 200, 200]


async def test_an_index_has_a_last_price_and_a_close_and_no_sides(index_client: Client) -> None:
    (spx,) = await index_client.qualifyContractsAsync(Index("SPX", "CBOE"))
    ticker = await index_client.quote(spx)
    assert 3000 < ticker.last < 12000
    assert 3000 < ticker.close < 12000
    kinds = {tick.tickType for tick in ticker.ticks}
    # ib_insync leaves a side at NaN as long as no tick of it has come; after one it is -1
    assert np.isnan([ticker.bid, ticker.ask]).all()
    assert kinds.isdisjoint({1, 2, 0, 3, 66, 67})


async def test_index_options_are_in_two_classes_on_two_exchanges(index_client: Client) -> None:
    common = "20261217"  # the last day of the morning-settled December series, and a Thursday of SPXW
    strikes = {
        one.contract.strike
        for one in await index_client.reqContractDetailsAsync(Option("SPX", common, right="C", exchange="SMART"))
        if one.contract.tradingClass == "SPX"
    }
    strike = min(strikes, key=lambda one: abs(one - 6000))
    loose = Option("SPX", common, strike, "C", "SMART")
    details = await index_client.reqContractDetailsAsync(loose)
    found = {one.contract.tradingClass: one for one in details}
    assert sorted(found) == ["SPX", "SPXW"]
    assert found["SPX"].contract.localSymbol == f"SPX   261218C{round(strike * 1000):08d}"
    assert found["SPXW"].contract.localSymbol == f"SPXW  261217C{round(strike * 1000):08d}"
    assert {one.contract.lastTradeDateOrContractMonth for one in details} == {common}
    assert (found["SPX"].realExpirationDate, found["SPXW"].realExpirationDate) == ("20261218", "20261217")
    assert {(one.underConId, one.underSymbol, one.underSecType) for one in details} == {(416904, "SPX", "IND")}
    assert {one.validExchanges for one in details} == {"SMART,CBOE"}
    assert await index_client.qualifyContractsAsync(loose) == []
    chosen = Option("SPX", common, strike, "C", "SMART", tradingClass="SPXW")
    (one,) = await index_client.qualifyContractsAsync(chosen)
    assert one.conId == found["SPXW"].contract.conId
    for name in ("SPX", "SPXW"):
        by_name = Contract(secType="OPT", localSymbol=found[name].contract.localSymbol, exchange="SMART")
        (again,) = await index_client.reqContractDetailsAsync(by_name)
        assert again.contract.conId == found[name].contract.conId
    exchanges = await index_client.reqContractDetailsAsync(Option("SPX", common, strike, "C", tradingClass="SPX"))
    assert [one.contract.exchange for one in exchanges] == ["SMART", "CBOE"]
    assert await index_client.reqContractDetailsAsync(Option("SPX", common, strike, "C", "AMEX")) == []
    index_client.reqMktData(loose)
    await index_client.until(lambda: index_client.codes() == [200, 200])
    assert "ambiguous" in index_client.errors[-1][2]


async def test_a_month_means_every_expiry_of_it(index_client: Client) -> None:
    found = await index_client.reqContractDetailsAsync(Option("SPX", "202612", right="P", exchange="CBOE"))
    dates = {one.contract.lastTradeDateOrContractMonth for one in found}
    sessions = sessions_between(date(2026, 12, 1), date(2026, 12, 31))
    assert dates == {f"{one.trade_date:%Y%m%d}" for one in sessions}
    assert {one.contractMonth for one in found} == {"202612"}


async def test_a_mini_is_ambiguous_beside_its_standard_option(index_client: Client) -> None:
    details = await index_client.reqContractDetailsAsync(Option("AAPL", "20261218", 200, "C", "SMART"))
    found = {(one.contract.tradingClass, one.contract.multiplier): one.contract for one in details}
    assert set(found) == {("AAPL", "100"), ("AAPL7", "10")}
    assert found["AAPL7", "10"].localSymbol == "AAPL7 261218C00200000"
    (mini,) = await index_client.qualifyContractsAsync(Option("AAPL", "20261218", 200, "C", "SMART", multiplier="10"))
    assert mini.conId == found["AAPL7", "10"].conId
    (again,) = await index_client.qualifyContractsAsync(Contract(conId=mini.conId, exchange="SMART"))
    assert again.tradingClass == "AAPL7"


@pytest.mark.parametrize("version", [157, 162, 163, 164, 165, 166, 176])
async def test_details_are_read_alike_at_every_protocol_version(
    start_gateway: StartGateway, connect: ConnectClient, version: int
) -> None:
    """The values are what IB says of such contracts: a public record of an NVDA option of 2024 has the same form."""
    symbols = (UnderlyingSpec("AAPL", conid=265598, price=200.0), "SPX")
    client = await connect(await start_gateway(symbols=symbols), version=version)
    assert client.client.serverVersion() == version

    async def details(contract: Contract) -> ContractDetails:
        (found,) = await client.reqContractDetailsAsync(contract)
        return found

    option = await details(Option("AAPL", "20261224", 200, "P", "SMART"))
    contract = option.contract
    assert (contract.symbol, contract.secType, contract.strike, contract.right) == ("AAPL", "OPT", 200.0, "P")
    assert (contract.lastTradeDateOrContractMonth, option.lastTradeTime) == ("20261224", "13:00:00")
    assert (contract.localSymbol, contract.tradingClass, contract.multiplier) == (
        "AAPL  261224P00200000",
        "AAPL",
        "100",
    )
    assert (option.marketName, option.underConId, option.underSymbol, option.underSecType) == (
        *("AAPL", 265598, "AAPL", "STK"),
    )
    assert (option.contractMonth, option.realExpirationDate, option.timeZoneId) == ("202612", "20261224", "US/Eastern")
    assert option.tradingHours.startswith("20261120:0930-20261120:1600;20261121:CLOSED")
    rules, exchanges = option.marketRuleIds.split(","), option.validExchanges.split(",")
    assert len(rules) == len(exchanges)
    assert set(rules) == {"32" if option.minTick == 0.01 else "109"}
    stock = await details(Stock("AAPL", "SMART", "USD"))
    assert (stock.contract.primaryExchange, stock.marketName, stock.contract.tradingClass) == ("NASDAQ", "NMS", "NMS")
    assert (stock.stockType, stock.minTick, stock.contractMonth, stock.realExpirationDate) == ("COMMON", 0.01, "", "")
    assert (stock.contract.lastTradeDateOrContractMonth, stock.underConId) == ("", 0)
    index = await details(Index("SPX", "CBOE"))
    assert (index.contract.secType, index.contract.tradingClass, index.timeZoneId) == ("IND", "SPX", "US/Eastern")
    if version >= 164:
        assert [one.suggestedSizeIncrement for one in (option, stock)] == [1, 100]
        assert [one.minSize for one in (option, stock, index)] == [1, 0.0001, 1]
        assert [one.sizeIncrement for one in (option, stock, index)] == [1, 0.0001, 1]


def test_contract_ids_depend_on_the_contract_alone() -> None:

    wide = option_conids("AAPL", date(2026, 12, 18), np.array([190.0, 200.0, 210.0]), 100)
    alone = option_conids("AAPL", date(2026, 12, 18), np.array([200.0]), 100)
    assert wide[:, 1].tolist() == alone[:, 0].tolist()
    others = [
        option_conids("MSFT", date(2026, 12, 18), np.array([200.0]), 100),
        option_conids("AAPL", date(2026, 12, 19), np.array([200.0]), 100),
        option_conids("AAPL", date(2026, 12, 18), np.array([200.0]), 10),
    ]
    ids = {int(one) for block in [wide, *others] for one in block.ravel()}
    assert len(ids) == 12
    assert all(0 < one < 2**31 for one in ids)


def test_occ_symbols_are_read_and_written() -> None:
    assert occ_symbol("GOOG", date(2016, 1, 15), "C", 747.5) == "GOOG  160115C00747500"
    assert parse_occ_symbol("GOOG  160115C00747500") == ("GOOG", date(2016, 1, 15), "C", 747.5)
    for wrong in ("", "GOOG", "GOOG  160115X00747500", "GOOG  161315C00747500", "160115C00747500"):
        assert parse_occ_symbol(wrong) is None
