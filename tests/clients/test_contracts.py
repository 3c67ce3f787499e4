"""Contract details, qualification and option parameters."""

from itertools import product

import pytest
from conftest import Connect
from driver import Client, OptionParameters, Terms
from gateway import Gateway

# Contract ids as config/universe.csv gives them: IB's own.
AAPL, MSFT = 265598, 272093
STOCK = Terms("AAPL", "STK")
TICKS_OF_PENNY_CLASSES = {0.01, 0.05}


def smart(parameters: list[OptionParameters]) -> OptionParameters:
    """The standard class on SMART."""
    (found,) = [one for one in parameters if (one.exchange, one.trading_class) == ("SMART", "AAPL")]
    return found


def candidates(client: Client) -> list[Terms]:
    """Every combination that the option parameters of AAPL suggest, nearest expiries first."""
    found = smart(client.option_parameters("AAPL", AAPL).rows)
    return [
        Terms("AAPL", "OPT", expiry, strike, right)
        for expiry, strike, right in product(sorted(found.expirations), sorted(found.strikes), "CP")
    ]


# -- details -----------------------------------------------------------------------------------------------------------


def test_a_stock(market: Gateway, connect: Connect) -> None:
    (found,) = connect(market).contract_details(STOCK).rows
    contract = found.contract
    assert (contract.conid, contract.symbol, contract.sec_type) == (AAPL, "AAPL", "STK")
    assert (contract.exchange, contract.currency, contract.local_symbol) == ("SMART", "USD", "AAPL")
    assert found.min_tick == 0.01
    assert found.stock_type == "COMMON"
    assert "SMART" in found.valid_exchanges.split(",")
    assert found.time_zone == "US/Eastern"


def test_trading_hours_know_holidays_and_early_closes(market: Gateway, connect: Connect) -> None:
    """2026-11-26 is Thanksgiving, after which the exchange closes at 13:00 (NYSE holidays and trading hours)."""
    market.set_clock("2026-11-25T15:00:00Z")
    (found,) = connect(market).contract_details(STOCK).rows
    liquid, trading = found.liquid_hours.split(";"), found.trading_hours.split(";")
    assert liquid[:3] == ["20261125:0930-20261125:1600", "20261126:CLOSED", "20261127:0930-20261127:1300"]
    assert trading[:3] == ["20261125:0400-20261125:2000", "20261126:CLOSED", "20261127:0400-20261127:1700"]


def test_what_a_stock_is_beside_its_terms(market: Gateway, connect: Connect) -> None:
    (found,) = connect(market).contract_details(STOCK).rows
    assert (found.isin, found.long_name) == ("US0378331005", "APPLE INC")
    assert (found.industry, found.category) == ("Technology", "Computers")
    assert (found.min_size, found.size_increment, found.suggested_size_increment) == (0.0001, 0.0001, 100)
    assert len(found.market_rule_ids.split(",")) == len(found.valid_exchanges.split(",")) > 5


def test_a_stock_by_its_isin(market: Gateway, connect: Connect) -> None:
    client = connect(market)
    (found,) = client.contract_details(Terms(isin="US5949181045")).rows
    assert (found.contract.symbol, found.contract.conid, found.contract.exchange) == ("MSFT", MSFT, "SMART")
    unknown = client.contract_details(Terms("AAPL", "STK", isin="US5949181045"))
    assert unknown.rows == []
    assert client.codes_of(unknown.req_id) == [200]


def test_a_stock_by_its_id(market: Gateway, connect: Connect) -> None:
    (found,) = connect(market).contract_details(Terms(conid=MSFT)).rows
    assert found.contract.symbol == "MSFT"


def test_a_stock_without_an_exchange_is_found_on_each(market: Gateway, connect: Connect) -> None:
    found = connect(market).contract_details(Terms("AAPL", "STK", exchange="")).rows
    assert len(found) > 1
    assert {row.contract.conid for row in found} == {AAPL}
    assert len({row.contract.exchange for row in found}) == len(found)


def test_one_option(recorded: Gateway, connect: Connect) -> None:
    (found,) = connect(recorded).contract_details(Terms("AAPL", "OPT", "20261218", 100, "C")).rows
    contract = found.contract
    assert (contract.symbol, contract.sec_type, contract.expiry) == ("AAPL", "OPT", "20261218")
    assert (contract.strike, contract.right, contract.multiplier) == (100.0, "C", "100")
    assert contract.local_symbol == "AAPL  261218C00100000"
    assert contract.trading_class == "AAPL"
    assert (found.under_conid, found.under_symbol, found.under_sec_type) == (AAPL, "AAPL", "STK")
    assert (found.contract_month, found.real_expiration_date) == ("202612", "20261218")
    assert found.min_tick in TICKS_OF_PENNY_CLASSES


