"""Running a day twice, or killing it and running it again, changes no count and no value in `clean`."""

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from lake.catalog.connection import open_catalog
from lake.errors import LakeError
from tests.commands import CLI, Chainlake

pytestmark = pytest.mark.long

TABLES = ("intraday", "daily_clean", "daily_unresolved", "daily_adjusted")
DAY = ("run-day", "--date", "2026-11-19", "--symbols", "AAPL", "--json")


def clean(root: Path) -> dict[str, list[tuple[Any, ...]]]:
    lake = open_catalog(root)
    return {table: lake.execute(f"select * from clean.{table} order by all").fetchall() for table in TABLES}


@pytest.fixture(scope="module")
def whole(chainlake: Chainlake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake of a day that ran through."""
    root = tmp_path_factory.mktemp("whole") / "lake"
    done = chainlake(*DAY, "--lake", str(root))
    assert done.returncode == 0, done.stderr
    return root


def test_the_day_is_all_there(whole: Path) -> None:
    tables = clean(whole)
    contracts = len(tables["daily_clean"]) + len(tables["daily_unresolved"])
    assert contracts > 10
    assert len(tables["intraday"]) == 14 * contracts
    lake = open_catalog(whole)
    assert lake.execute("select count(*) from clean.daily_clean where open_interest is null").fetchone() == (0,)
    assert lake.execute("select distinct status from ops.published").fetchall() == [("passed",)]


def test_a_second_run_changes_nothing(chainlake: Chainlake, whole: Path) -> None:
    before = clean(whole)
    done = chainlake(*DAY, "--lake", str(whole))
    assert done.returncode == 0, done.stderr
    assert clean(whole) == before


def test_every_single_step_may_be_repeated(chainlake: Chainlake, whole: Path) -> None:
    """After the last step the clock stands on the next morning: what is over is refused, and nothing is lost."""
    before = clean(whole)
    day = ("--date", "2026-11-19", "--lake", str(whole), "--symbols", "AAPL")
    for step in (("enrichment", *day), ("rollup", *day[:4])):
        done = chainlake(*step)
        assert done.returncode == 0, done.stderr
        assert clean(whole) == before
    for over in (("discover", *day), ("snapshot", "--slot", "10:00", *day)):
        done = chainlake(*over)
        assert done.returncode == 2
        assert "over" in done.stderr
    assert clean(whole) == before


def test_a_day_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    chainlake: Chainlake, environment: dict[str, str], whole: Path, tmp_path: Path
) -> None:
    root = tmp_path / "lake"
    command = [*CLI, *DAY, "--lake", str(root)]
    killed_at = []
    for enough in (1, 120):
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
        # Killed in the middle of its work: once so many raw rows more are committed, and then without any warning.
        deadline = time.monotonic() + 60
        while raw_rows(root) < enough and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed_at.append(raw_rows(root))
    assert 0 < killed_at[0] < killed_at[-1] < 15 * len(clean(whole)["daily_clean"])
    done = chainlake(*DAY, "--lake", str(root))
    assert done.returncode == 0, done.stderr
    assert clean(root) == clean(whole)


def raw_rows(root: Path) -> int:
    if not (root / "lake.json").exists():
        return 0
    try:
        found = open_catalog(root).execute("select count(*) from raw.option_quotes").fetchone()
    except LakeError:
        return 0
    return found[0] if found else 0
