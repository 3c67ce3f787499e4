"""What a user sees when the models cannot be built: one line that says what, where, and where the log is."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path

import pytest

from flows.models import BuildPaths, DbtProject, InputRefused, ModelError
from lake.errors import LakeMissing
from tests.models.conftest import SmallLake
from tests.models.rows import contract

DAY = date(2014, 6, 5)


@pytest.fixture(scope="module")
def lake(small_lake: Callable[[str], SmallLake]) -> SmallLake:
    made = small_lake("failures")
    day = made.day(DAY)
    day.open(contract(1))
    day.write("raw/option_quotes", [day.quote(contract(1), 13)])
    return made


def test_a_missing_lake_is_named(lake: SmallLake, tmp_path: Path) -> None:
    with pytest.raises(LakeMissing, match=r"no lake at .*nowhere"):
        DbtProject().build(BuildPaths(tmp_path / "nowhere", lake.seeds, tmp_path), [DAY])


def test_missing_seeds_are_named(lake: SmallLake, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"universe\.csv is missing"):
        DbtProject().build(BuildPaths(lake.lake.root, tmp_path, tmp_path), [DAY])


def test_an_instant_needs_a_time_zone(lake: SmallLake) -> None:
    with pytest.raises(ModelError, match="has no time zone"):
        lake.build([DAY], as_of=datetime(2014, 6, 6))  # noqa: DTZ001


SPLIT = "AAPL,split,2014-06-09,7,1,,,2014-04-23T20:30:00Z,x"


# Lines of corporate_actions.csv after its header, the number of the wrong one, and how its problem begins.
WRONG_LINES: list[tuple[list[str], int, str]] = [
    ([SPLIT.replace("2014-06-09", "the ninth of June")], 2, "effective_date 'the ninth of June' is no date"),
    ([SPLIT, SPLIT.replace("2014-04-23T20:30:00Z", "soon")], 3, "known_at 'soon' is no instant"),
    ([SPLIT.replace("split", "Split")], 2, "event_type 'Split' is none of split,"),
    ([SPLIT.replace("AAPL", " ")], 2, "symbol is missing"),
    ([SPLIT.replace("7,1", "7,")], 2, "a split needs ratio_new and ratio_old"),
    ([SPLIT.replace("7,1", "-7,1")], 2, "ratio_new '-7' is no number above 0"),
    ([SPLIT.replace("7,1", "7,0")], 2, "ratio_old '0' is no number above 0"),
    (["COST,special_dividend,2020-12-01,,,ten,,2020-11-17T05:00:00Z,x"], 2, "cash_amount 'ten' is no number"),
    (["COST,special_dividend,2020-12-01,,,,,2020-11-17T05:00:00Z,x"], 2, "a special_dividend needs cash_amount"),
    (["BRK.B,symbol_change,2020-12-01,,,,BRK B,2020-11-17T05:00:00Z,x"], 2, "a symbol_change needs a new_symbol"),
    ([SPLIT.replace(",x", "")], 2, "it has not 9 fields"),
    ([SPLIT + ",y"], 2, "it has not 9 fields"),
    # Empty lines count, and a comma between quotation marks is none.
    (["", SPLIT.replace(",x", ',"Apple, Inc."'), "", SPLIT], 5, "it repeats line 3"),
    ([SPLIT.replace("AAPL", "A;B")], 2, "symbol 'A;B' is not a symbol"),
    ([SPLIT.replace("7,1", "7000,1")], 2, "a split of more than 1,000 new shares for an old one cannot be"),
    ([SPLIT.replace("7,1", "nan,1")], 2, "ratio_new 'nan' is no number above 0"),
    (["COST,special_dividend,2020-12-01,,,-10,,2020-11-17T05:00:00Z,x"], 2, "cash_amount '-10' is no number above 0"),
    ([SPLIT.replace("1,,,", "1,,META,")], 2, "a split has no new_symbol"),
    ([SPLIT.replace("T20:30:00Z", "")], 2, "known_at '2014-04-23' is no instant like"),
    # Two spellings of one symbol; one split under both symbols of a company; two companies under one symbol.
    ([SPLIT, SPLIT.replace("AAPL", "aapl")], 3, "it repeats line 2"),
    (
        ["AAA,symbol_change,2014-06-09,,,,AAPL,2014-04-23T20:30:00Z,x", SPLIT, SPLIT.replace("AAPL", "AAA")],
        3,
        "it repeats line 4: AAA becomes AAPL on that day",
    ),
    (
        [f"{one},symbol_change,2014-06-09,,,,AAPL,2014-04-23T20:30:00Z,x" for one in ("AAA", "BBB")],
        3,
        "by line 2 AAA becomes AAPL on 2014-06-09",
    ),
    (
        [
            f"{one},symbol_change,2014-06-09,,,,{new},2014-04-23T20:30:00Z,x"
            for one, new in (("AAPL", "XYZ"), ("AAA", "AAPL"))
        ]
        + [SPLIT],
        4,
        "one company leaves AAPL on 2014-06-09 and AAA takes it: whose split is this?",
    ),
    ([SPLIT.replace(",x", "," + 140_000 * "x")], 2, "it is no line of a CSV (field larger than field limit"),
    ([SPLIT.replace(",x", ',"x')], 2, "it is no line of a CSV (unexpected end of data)"),
    ([SPLIT.replace(",x", ",\0")], 2, "it cannot be read, as it holds a NUL"),
]


@pytest.mark.parametrize(("lines", "number", "problem"), WRONG_LINES)
def test_a_wrong_line_of_the_corporate_actions_is_named_and_nothing_is_built(
    lake: SmallLake, lines: list[str], number: int, problem: str
) -> None:
    file = lake.seeds / "corporate_actions.csv"
    kept = file.read_text()
    file.write_text(kept + "\n".join(lines) + "\n")
    try:
        with pytest.raises(InputRefused) as caught:
            lake.build([DAY])
        message = str(caught.value)
        assert message.startswith(f"corporate_actions.csv, line {number}: {problem}")
        assert "\n" not in message
        assert lake.lake.version("clean/daily_clean") is None
        # dbt must not have written into the file that people edit.
        assert file.read_text() == kept + "\n".join(lines) + "\n"
    finally:
        file.write_text(kept)


def test_wrong_columns_of_the_corporate_actions_are_named(lake: SmallLake) -> None:
    file = lake.seeds / "corporate_actions.csv"
    kept = file.read_text()
    file.write_text(kept.replace("known_at", "known"))
    try:
        with pytest.raises(InputRefused, match=r"corporate_actions\.csv, line 1: the columns are symbol,event_type,"):
            lake.build([DAY])
    finally:
        file.write_text(kept)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(lake: SmallLake, content: bytes) -> None:
    for name in ("corporate_actions.csv", "universe.csv"):
        file = lake.seeds / name
        kept = file.read_bytes()
        file.write_bytes(content)
        try:
            with pytest.raises(InputRefused, match=rf"{name}, line 1: the file is empty: its first line names the"):
                lake.build([DAY])
        finally:
            file.write_bytes(kept)


def test_bytes_that_are_not_utf_8_are_named_by_their_line(lake: SmallLake) -> None:
    file = lake.seeds / "corporate_actions.csv"
    kept = file.read_bytes()
    file.write_bytes(kept + f"{SPLIT}é\n".encode("latin-1"))
    try:
        with pytest.raises(InputRefused, match=r"corporate_actions\.csv, line 2: it cannot be read, as byte 0xe9"):
            lake.build([DAY])
    finally:
        file.write_bytes(kept)


@pytest.fixture
def another_build(lake: SmallLake) -> Iterator[None]:
    """Another process that has dbt's database open."""
    database = lake.folder / "state" / "dbt" / "chainlake.duckdb"
    database.parent.mkdir(parents=True, exist_ok=True)
    script = f"import duckdb, sys; c = duckdb.connect({str(database)!r}); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield
        process.terminate()


def test_two_processes_do_not_build_at_once(lake: SmallLake, another_build: None) -> None:
    with pytest.raises(ModelError, match="another process is building"):
        lake.build([DAY])


def test_the_paths_of_a_build_win_over_the_environment_and_leave_it_alone(
    lake: SmallLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.reference(["AAPL"])
    for name in ("CHAINLAKE_LAKE__ROOT", "CHAINLAKE_SEEDS", "CHAINLAKE_DBT_DATABASE"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    before = dict(os.environ)
    built = lake.build([DAY])
    assert (built.dates, lake.one("select count(*) from clean.daily_clean")) == ((DAY,), 1)
    assert dict(os.environ) == before
    assert not (tmp_path / "elsewhere").exists()
