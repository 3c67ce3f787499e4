"""Universes for Lean, read back by the rules of its own reader (OptionUniverse.cs), and as its sample files are."""

import csv
import json
from datetime import date, datetime
from pathlib import Path

import pytest

from tests.chainlake.mcp.lakes import AFTER, BEFORE, IV, built_lake
from tests.commands import run_chainlake
from tests.models.conftest import SmallLake

# The first line of Data/option/usa/universes/aapl/20140606.csv of QuantConnect/Lean.
SAMPLE_HEADER = (
    "#expiry,strike,right,open,high,low,close,volume,open_interest,implied_volatility,delta,gamma,vega,theta,rho"
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> SmallLake:
    return built_lake(tmp_path_factory)


def read(file: Path) -> tuple[list[str], list[list[str]]]:
    """The line of the underlying, and those of contracts: a line whose first character is no digit is the former."""
    header, *lines = file.read_text().splitlines()
    assert header == SAMPLE_HEADER
    rows = list(csv.reader(lines))
    assert {len(row) for row in rows} == {len(SAMPLE_HEADER.split(","))}
    (underlying,) = [row for row in rows if not row[0][:1].isdigit()]
    return underlying, [row for row in rows if row[0][:1].isdigit()]


def test_a_universe_has_the_end_of_day_of_each_contract(lake: SmallLake, tmp_path: Path) -> None:
    given = ("--lake", lake.lake.root, "--date", str(BEFORE), "--json")
    result = run_chainlake("export", "out", *given, place=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["contracts"] == 4
    underlying, contracts = read(tmp_path / "out" / "option" / "usa" / "universes" / "aapl" / "20140606.csv")
    assert [float(cell) for cell in underlying[3:7]] == [700.0] * 4
    stored = lake.rows(
        'select expiry, strike, "right", mid, volume, open_interest, conid '
        f"from clean.daily_clean where trade_date = date '{BEFORE}' order by strike, \"right\""
    )
    assert len(contracts) == len(stored)
    for row, (expiry, strike, right, mid, volume, interest, conid) in zip(contracts, stored, strict=True):
        assert datetime.strptime(row[0], "%Y%m%d").date() == expiry  # noqa: DTZ007
        assert (float(row[1]), row[2]) == (strike, right)
        assert [float(cell) for cell in row[3:7]] == pytest.approx([mid] * 4)
        assert (int(row[7]), int(row[8])) == (volume, interest)
        assert float(row[9]) == pytest.approx(IV[conid])
        assert "e" not in "".join(row).lower()


def test_a_second_export_adds_to_the_first_and_another_folder_is_refused(lake: SmallLake, tmp_path: Path) -> None:
    for day in (BEFORE, AFTER):
        done = run_chainlake("export", "out", "--lake", lake.lake.root, "--date", str(day), place=tmp_path)
        assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (tmp_path / "out").rglob("*.csv")) == ["20140606.csv", "20140609.csv"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("keep")
    refused = run_chainlake("export", "other", "--lake", lake.lake.root, "--date", str(BEFORE), place=tmp_path)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert [file.name for file in (tmp_path / "other").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--symbols", "MSFT", "--date", str(BEFORE)), "nothing of"),
        (("--format", "xls"), "use lean"),
        (("--date", str(date(2014, 6, 7))), "2014-06-07"),
    ],
)
def test_what_is_wrong_is_one_line(lake: SmallLake, tmp_path: Path, more: tuple[str, ...], message: str) -> None:
    result = run_chainlake("export", "out", "--lake", lake.lake.root, *more, place=tmp_path)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert message in result.stderr
    assert not (tmp_path / "out").exists()
