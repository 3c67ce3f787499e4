"""The client's reader of corporate_actions.csv: it refuses what the build refuses, and reads what the file says."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from ingest.corporate_actions import COLUMNS, CorporateAction, read_corporate_actions
from ingest.errors import UsageError
from ingest.settings import PROJECT
from tests.models.test_failures import SPLIT, WRONG_LINES

SHIPPED = PROJECT / "config" / "corporate_actions.csv"
HEADER = ",".join(COLUMNS)


def file_of(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "actions.csv"
    file.write_text("\n".join((HEADER, *lines)) + "\n")
    return file


@pytest.mark.parametrize(("lines", "number", "problem"), WRONG_LINES)
def test_a_line_that_stops_the_build_is_refused_in_the_same_words(
    tmp_path: Path, lines: list[str], number: int, problem: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read_corporate_actions(file_of(tmp_path, *lines))
    assert f"actions.csv, line {number}: {problem}" in str(caught.value)


def test_a_row_is_read_as_it_stands(tmp_path: Path) -> None:
    file = file_of(tmp_path, SPLIT, "brk.b,special_dividend,2020-12-01,,,10,,2020-11-17T05:00:00Z,x")
    assert read_corporate_actions(file) == [
        CorporateAction(
            "AAPL", "split", date(2014, 6, 9), datetime(2014, 4, 23, 20, 30, tzinfo=UTC), (7.0, 1.0), None, ""
        ),
        CorporateAction(
            "BRK B", "special_dividend", date(2020, 12, 1), datetime(2020, 11, 17, 5, tzinfo=UTC), None, 10.0, ""
        ),
    ]


def test_the_shipped_file_is_read_to_its_last_line() -> None:
    assert len(read_corporate_actions(SHIPPED)) == len(SHIPPED.read_text().splitlines()) - 1


def test_other_columns_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 1: the columns are symbol,event_type,"):
        read_corporate_actions(SHIPPED.with_name("universe.csv"))
    with pytest.raises(UsageError, match=r"none\.csv cannot be read"):
        read_corporate_actions(tmp_path / "none.csv")
