"""Contract details and option parameters, through ib_insync."""

from datetime import UTC, date, datetime

import numpy as np
import pytest
from ib_insync import Contract, Option, Stock

from ingest.gateway import UnderlyingSpec
from ingest.gateway.instruments import occ_symbol, option_conids, parse_occ_symbol
from tests.gateway.conftest import Client, ConnectClient, StartGateway


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
    assert found
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
    assert (smart.tradingClass, smart.multiplier, smart.underlyingConId) == ("AAPL", "100", "265598")
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
