"""What appends leave in the log of a table: short commits, checkpoints, and the cleaning up to maintenance."""

import json
import os
import time
from datetime import date
from pathlib import Path

import pytest

from lake.maintenance.vacuum import tidy_log
from lake.store import Lake
from lake.tables import OPEN_INTEREST, TABLES, Table
from tests.lake.maintained import TABLE, append, new_lake

DAY = date(2026, 11, 19)
LOG_DAYS = 61
# What file skipping is done by, where a table has it.
SKIPPED_BY = {"slot_30m", "underlying", "conid", "view"}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return new_lake(tmp_path)


def log_of(lake: Lake) -> Path:
    return Path(lake.uri(TABLE)) / "_delta_log"


def test_a_commit_has_the_statistics_that_files_are_skipped_by_and_no_others(lake: Lake) -> None:
    append(lake, DAY, range(3))
    actions = [json.loads(line) for line in max(log_of(lake).glob("*.json")).read_text().splitlines()]
    (stats,) = [json.loads(action["add"]["stats"]) for action in actions if "add" in action]
    assert stats["numRecords"] == 3
    assert set(stats["maxValues"]) == {column.name for column in OPEN_INTEREST.columns[1:7]}
    assert stats["maxValues"]["conid"] == 2


@pytest.mark.parametrize(
    "table", [table for table in TABLES if table.name.startswith("raw/")], ids=lambda each: each.name
)
def test_the_columns_that_files_are_skipped_by_are_among_the_first(table: Table) -> None:
    columns = [column.name for column in table.columns]
    assert SKIPPED_BY & set(columns) <= set(columns[:7])


def test_an_append_leaves_an_old_log_to_maintenance_and_makes_checkpoints(lake: Lake) -> None:
    for number in range(25):
        append(lake, DAY, range(3 * number, 3 * number + 3))
    long_ago = time.time() - (LOG_DAYS + 10) * 86_400
    for path in log_of(lake).iterdir():
        os.utime(path, (long_ago, long_ago))
    for number in range(25, 36):
        append(lake, DAY, range(3 * number, 3 * number + 3))
    commits = {int(path.stem) for path in log_of(lake).glob("*.json")}
    assert commits == set(range(37))
    assert len(list(log_of(lake).glob("*.checkpoint.parquet"))) == 3
    tidy_log(lake, TABLE, LOG_DAYS, checkpoint=True)
    left = {int(path.stem) for path in log_of(lake).glob("*.json")}
    assert 0 not in left
    assert max(commits) in left
    table = lake.table(TABLE)
    assert table is not None
    assert table.count() == 36 * 3
