"""What a user sees when the models cannot be built: one line that says what, where, and where the log is."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path

import pytest

from flows.models import ModelError, build
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
        build(tmp_path / "nowhere", [DAY], seeds=lake.seeds, state=tmp_path)


def test_missing_seeds_are_named(lake: SmallLake, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"universe\.csv is missing"):
        build(lake.lake.root, [DAY], seeds=tmp_path, state=tmp_path)


def test_an_instant_needs_a_time_zone(lake: SmallLake) -> None:
    with pytest.raises(ModelError, match="has no time zone"):
        lake.build([DAY], as_of=datetime(2014, 6, 6))  # noqa: DTZ001


def test_an_unreadable_seed_is_named_with_its_line(lake: SmallLake) -> None:
    file = lake.seeds / "corporate_actions.csv"
    kept = file.read_text()
    file.write_text(kept + "AAPL,split,the ninth of June,7,1,,,2014-04-23T20:30:00Z,x\n")
    try:
        with pytest.raises(ModelError) as caught:
            lake.build([DAY])
        message = str(caught.value)
        assert "corporate_actions" in message
        assert "the ninth of June" in message
        assert "dbt.log" in message
        assert "\n" not in message
        # dbt must not have written into the file that people edit.
        assert file.read_text().endswith("2014-04-23T20:30:00Z,x\n")
    finally:
        file.write_text(kept)


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
