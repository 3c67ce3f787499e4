"""What a contract must be before it is recorded."""

import re
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from ingest.broker import RequestError
from ingest.broker.library import Option
from ingest.broker.lookup import _option
from ingest.contracts import ChainParameters, OptionContract, OptionSpec, listed

DAY = date(2014, 7, 18)
SPEC = OptionSpec("AAPL", "AAPL", DAY, "C", 645.0, "100")
CONTRACT = OptionContract(
    1, "AAPL", "AAPL  140719C00645000", "AAPL", date(2014, 7, 19), DAY, "C", 645.0, 100.0, "SMART"
)


def described(**changes: Any) -> Option:
    made = Option("AAPL", "20140718", 645.0, "C", "SMART", multiplier="100", tradingClass="AAPL")
    made.conId, made.localSymbol = 1, "AAPL  140719C00645000"
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_a_contract_of_sound_terms_is_recorded_as_it_is_described() -> None:
    assert _option(SPEC, described()) == CONTRACT == listed(CONTRACT)


@pytest.mark.parametrize(
    "changes",
    [
        {"conId": 2**63},
        {"conId": -1},
        {"strike": 1.7976931348623157e308},
        {"strike": float("nan")},
        {"strike": 0.0},
        {"multiplier": "1e400"},
        {"multiplier": "ten"},
        {"multiplier": ""},
        {"localSymbol": ""},
        {"localSymbol": "words, and more words"},
        {"localSymbol": "AAPL  149919C00645000"},
        {"localSymbol": "AAPL  140719C" + "0" * 5_000_000},
        {"localSymbol": "AAPL  140719C0064\0000"},
        {"localSymbol": "AAPL  140719C\ud83d"},
        {"tradingClass": ""},
        {"lastTradeDateOrContractMonth": "20149999"},
    ],
    ids=str,
)
def test_a_contract_whose_terms_cannot_be_right_is_refused_by_itself_and_says_why(changes: dict[str, Any]) -> None:
    refused = _option(SPEC, described(**changes))
    assert isinstance(refused, RequestError)
    assert "in words that make none" in refused.message
    assert len(refused.message) < 500


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"multiplier": "abc"}, "a multiplier of 'abc'"),
        ({"multiplier": ""}, "a multiplier of ''"),
        ({"multiplier": "0"}, "a multiplier of '0'"),
        ({"multiplier": "1e400"}, "a multiplier of '1e400'"),
        ({"expirations": ["20140718", "2014JUL"]}, "an expiry of '2014JUL'"),
        ({"expirations": [""]}, "an expiry of ''"),
        ({"strikes": [645.0, -5.0]}, "a strike of -5.0"),
        ({"strikes": [float("nan")]}, "a strike of nan"),
        ({"strikes": [1.7976931348623157e308]}, "a strike of 1.79"),
    ],
    ids=str,
)
def test_a_chain_whose_terms_cannot_be_right_is_refused_and_says_why(changes: dict[str, Any], reason: str) -> None:
    terms: dict[str, Any] = {"multiplier": "100", "expirations": ["20140718"], "strikes": [645.0]}
    sound = ChainParameters.described("SMART", "AAPL", **terms)
    assert sound == ChainParameters("SMART", "AAPL", "100", frozenset({DAY}), frozenset({645.0}))
    with pytest.raises(ValueError, match=f"class 'AAPL' on 'SMART' has {re.escape(reason)}"):
        ChainParameters.described("SMART", "AAPL", **terms | changes)


def test_the_message_of_an_error_is_bounded() -> None:
    assert len(RequestError(200, "x" * 5_000_000).message) == 4_000


@pytest.mark.parametrize("terms", [{"strike": -5.0}, {"multiplier": float("inf")}, {"conid": 0}])
def test_terms_out_of_range_are_no_contract(terms: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(terms)).replace("conid", "contract id")):
        listed(replace(CONTRACT, **terms))
