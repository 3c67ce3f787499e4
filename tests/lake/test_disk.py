"""A file system that is too full is a breach: said, recorded, and an exit code."""

import subprocess
from pathlib import Path

import pytest

from flows.maintenance import MaintenanceContext, check_disk
from ingest.settings import load
from lake.maintenance.disk import usage
from lake.reads import reader
from tests.commands import run_chainlake
from tests.lake.maintained import NOW, new_lake

EMPTY_BOUND = 0.000001


def test_file_systems_are_told_of_once_and_a_folder_that_is_not_there_by_its_parent(tmp_path: Path) -> None:
    found = usage([str(tmp_path), str(tmp_path / "not" / "there"), "s3://bucket/lake"])
    assert [each.path for each in found] == [str(tmp_path)]
    assert 0 < found[0].used_pct < 100


def test_the_share_is_the_one_df_prints(tmp_path: Path) -> None:
    printed = subprocess.run(["df", "--output=pcent", str(tmp_path)], capture_output=True, text=True, check=False)
    if printed.returncode:
        pytest.skip("this df has no --output")
    (found,) = usage([str(tmp_path)])
    assert found.used_pct == pytest.approx(int(printed.stdout.split()[-1].rstrip("%")), abs=1.1)


def test_a_breach_is_recorded_and_ends_with_1(tmp_path: Path) -> None:
    lake = new_lake(tmp_path)
    flags = {"state": {"dir": tmp_path / "state"}}
    assert check_disk(MaintenanceContext(lake, load(**flags), NOW), dry_run=True).rows
    report = check_disk(MaintenanceContext(lake, load(**flags, maintenance={"disk_used_pct": EMPTY_BOUND}), NOW))
    assert not report.passed
    with reader(lake) as reads:
        (run,) = reads.rows("ops/runs")
        (error,) = reads.rows("ops/errors")
    assert (run["step"], run["status"], error["error_type"]) == ("disk", "failed", "disk_full")
    assert "chainlake retention" in error["message"]
    environment = {"CHAINLAKE_STATE__DIR": str(tmp_path / "state"), "CHAINLAKE_MAINTENANCE__DISK_USED_PCT": "1e-6"}
    assert run_chainlake("disk", "--lake", lake.root, environment=environment).returncode == 1
    environment["CHAINLAKE_MAINTENANCE__DISK_USED_PCT"] = "100"
    assert run_chainlake("disk", "--lake", lake.root, environment=environment).returncode == 0
