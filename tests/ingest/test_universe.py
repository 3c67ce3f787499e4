"""The universe file: what it says, and every way in which it can be broken."""

import re
from pathlib import Path

import duckdb
import pytest

from chainlake.cli.options import symbols_from
from ingest.errors import UsageError
from ingest.settings import PROJECT
from ingest.universe import choose, ib_symbol, read_universe
from tws_simulator.worlds.synthetic import events

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
        (HEADER + "AAPL,0,STK,SMART,,,both\n", "line 2: conid '0' is no whole number above 0"),
        (HEADER + "AAPL,,STK,SMART,nan,,both\n", "line 2: weight 'nan' is no number of 0 or more"),
        (HEADER + "AAPL,,STK,SMART,-1,,both\n", "line 2: weight '-1'"),
        # Two spellings of one symbol.
        (HEADER + "BRK.B,,,,,,\n\nbrk-b,,,,,,\n", "line 4: BRK B stands twice"),
        ("", "line 1: the file is empty: its first line names the columns symbol,conid"),
        (" \n\n", "line 1: the file is empty"),
        (HEADER.replace("weight", "wait") + "AAPL,,,,,,\n", "line 1: .* weight is missing"),
        (HEADER.strip() + ",note\nAAPL,,,,,,,x\n", "line 1: .* 'note' is none of them"),
        (HEADER.strip() + ",symbol\nAAPL,,,,,,,MSFT\n", "line 1: .* symbol stands twice"),
        (HEADER + "AAPL,,,,,,\nMSFT,,,,,\0,\n", "line 3: it cannot be read, as it holds a NUL"),
        (HEADER + "AAPL,,,,," + 140_000 * "x" + ",\n", "line 2: it is no line of a CSV .field larger than field limit"),
        (HEADER + 'AAPL,,,,,"tech,\nMSFT,,,,,,\n', "line 2: it is no line of a CSV .unexpected end of data"),
        (HEADER, "names no underlying"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(UsageError, match=where) as caught:
        read_universe(file_of(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"universe\.file"):
        read_universe(tmp_path / "missing.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UsageError, match="line 1: it cannot be read, as byte 0xff is not UTF-8"):
        read_universe(binary)
    latin = tmp_path / "latin.csv"
    latin.write_bytes((HEADER + "AAPL,,,,,,\nMSFT,,,,,énergie,\n").encode("latin-1"))
    with pytest.raises(UsageError, match="line 3: it cannot be read, as byte 0xe9 is not UTF-8"):
        read_universe(latin)


def test_a_file_is_read_however_a_spreadsheet_saves_it(tmp_path: Path) -> None:
    file = tmp_path / "universe.csv"
    plain = HEADER + 'AAPL,,,,,"tech, large",\nMSFT,,,,,,\n'
    expected = read_universe(file_of(tmp_path, plain))
    assert [one.group for one in expected] == ["tech, large", ""]
    for saved in (
        "\ufeff" + plain,
        plain.replace("\n", "\r\n"),
        plain.replace("\n", "\r"),
        plain.replace("\n", "\r\n", 1),
        plain + "\n  \n\n",
        plain.removesuffix("\n"),
    ):
        file.write_bytes(saved.encode())
        assert read_universe(file) == expected
    # The columns may stand in any order.
    file.write_text("views,group,weight,exchange,sec_type,conid,symbol\nclose,,,,,,aapl\n")
    assert [(one.symbol, set(one.views)) for one in read_universe(file)] == [("AAPL", {"close"})]


SPELLINGS = {
    "AAPL": "AAPL", "aapl": "AAPL", " Aapl ": "AAPL", "BRK B": "BRK B", "BRK.B": "BRK B", "brk-b": "BRK B",
    "BRK/B": "BRK B", "BRK  B": "BRK B", "brk . b": "BRK B", "BRK.B.": "BRK B", "-": "", "": "",
}  # fmt: skip


def test_a_symbol_is_spelt_by_one_rule_in_files_and_flags_in_sql_and_by_the_simulated_gateway() -> None:
    macro = (PROJECT / "dbt_project" / "macros" / "dialect.sql").read_text()
    (sql,) = re.findall(r"macro default__ib_symbol\(column\) -%}(.*){%- endmacro", macro)
    for spelt, symbol in SPELLINGS.items():
        assert ib_symbol(spelt) == symbol
        assert events.ib_symbol(spelt) == symbol
        assert duckdb.execute(f"select {sql.replace('{{ column }}', '$1')}", [spelt]).fetchone() == (symbol,)
    assert symbols_from("aapl, brk/b,AAPL,") == ["AAPL", "BRK B"]
    with pytest.raises(UsageError, match="'A;B' is not a symbol"):
        symbols_from("AAPL,A;B")


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