@pytest.mark.parametrize("right", ["C", "CALL"])
def test_options_by_expiry(recorded: Gateway, connect: Connect, right: str) -> None:
    """The day has calls at 100 and 140 in December, puts at 60 and 100; at 95 in January."""
    client = connect(recorded)
    december = client.contract_details(Terms("AAPL", "OPT", "20261218")).rows
    wanted = {(100.0, "C"), (140.0, "C"), (60.0, "P"), (100.0, "P")}
    assert {(row.contract.strike, row.contract.right) for row in december} == wanted
    calls = client.contract_details(Terms("AAPL", "OPT", "202612", right=right)).rows
    assert {row.contract.strike for row in calls} == {100.0, 140.0}
    assert len({row.contract.conid for row in december}) == 4


def test_an_option_by_its_local_symbol_and_by_its_id(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    (by_symbol,) = client.contract_details(Terms(sec_type="OPT", local_symbol="AAPL  270115P00095000")).rows
    (by_id,) = client.contract_details(Terms(conid=by_symbol.contract.conid)).rows
    assert by_id == by_symbol
    assert (by_id.contract.strike, by_id.contract.right, by_id.contract.expiry) == (95.0, "P", "20270115")


@pytest.mark.parametrize(
    "terms",
    [
        Terms("NOSUCH", "STK"),
        Terms("AAPL", "STK", currency="EUR"),
        Terms("AAPL", "OPT", "20261218", 101, "C"),
        Terms("AAPL", "OPT", "20270115", 100, "C"),
        Terms(conid=999_999_999),
    ],
    ids=["symbol", "currency", "strike", "combination", "id"],
)
def test_what_does_not_exist_is_reported_as_200(recorded: Gateway, connect: Connect, terms: Terms) -> None:
    client = connect(recorded)
    answer = client.contract_details(terms)
    assert answer.rows == []
    (report,) = client.reports_of(answer.req_id)
    assert (report.code, report.text) == (200, "No security definition has been found for the request")


# -- option parameters -------------------------------------------------------------------------------------------------


def test_option_parameters_name_several_exchanges_alike(recorded: Gateway, connect: Connect) -> None:
    found = connect(recorded).option_parameters("AAPL", AAPL).rows
    assert {"SMART", "CBOE"} <= {row.exchange for row in found}
    for row in found:
        assert (row.underlying_conid, row.trading_class, row.multiplier) == (AAPL, "AAPL", "100")
        assert row.expirations == {"20261218", "20270115"}
        assert row.strikes == {60.0, 95.0, 100.0, 140.0}


def test_option_parameters_are_a_union_with_combinations_that_do_not_exist(recorded: Gateway, connect: Connect) -> None:
    """2 expiries × 4 strikes × 2 rights: 16 combinations, of which the day has 6."""
    client = connect(recorded)
    qualified = client.qualify(candidates(client))
    assert len(qualified) == 16
    assert sum(one is not None for one in qualified) == 6
    assert [report.code for report in client.errors()] == [200] * 10


def test_option_parameters_of_nothing_are_reported_as_200(market: Gateway, connect: Connect) -> None:
    client = connect(market)
    answer = client.option_parameters("NOSUCH", 1)
    assert answer.rows == []
    assert client.codes_of(answer.req_id) == [200]


# -- qualification -----------------------------------------------------------------------------------------------------


def test_two_hundred_contracts_are_qualified_at_ibs_default_rate(limited: Gateway, connect: Connect) -> None:
    """Some of them do not exist; those are reported one by one, and the client is told of no excess."""
    client = connect(limited)
    wanted = candidates(client)
    step = len(wanted) // 200
    chosen = wanted[::step][:200]
    qualified = client.qualify(chosen)
    found = [(asked, one) for asked, one in zip(chosen, qualified, strict=True) if one is not None]
    missing = len(chosen) - len(found)
    assert len(found) > 20
    assert missing > 20
    for asked, one in found:
        assert (one.expiry, one.strike, one.right) == (asked.expiry, asked.strike, asked.right)
        assert one.local_symbol == f"AAPL  {one.expiry[2:]}{one.right}{round(one.strike * 1000):08d}"
        assert one.exchange == "SMART"
    assert len({one.conid for _, one in found}) == len(found)
    assert [report.code for report in client.errors()] == [200] * missing


def test_an_ambiguous_contract_is_not_qualified(recorded: Gateway, connect: Connect) -> None:
    client = connect(recorded)
    ambiguous = Terms("AAPL", "OPT", "20261218", right="C")
    assert client.qualify([ambiguous, Terms("AAPL", "STK")])[0] is None
    assert client.errors() == []
