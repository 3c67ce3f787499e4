"""A backup made beside a writer holds whole commits, adds what is new, and is a lake again where it is copied to."""

import multiprocessing
from datetime import UTC, datetime
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from deltalake import DeltaTable

from lake.duck import connect
from lake.errors import LakeError
from lake.maintenance.backup import back_up
from lake.maintenance.lock import MaintainerBusy, maintainer
from lake.store import Lake
from tests.lake.test_evolution import NAME, error_row

NOW = datetime(2026, 11, 20, 15, tzinfo=UTC)
BATCH = 5


def batches(lake: Lake, first: int, count: int) -> None:
    for number in range(first, first + count):
        rows = [error_row(BATCH * number + each) for each in range(BATCH)]
        assert lake.append(NAME, rows, f"batch-{number}", 1)


def conids(root: Path | str) -> list[int]:
    with connect() as connection:
        rows = connection.execute(f"select conid from delta_scan('{root}/{NAME}') order by conid").fetchall()
    return [row[0] for row in rows]


def write_on(root: str, running: Event, enough: Event) -> None:
    lake, number = Lake.open(root), 100
    while not enough.is_set():
        batches(lake, number, 1)
        running.set()
        number += 1


def test_a_second_backup_adds_what_is_new_and_the_copy_is_a_lake(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake", "simulated", NOW)
    batches(lake, 0, 12)  # past a checkpoint
    first = back_up(lake, str(tmp_path / "copy"))
    batches(lake, 12, 3)
    second = back_up(lake, str(tmp_path / "copy"))
    assert 0 < second.files < first.files
    assert second.kept == first.files
    back_up(Lake.open(tmp_path / "copy"), str(tmp_path / "again"))
    restored = Lake.open(tmp_path / "again")
    assert restored.origin == "simulated"
    assert conids(restored.root) == list(range(15 * BATCH))
    assert DeltaTable(restored.uri(NAME)).version() == DeltaTable(lake.uri(NAME)).version()
    # what was acknowledged is known in the copy too: it is not written twice
    assert not restored.append(NAME, [error_row(0)], "batch-0", 1)


def test_a_backup_beside_a_writer_holds_whole_batches_without_a_gap(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake", "simulated", NOW)
    batches(lake, 0, 3)
    spawn = multiprocessing.get_context("spawn")
    running, enough = spawn.Event(), spawn.Event()
    writer = spawn.Process(target=write_on, args=(lake.root, running, enough))
    writer.start()
    try:
        assert running.wait(60)
        for _ in range(4):
            back_up(lake, str(tmp_path / "copy"))
            found = conids(tmp_path / "copy")
            later = [conid for conid in found if conid >= 100 * BATCH]
            assert found == [*range(3 * BATCH), *later]
            assert later == list(range(100 * BATCH, 100 * BATCH + len(later)))
            assert len(later) % BATCH == 0
    finally:
        enough.set()
        writer.join(30)
    assert later


def test_a_backup_goes_only_where_one_belongs(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake", "simulated", NOW)
    other = Lake.create(tmp_path / "other", "simulated", datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(LakeError, match="another lake"):
        back_up(lake, other.root)
    with pytest.raises(LakeError, match="is the lake itself"):
        back_up(lake, lake.root)
    with maintainer(lake, "compact"), pytest.raises(MaintainerBusy, match="compact"):
        back_up(lake, str(tmp_path / "copy"))
