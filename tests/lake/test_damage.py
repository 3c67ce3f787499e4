"""A full disk, a folder without write permission, files that were cut short: one clear line, and nothing lost."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from chainlake.ops.doctor.host import place_checks
from chainlake.ops.doctor.tables import table_checks
from ingest.settings import load
from lake.catalog.connection import open_catalog
from lake.duck import connect
from lake.errors import Damaged
from lake.maintenance.compaction import candidates, compact
from lake.maintenance.lock import maintainer
from lake.maintenance.vacuum import vacuum
from lake.reads import reader
from lake.store import Lake
from tests.commands import run_chainlake as chainlake
from tests.lake.maintained import HOT_FROM, NOW, TABLE, append, publish, row, with_days

DAY, NEXT = date(2026, 11, 19), date(2026, 11, 20)
SMALL_DISK_MB = 4


def conids(lake: Lake) -> list[int]:
    with connect() as connection:
        found = connection.execute(f"select conid from delta_scan('{lake.uri(TABLE)}') order by conid").fetchall()
    return [conid for (conid,) in found]


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


# -- logs --------------------------------------------------------------------------------------------------------------


def newest_commit(lake: Lake) -> Path:
    return max((Path(lake.uri(TABLE)) / "_delta_log").glob("*.json"))


def readings(lake: Lake) -> dict[str, Callable[[], object]]:
    """Every way to a table: writers, readers, maintenance."""

    def through_reader() -> object:
        with reader(lake) as reads:
            return reads.rows(TABLE)

    def compacted() -> object:
        with maintainer(lake, "compact") as hold:
            return list(compact(lake, candidates(lake, NOW.date(), HOT_FROM), hold))

    return {
        "append": lambda: append(lake, NEXT, range(3)),
        "version": lambda: lake.version(TABLE),
        "reader": through_reader,
        "catalog": lambda: open_catalog(lake.root),
        "compact": compacted,
        "vacuum": lambda: list(vacuum(lake, NOW, None)),
    }


@pytest.mark.parametrize("share", [0, 0.5], ids=["empty", "torn"])
def test_a_damaged_last_commit_is_told_by_all_with_its_file_and_remedy(tmp_path: Path, share: float) -> None:
    lake = with_days(tmp_path, DAY)
    newest = newest_commit(lake)
    whole = newest.read_bytes()
    newest.write_bytes(whole[: int(share * len(whole))])
    for what, read in readings(lake).items():
        with pytest.raises(Damaged) as told:
            read()
        message = str(told.value)
        assert str(newest) in message, what
        assert ("is cut short" if share else "is empty") in message
        assert "from a backup" in message
        assert "delete it" in message
        assert "\n" not in message
    newest.unlink()
    assert len(conids(lake)) == 40
    append(lake, NEXT, range(3))
    assert len(conids(lake)) == 43


def test_doctor_finds_an_empty_commit_that_others_came_after(tmp_path: Path) -> None:
    """An earlier version wrote on after it: what reads the latest state sees a table without these rows."""
    lake = with_days(tmp_path, DAY, files=12)
    commit = Path(lake.uri(TABLE)) / "_delta_log" / f"{3:020}.json"
    commit.write_bytes(b"")
    failed = [check for check in table_checks(load(lake={"root": lake.root}), lake, NOW) if check.status == "fail"]
    assert [check.name for check in failed] == [f"table {TABLE}"]
    assert str(commit) in failed[0].found
    assert "delete it" not in failed[0].found


def test_a_commit_that_is_missing_in_the_middle_is_named(tmp_path: Path) -> None:
    lake = with_days(tmp_path, DAY)
    commit = Path(lake.uri(TABLE)) / "_delta_log" / f"{2:020}.json"
    commit.unlink()
    with pytest.raises(Damaged, match=rf"{commit.name} is missing"):
        lake.version(TABLE)


def test_a_table_of_ops_that_is_missing_is_made_again_when_it_is_written_to(tmp_path: Path) -> None:
    lake = with_days(tmp_path, DAY)
    for name in ("ops/runs", "ops/published", "ops/errors"):
        shutil.rmtree(lake.uri(name))
    assert lake.claim("snapshot/x") == 1
    publish(lake, DAY, {TABLE: 1})
    done = chainlake("compact", "--lake", lake.root)
    assert (done.returncode, done.stderr) == (0, "")
    assert lake.version("ops/errors") is not None or lake.last_commit_at("ops/runs") is not None


@pytest.mark.parametrize("left", ["nothing", "files"])
def test_a_raw_table_that_is_gone_is_not_begun_anew(tmp_path: Path, left: str) -> None:
    lake = with_days(tmp_path, DAY)
    place = Path(lake.uri(TABLE))
    shutil.copytree(place, tmp_path / "kept")
    shutil.rmtree(place if left == "nothing" else place / "_delta_log")
    for begin in (lambda: append(lake, NEXT, range(3)), lambda: Lake.create(lake.root, "simulated", NOW)):
        with pytest.raises(Damaged, match=rf"{place} .*from a backup"):
            begin()
    assert f"table {TABLE}" in {
        check.name for check in table_checks(load(lake={"root": lake.root}), lake, NOW) if check.status == "fail"
    }
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(tmp_path / "kept", place)
    append(lake, NEXT, range(100, 103))
    assert len(conids(lake)) == 63


def test_a_table_of_models_that_is_gone_is_not_begun_anew(tmp_path: Path) -> None:
    lake, name = with_days(tmp_path, DAY), "clean/daily_clean"
    rows = pa.table({"trade_date": pa.array([DAY], pa.date32()), "conid": [1]})
    lake.replace_dates(name, rows.to_reader, [DAY])
    shutil.rmtree(lake.uri(name))
    with pytest.raises(Damaged, match=r"lake\.json says that it exists"):
        lake.replace_dates(name, rows.to_reader, [DAY])


def test_a_lake_of_an_earlier_version_names_its_tables_once_it_is_opened_for_writing(tmp_path: Path) -> None:
    lake = with_days(tmp_path, DAY)
    manifest = Path(lake.uri("lake.json"))
    known = json.loads(manifest.read_text())
    tables = known.pop("tables")
    assert TABLE in tables
    manifest.write_text(json.dumps(known))
    Lake.open(lake.root)
    assert json.loads(manifest.read_text()) == known
    Lake.create(lake.root, "simulated", NOW)
    assert json.loads(manifest.read_text()) == known | {"tables": tables}


def test_what_no_code_expected_of_delta_or_duckdb_is_one_line_too(tmp_path: Path) -> None:
    lake = with_days(tmp_path, DAY)
    place = Path(lake.uri("raw/sessions"))
    commit = place / "_delta_log" / f"{0:020}.json"
    # Lines of JSON, and no Delta log.
    commit.write_text('{"commitInfo": {}}\n')
    for command in (("compact",), ("sql", "select count(*) from raw.sessions")):
        done = chainlake(*command, "--lake", lake.root)
        assert done.returncode in (1, 2)
        assert done.stderr.count("\n") == 1, done.stderr
        assert "Traceback" not in done.stderr


def test_a_full_disk_is_told_with_what_to_free(small_disk: Path) -> None:
    lake = with_days(small_disk, DAY)
    with (small_disk / "filler").open("wb") as file, suppress(OSError):
        while True:
            os.write(file.fileno(), b"0" * 65_536)
    with pytest.raises(Damaged, match=r"No space left on the file system of .*`retention` and `vacuum`"):
        lake.append(TABLE, [row(NEXT, conid, "late") for conid in range(5_000)], "late", 1)


# -- a disk on which no commit can be made -----------------------------------------------------------------------------


def test_a_file_system_without_hard_links_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(source: object, target: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(source), None, str(target))

    # Stands for exFAT: the system call is what the file system decides.
    monkeypatch.setattr(os, "link", no_link)
    with pytest.raises(Damaged, match="no hard links"):
        Lake.create(tmp_path / "new" / "lake", "simulated", NOW)
    assert list(tmp_path.iterdir()) == []
    checks = {check.name: check for check in place_checks(load(lake={"root": str(tmp_path / "lake")}))}
    assert checks["hard links"].status == "fail"
    monkeypatch.undo()
    checks = {check.name: check for check in place_checks(load(lake={"root": str(tmp_path / "lake")}))}
    assert checks["hard links"].status == "ok"
    assert list(tmp_path.iterdir()) == []
