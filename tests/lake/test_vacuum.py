"""VACUUM and the clean-up of logs take what nobody needs, and leave every version that a publication names."""

import os
import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest

from flows.maintenance import MaintenanceContext, run_vacuum
from ingest.errors import UsageError
from ingest.settings import load
from lake.errors import LakeError
from lake.links import outside
from lake.maintenance.compaction import candidates, compact
from lake.maintenance.lock import maintainer
from lake.maintenance.vacuum import kept_versions, tidy_log, vacuum
from lake.store import Lake
from tests.lake.maintained import HOT_FROM, NOW, OLD, RECENT, TABLE, TODAY, append, content, publish, with_days

HORIZON = NOW - timedelta(days=60)


def compacted(lake: Lake) -> None:
    with maintainer(lake, "compact") as hold:
        list(compact(lake, candidates(lake, TODAY, HOT_FROM), hold))


def data_files(lake: Lake) -> set[Path]:
    return set((Path(lake.root) / TABLE).rglob("*.parquet"))


def age(lake: Lake, days: int) -> None:
    """Make all files of the table look as old."""
    at = time.time() - days * 86400
    for path in (Path(lake.root) / TABLE).rglob("*"):
        os.utime(path, (at, at))


def version_of(lake: Lake) -> int:
    version = lake.version(TABLE)
    assert version is not None
    return version


def test_only_published_versions_within_the_horizon_and_the_latest_survive(tmp_path: Path) -> None:
    lake = with_days(tmp_path, RECENT)
    too_old, first = version_of(lake), content(lake)
    publish(lake, OLD, {TABLE: too_old}, HORIZON - timedelta(seconds=1))
    compacted(lake)
    named, second = version_of(lake), content(lake)
    publish(lake, RECENT, {TABLE: named}, HORIZON)
    append(lake, RECENT, range(900, 910))
    compacted(lake)
    latest = content(lake)
    assert len(data_files(lake)) == 3 + 1 + 1 + 1
    dry = list(vacuum(lake, HORIZON, None, 0, enforced=False))
    assert len(data_files(lake)) == 6
    with maintainer(lake, "vacuum") as hold:
        (done,) = vacuum(lake, HORIZON, hold, 0, enforced=False)
    assert dry == [done]
    assert (done.files, done.kept_versions, done.lost) == (4, 1, ())
    assert done.size > 4 * 1000
    assert len(data_files(lake)) == 2
    assert content(lake) == latest
    assert content(lake, version=named) == second == first


def test_the_publication_before_the_horizon_answers_at_it_and_is_kept(tmp_path: Path) -> None:
    lake = with_days(tmp_path, RECENT)
    publish(lake, OLD, {TABLE: 1}, HORIZON - timedelta(days=5))
    publish(lake, OLD, {TABLE: 2}, HORIZON - timedelta(days=4))
    publish(lake, RECENT, {TABLE: 3}, HORIZON + timedelta(days=1))
    assert kept_versions(lake, HORIZON) == {TABLE: [2, 3]}
    assert kept_versions(lake, HORIZON - timedelta(days=4)) == {TABLE: [2, 3]}


def test_files_of_the_last_week_stay_and_a_shorter_time_is_refused(tmp_path: Path) -> None:
    lake = with_days(tmp_path, RECENT)
    compacted(lake)
    (Path(lake.root) / TABLE / "trade_date=2026-11-19" / "part-of-a-killed-writer.parquet").write_bytes(b"PAR1")
    context = MaintenanceContext(lake, load(state={"dir": tmp_path / "state"}), NOW)
    assert run_vacuum(context).rows == ()
    assert len(data_files(lake)) == 5
    with pytest.raises(LakeError, match="168 hours"):
        list(vacuum(lake, HORIZON, None, 167))
    with pytest.raises(UsageError, match=r"maintenance\.vacuum_hours"):
        load(maintenance={"vacuum_hours": 24})


def test_what_a_killed_writer_left_goes_after_a_week(tmp_path: Path) -> None:
    lake = with_days(tmp_path, RECENT)
    orphan = Path(lake.root) / TABLE / "trade_date=2026-11-19" / "part-of-a-killed-writer.parquet"
    orphan.write_bytes(b"PAR1")
    age(lake, 8)
    (done,) = run_vacuum(MaintenanceContext(lake, load(state={"dir": tmp_path / "state"}), NOW)).rows
    assert (done["table"], done["files"], done["size"]) == (TABLE, 1, 4)
    assert not orphan.exists()
    assert sum(content(lake).values()) == 60


def test_the_log_shrinks_to_its_retention_and_versions_within_it_open(tmp_path: Path) -> None:
    lake = with_days(tmp_path, RECENT, files=12, rows=2)
    tidy_log(lake, TABLE, 61, checkpoint=True)
    age(lake, 62)
    for number in range(12):
        append(lake, RECENT, range(100 + number, 101 + number))
    oldest_kept, expected = version_of(lake) - 11, content(lake)
    log = Path(lake.root) / TABLE / "_delta_log"
    tidy_log(lake, TABLE, 61, checkpoint=True)
    assert len(list(log.glob("*.json"))) < version_of(lake)
    assert content(lake) == expected
    for version in range(oldest_kept, version_of(lake) + 1):
        assert sum(content(lake, version=version).values()) == min(24 + version - oldest_kept + 1, 36)


def test_a_published_version_that_is_gone_is_told_and_stops_nothing(tmp_path: Path) -> None:
    lake = with_days(tmp_path, RECENT, files=12, rows=2)
    publish(lake, RECENT, {TABLE: 2})
    tidy_log(lake, TABLE, 61, checkpoint=True)
    age(lake, 62)
    tidy_log(lake, TABLE, 61, checkpoint=True)
    context = MaintenanceContext(lake, load(state={"dir": tmp_path / "state"}), NOW)
    report = run_vacuum(context)
    assert [row["lost"] for row in report.rows] == [(2,)]
    assert "1 versions that publications name were gone before" in report.sentence


@pytest.mark.parametrize("part", ["table", "partition", "schema"])
def test_a_link_that_leads_out_of_the_lake_is_left_alone(tmp_path: Path, part: str) -> None:
    lake = with_days(tmp_path, RECENT)
    table = Path(lake.root) / TABLE
    linked = {"table": table, "partition": table / "trade_date=2026-11-19", "schema": table.parent}[part]
    away = tmp_path / "elsewhere"
    shutil.move(linked, away)
    (away / "somebody-elses.parquet").write_bytes(b"PAR1")
    linked.symlink_to(away, target_is_directory=True)
    compacted(lake)
    before = set(away.rglob("*"))
    with maintainer(lake, "vacuum") as hold:
        found = {each.table: each for each in vacuum(lake, NOW, hold, 0, enforced=False)}
        tidy_log(lake, TABLE, 61, checkpoint=True)
    assert set(away.rglob("*")) == before
    assert (found[TABLE].files, found[TABLE].link) == (0, str(table if part == "schema" else linked))
    # A root that is itself a link leads nowhere else.
    (tmp_path / "root").symlink_to(lake.root)
    assert outside(str(tmp_path / "root"), "ops/published") is None
    report = run_vacuum(MaintenanceContext(lake, load(state={"dir": tmp_path / "state"}), NOW))
    assert f"{TABLE} is left alone" in report.sentence
