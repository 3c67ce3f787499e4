"""The universe file: what it says, and every way in which it can be broken."""

from pathlib import Path

import pytest

from ingest.errors import UsageError
from ingest.settings import PROJECT
from ingest.universe import choose, read_universe

HEADER = "symbol,conid,sec_type,exchange,weight,group,views\n"


def file_of(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "universe.csv"
    file.write_text(text)
    return file


def test_empty_fields_take_their_defaults_and_a_dot_is_written_as_ib_does(tmp_path: Path) -> None:
    (one,) = read_universe(file_of(tmp_path, HEADER + "brk.b,,,,,,\n"))
    assert (one.symbol, one.conid, one.sec_type, one.exchange, one.weight) == ("BRK B", None, "STK", "SMART", None)
    assert one.views == {"intraday", "close"}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("symbol,conid\nAAPL,1\n", "line 1"),
        (HEADER + "AAPL,x,STK,SMART,,,both\n", "line 2"),
        (HEADER + "AAPL,,STK,SMART,,,both\nMSFT,,STK\n", "line 3"),
        (HEADER + "AAPL,,STK,SMART,,,both\nAAPL,,STK,SMART,,,both\n", "line 3"),
        (HEADER + "AAPL,,STK,SMART,,,weekly\n", "line 2"),
        (HEADER + ";;,,STK,SMART,,,both\n", "line 2"),
        (HEADER, "names no underlying"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(UsageError, match=where):
        read_universe(file_of(tmp_path, text))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"universe\.file"):
        read_universe(tmp_path / "missing.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UsageError, match="cannot be read"):
        read_universe(binary)


def test_symbols_are_chosen_in_the_order_asked_and_strangers_are_left_to_the_broker() -> None:
    universe = read_universe(PROJECT / "config" / "universe.csv")
    chosen = choose(universe, ["msft", "BRK.B", "TWX", "MSFT"])
    assert [underlying.symbol for underlying in chosen] == ["MSFT", "BRK B", "TWX"]
    assert chosen[0].conid == 272093
    assert chosen[2].conid is None
    assert choose(universe, []) == universe


def test_the_shipped_universe_is_the_index_with_its_ten_largest_weighted() -> None:
    universe = read_universe(PROJECT / "config" / "universe.csv")
    assert 500 <= len(universe) <= 505
    assert sum(underlying.weight is not None for underlying in universe) == 10
