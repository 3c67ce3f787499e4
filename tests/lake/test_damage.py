"""A full disk, a folder without write permission, files that were cut short: one clear line, and nothing lost."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable

from lake.catalog.connection import open_catalog
from lake.duck import connect
from lake.store import Lake
from tests.lake.maintained import TABLE, append, row, with_days

DAY, NEXT = date(2026, 11, 19), date(2026, 11, 20)
SMALL_DISK_MB = 4


def conids(lake: Lake) -> list[int]:
    with connect() as connection:
        found = connection.execute(f"select conid from delta_scan('{lake.uri(TABLE)}') order by conid").fetchall()
    return [conid for (conid,) in found]


def chainlake(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chainlake.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MB}m", "tmpfs", str(place)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root on Linux")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_costs_the_batch_that_meets_it_and_nothing_before(small_disk: Path) -> None:
    lake = with_days(small_disk, DAY)
    before = conids(lake)
    filler = small_disk / "filler"
    with pytest.raises(OSError, match=r"No space left|os error 28"), filler.open("wb") as file:  # noqa: PT012
        while True:
            file.write(b"0" * 65_536)
            file.flush()
    rows = [row(NEXT, conid, "late") for conid in range(5_000)]
    with pytest.raises(Exception, match=r"No space left|os error 28"):
        lake.append(TABLE, rows, "late", 1)
    assert conids(lake) == before
    filler.unlink()
    assert lake.append(TABLE, rows, "late", 1)
    assert len(conids(lake)) == len(before) + 5_000


def test_the_command_line_says_in_one_line_that_the_disk_is_full(small_disk: Path) -> None:
    lake = with_days(small_disk, DAY)
    with (small_disk / "filler").open("wb") as file:
        while True:
            try:
                os.write(file.fileno(), b"0" * 65_536)
            except OSError:
                break
    done = chainlake("backup", "--lake", lake.root, "--to", str(small_disk / "copy"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr
    assert "nothing that was committed is lost" in done.stderr


def test_a_folder_without_write_permission_is_named(tmp_path: Path) -> None:
    if not os.geteuid():
        pytest.skip("root may write everywhere")
    lake = with_days(tmp_path, DAY)
    folder = Path(lake.uri(TABLE)) / "_delta_log"
    folder.chmod(0o555)
    try:
        with pytest.raises(Exception, match=r"[Pp]ermission denied"):
            append(lake, NEXT, range(3))
    finally:
        folder.chmod(0o755)
    assert len(conids(lake)) == 60


def test_a_file_system_that_became_read_only_is_said_and_nothing_is_lost(small_disk: Path) -> None:
    """As a disk becomes when the kernel finds it broken; root may not write there either."""
    lake = with_days(small_disk, DAY)
    before = conids(lake)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    try:
        with pytest.raises(Exception, match=r"Read-only file system|os error 30"):
            append(lake, NEXT, range(3))
        assert conids(lake) == before
        done = chainlake("compact", "--lake", lake.root)
        assert done.returncode in (1, 2)
        assert done.stderr.count("\n") == 1
        assert "Read-only file system" in done.stderr
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    append(lake, NEXT, range(100, 103))
    assert len(conids(lake)) == len(before) + 3


def test_a_data_file_that_was_cut_short_is_named_and_the_other_dates_can_be_read(tmp_path: Path) -> None:
    lake = with_days(tmp_path, DAY, NEXT)
    table = DeltaTable(lake.uri(TABLE))
    victim = next(Path(uri.removeprefix("file://")) for uri in table.file_uris() if f"trade_date={DAY}" in uri)
    victim.write_bytes(victim.read_bytes()[:100])
    done = chainlake("sql", "select count(conid) from raw.open_interest", "--lake", lake.root, "--json")
    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1
    assert victim.name in done.stderr
    other = chainlake(
        "sql",
        f"select count(conid) as n from raw.open_interest where trade_date = '{NEXT}'",
        "--lake",
        lake.root,
        "--json",
    )
    assert (other.returncode, other.stdout.split()) == (0, ['[{"n":60}]'])


def test_a_commit_that_was_cut_short_is_said_and_a_copy_of_it_heals_the_table(tmp_path: Path) -> None:
    lake = with_days(tmp_path, DAY)
    newest = max((Path(lake.uri(TABLE)) / "_delta_log").glob("*.json"))
    whole = newest.read_bytes()
    newest.write_bytes(whole[: len(whole) // 2])
    done = chainlake("sql", "select count(conid) from raw.open_interest", "--lake", lake.root)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    newest.write_bytes(whole)
    assert len(conids(lake)) == 60


def test_a_missing_checkpoint_is_said_and_made_up_by_the_commits(tmp_path: Path) -> None:
    lake = with_days(tmp_path, DAY, files=12)
    log_folder = Path(lake.uri(TABLE)) / "_delta_log"
    checkpoints = list(log_folder.glob("*.checkpoint.parquet"))
    assert checkpoints
    for checkpoint in checkpoints:
        checkpoint.unlink()
    done = chainlake("sql", "select count(conid) from raw.open_interest", "--lake", lake.root)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "_last_checkpoint, is deleted" in " ".join(done.stderr.split())
    (log_folder / "_last_checkpoint").unlink()
    assert len(conids(lake)) == 12 * 20
    append(lake, NEXT, range(3))
    assert open_catalog(lake.root).execute("select count(*) from raw.open_interest").fetchone() == (12 * 20 + 3,)


def test_a_clock_that_was_set_back_changes_no_row_and_no_order(tmp_path: Path) -> None:
    """Commits are ordered by their version; what the file system or the host says of time decides nothing."""
    lake = with_days(tmp_path, DAY)
    for number, file in enumerate(sorted((Path(lake.uri(TABLE)) / "_delta_log").glob("*.json"))):
        back = datetime(2020, 1, 10 - number, tzinfo=UTC).timestamp()
        os.utime(file, (back, back))
    append(lake, NEXT, range(100, 103))
    assert conids(lake) == sorted([*range(60), *range(100, 103)])
    assert lake.last_attempt(TABLE, f"test/{NEXT}/100") == 1
