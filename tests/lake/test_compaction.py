"""Compaction makes few good files, keeps every row whatever others do meanwhile, and cannot double rows."""

import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.maintenance import MaintenanceContext
from flows.maintenance import compact as compact_step
from ingest.settings import load
from lake.duck import connect
from lake.maintenance.compaction import COMPACTED, RowsDiffer, candidates, compact, prove_last, undo
from lake.maintenance.lock import MaintainerBusy, maintainer
from lake.maintenance.retention import Cutoffs, expired, remove_expired
from lake.maintenance.vacuum import tidy_log, vacuum
from lake.reads import reader
from lake.store import Lake
from lake.tables import OPEN_INTEREST
from tests.commands import run_chainlake
from tests.lake.conftest import ObjectStore
from tests.lake.maintained import (
    HOT_FROM,
    NOW,
    OLD,
    RECENT,
    TABLE,
    TODAY,
    append,
    bare_lake,
    codecs,
    content,
    counts,
    new_lake,
    row,
    with_days,
)

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["lake.maintenance.compaction", "lake.maintenance.lock", "tests.lake.maintained"])


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = connect(threads=1)
    yield connection
    connection.close()


def compacted(lake: Lake, same_day: bool = False) -> list[tuple[str, str, bool, int]]:
    with maintainer(lake, "compact") as hold:
        done = list(compact(lake, candidates(lake, TODAY, HOT_FROM, same_day), hold))
    return [(each.candidates.table, each.candidates.trade_date, each.candidates.rewrite, each.files) for each in done]


# -- what it makes -----------------------------------------------------------------------------------------------------


def test_hot_days_are_merged_cold_ones_sorted_and_packed_and_today_is_left_alone(tmp_path: Path) -> None:
    lake = with_days(tmp_path, OLD, RECENT, TODAY)
    before = content(lake)
    assert compacted(lake) == [(TABLE, str(OLD), True, 1), (TABLE, str(RECENT), False, 1)]
    assert content(lake) == before
    assert codecs(lake, TABLE, OLD) == {"ZSTD"}
    assert codecs(lake, TABLE, RECENT) == codecs(lake, TABLE, TODAY) == {"SNAPPY"}
    rows = duckdb.sql(f"select underlying, conid from read_parquet({files_of(lake, OLD)}, file_row_number = true)")
    underlyings = [underlying for underlying, _ in rows.fetchall()]
    assert sum(a != b for a, b in pairwise(underlyings)) == len(set(underlyings)) - 1


def files_of(lake: Lake, day: date) -> list[str]:
    table = lake.table(TABLE)
    assert table is not None
    return [uri for uri in table.file_uris() if str(day) in uri]


def test_what_is_done_is_not_done_again_until_something_is_added(tmp_path: Path) -> None:
    lake = with_days(tmp_path, OLD, RECENT)
    compacted(lake)
    version = lake.version(TABLE)
    assert compacted(lake) == []
    assert lake.version(TABLE) == version
    append(lake, OLD, range(500, 510))
    append(lake, RECENT, range(500, 510))
    assert compacted(lake) == [(TABLE, str(OLD), True, 1), (TABLE, str(RECENT), False, 1)]


def test_the_day_itself_is_compacted_when_the_settings_say_so(tmp_path: Path) -> None:
    lake = with_days(tmp_path, TODAY)
    assert compacted(lake, same_day=True) == [(TABLE, str(TODAY), False, 1)]


def test_tables_without_underlying_and_conid_are_merged_however_old(tmp_path: Path) -> None:
    lake = new_lake(tmp_path)
    for number in range(3):
        found = {"trade_date": OLD, "incident_id": str(number), "state": "opened", "cause": "", "severity": "warning"}
        lake.append("ops/incidents", [found | {"changed_at": NOW}], f"test/{number}", 1)
    assert compacted(lake) == [("ops/incidents", str(OLD), False, 1)]


def test_a_lake_in_an_object_store_is_maintained_alike(in_store: ObjectStore) -> None:
    lake = bare_lake(in_store.new_root())
    for number in range(3):
        append(lake, OLD, range(number * 10, number * 10 + 10))
    before = content(lake)
    assert compacted(lake) == [(TABLE, str(OLD), True, 1)]
    assert compacted(lake) == []
    with maintainer(lake, "vacuum") as hold:
        tidy_log(lake, TABLE, 61, checkpoint=True)
        (done,) = vacuum(lake, NOW, hold, 0, enforced=False)
    assert (done.files, done.size > 3000) == (3, True)
    assert content(lake) == before


# -- not a row more or less --------------------------------------------------------------------------------------------

steps = st.lists(
    st.sampled_from(["append old", "append recent", "compact", "vacuum", "log", "retire", "replace"]),
    min_size=3,
    max_size=7,
)


@settings(max_examples=8)
@given(steps=steps)
def test_maintenance_at_any_moment_changes_no_row(
    tmp_path_factory: pytest.TempPathFactory, duck: duckdb.DuckDBPyConnection, steps: list[str]
) -> None:
    lake = bare_lake(tmp_path_factory.mktemp("any") / "lake")
    expected: dict[tuple[date, int], int] = {}
    for number, step in enumerate(steps):
        day = OLD if step == "append old" else RECENT
        conids = range(number * 10, number * 10 + 4)
        if step.startswith("append"):
            append(lake, day, conids)
            expected |= {(day, conid): conid * 10 for conid in conids}
        elif step == "replace":
            rows = pa.Table.from_pylist([row(day, conid) for conid in conids], schema=OPEN_INTEREST.schema)
            lake.replace_dates(TABLE, rows.to_reader, [day])
            expected = {key: value for key, value in expected.items() if key[0] != day}
            expected |= {(day, conid): conid * 10 for conid in conids}
        elif step == "compact":
            compacted(lake)
        else:
            with maintainer(lake, step) as hold:
                if step == "vacuum":
                    list(vacuum(lake, NOW, hold, 0, enforced=False))
                elif step == "log":
                    tidy_log(lake, TABLE, 0, checkpoint=True)
                else:
                    list(remove_expired(lake, expired(lake, Cutoffs(TODAY, TODAY, TODAY)), hold))
        query = f"select trade_date, conid, open_interest from delta_scan('{lake.uri(TABLE)}')"
        found = duck.execute(query).fetchall()
        assert Counter(found) == Counter((*key, value) for key, value in expected.items())


def write_many(lake: Lake, writer: int, begin: Barrier, commits: int) -> None:
    begin.wait()
    for number in range(commits):
        start = (writer * commits + number) * 10
        append(lake, OLD if number % 2 else RECENT, range(start, start + 10))


def test_appends_during_compaction_are_neither_lost_nor_doubled(
    tmp_path: Path, duck: duckdb.DuckDBPyConnection
) -> None:
    lake = bare_lake(tmp_path / "lake")
    commits, begin = 12, processes.Barrier(3)
    writers = [processes.Process(target=write_many, args=(lake, each, begin, commits)) for each in range(2)]
    for process in writers:
        process.start()
    begin.wait()
    compactions = 0
    while any(process.is_alive() for process in writers):
        compactions += len(compacted(lake))
    assert [process.exitcode for process in writers] == [0, 0]
    assert compactions > 0
    found = duck.execute(f"select conid from delta_scan('{lake.uri(TABLE)}')").fetchall()
    assert Counter(conid for (conid,) in found) == Counter(range(2 * commits * 10))
    assert counts(lake, duck) == {2 * commits * 10}


# -- the trap ----------------------------------------------------------------------------------------------------------


def optimize_bare(uri: str, opened: Barrier, failed: Event) -> None:
    """OPTIMIZE by the library alone, on a snapshot that both processes have read."""
    table = DeltaTable(uri)
    opened.wait()
    try:
        table.optimize.compact()
    except Exception:
        failed.set()


def optimize_by_chainlake(lake: Lake, opened: Barrier, refused: Event) -> None:
    opened.wait()
    try:
        with maintainer(lake, "compact") as hold:
            list(compact(lake, candidates(lake, TODAY, HOT_FROM), hold))
            time.sleep(0.5)
    except MaintainerBusy:
        refused.set()


def at_once(work: object, first: object) -> bool:
    """Whether one of two processes that do `work` at once was refused, or failed."""
    opened, event = processes.Barrier(2), processes.Event()
    both = [processes.Process(target=work, args=(first, opened, event)) for _ in range(2)]  # type: ignore[arg-type]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    return event.is_set()


def test_two_optimize_at_once_double_every_row_in_the_library_and_both_report_success(
    tmp_path: Path, duck: duckdb.DuckDBPyConnection
) -> None:
    """deltalake 1.6.6. Should this fail, the library has learned better, and docs/maintenance.md can say so."""
    for attempt in range(5):
        lake = with_days(tmp_path / str(attempt), RECENT, files=8)
        assert not at_once(optimize_bare, lake.uri(TABLE))
        if counts(lake, duck) == {2 * 8 * 20}:
            return
    pytest.fail("five tries and no doubling")


def test_two_compactions_at_once_are_one_by_chainlake(tmp_path: Path, duck: duckdb.DuckDBPyConnection) -> None:
    lake = with_days(tmp_path, RECENT, OLD, files=4)
    assert at_once(optimize_by_chainlake, lake)
    assert counts(lake, duck) == {2 * 4 * 20}


class Elsewhere:
    """A program that optimizes a table behind our back, between our reading of it and our commit."""

    def __init__(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done, self.armed = False, False
        table = Lake.table

        def opened(of: Lake, name: str) -> DeltaTable | None:
            found = table(of, name)
            if name == TABLE and not self.done and self.armed:
                self.done = True
                DeltaTable(lake.uri(TABLE)).optimize.compact()
            return found

        monkeypatch.setattr(Lake, "table", opened)


def foreign_compaction(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Double the rows: ours and a foreign OPTIMIZE on one snapshot."""
    behind = Elsewhere(lake, monkeypatch)
    partitions = candidates(lake, TODAY, HOT_FROM)
    monkeypatch.setattr("lake.maintenance.compaction.prove_last", lambda lake, name: setattr(behind, "armed", True))
    with maintainer(lake, "compact") as hold:
        list(compact(lake, partitions, hold))


def test_a_doubling_by_another_program_is_undone_at_once_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, duck: duckdb.DuckDBPyConnection
) -> None:
    lake = with_days(tmp_path, RECENT)
    before = content(lake)
    with pytest.raises(RowsDiffer, match=r"120 rows of 60 in raw/open_interest of 2026-11-19 .* is restored to"):
        foreign_compaction(lake, monkeypatch)
    assert content(lake) == before
    assert counts(lake, duck) == {60}
    monkeypatch.undo()
    assert compacted(lake) == []


@pytest.mark.long
def test_a_doubling_that_others_have_built_on_is_named_with_the_command_that_undoes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, duck: duckdb.DuckDBPyConnection
) -> None:
    lake = with_days(tmp_path, RECENT)
    monkeypatch.setattr("lake.maintenance.compaction.prove", lambda *_: None)
    monkeypatch.setattr("lake.maintenance.compaction.prove_by_reading", lambda *_: None)
    before = content(lake)
    foreign_compaction(lake, monkeypatch)  # the maintainer dies before its proof
    monkeypatch.undo()
    version = lake.version(TABLE)
    append(lake, RECENT, range(900, 910))
    append(lake, OLD, range(900, 910))
    with pytest.raises(RowsDiffer, match=rf"chainlake compact --lake \S+ --undo raw/open_interest@{version}`"):
        compacted(lake)
    assert version is not None
    with maintainer(lake, "undo") as hold:
        assert undo(lake, TABLE, version, hold) == [str(RECENT)]
    added = {f"test/{day}/900" for day in (OLD, RECENT)}
    after = content(lake)
    assert Counter({each: n for each, n in after.items() if not any(app in each for app in added)}) == before
    assert counts(lake, duck) == {60 + 20}
    compacted(lake)
    assert content(lake) == after


# -- the end of a maintainer -------------------------------------------------------------------------------------------


def compact_for_ever(lake: Lake, begun: Event) -> None:
    begun.set()
    while True:
        with maintainer(lake, "compact") as hold:
            list(compact(lake, candidates(lake, TODAY, HOT_FROM), hold))


@pytest.mark.long
def test_a_maintainer_that_is_killed_leaves_a_whole_table_and_the_next_finishes(
    tmp_path: Path, duck: duckdb.DuckDBPyConnection
) -> None:
    chance = random.Random(7)
    lake = with_days(tmp_path, OLD, RECENT, files=6)
    before = content(lake)
    for kill in range(5):
        append(lake, (OLD, RECENT)[kill % 2], range(1000 + kill * 10, 1010 + kill * 10))
        begun = processes.Event()
        process = processes.Process(target=compact_for_ever, args=(lake, begun))
        process.start()
        begun.wait(30)
        time.sleep(chance.uniform(0, 0.12))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert counts(lake, duck) == {240 + 10 * (kill + 1)}
    compacted(lake)
    assert candidates(lake, TODAY, HOT_FROM) == []
    assert before - content(lake) == Counter()
    assert counts(lake, duck) == {240 + 50}
    prove_last(lake, TABLE)
    table = lake.table(TABLE)
    assert table is not None
    assert any(COMPACTED in commit for commit in table.history())


# -- the step ----------------------------------------------------------------------------------------------------------


def test_the_step_says_beforehand_what_it_does_and_leaves_its_record(tmp_path: Path) -> None:
    lake = with_days(tmp_path, OLD, RECENT)
    context = MaintenanceContext(lake, load(state={"dir": tmp_path / "state"}), NOW)
    said, version = compact_step(context, dry_run=True), lake.version(TABLE)
    assert lake.version(TABLE) == version
    done = compact_step(context)
    assert (
        [row["trade_date"] for row in done.rows] == [row["trade_date"] for row in said.rows] == [str(OLD), str(RECENT)]
    )
    with reader(lake) as reads:
        (run,) = reads.rows("ops/runs")
    assert (run["step"], run["status"], run["asked"], run["captured"], run["message"]) == (
        *("compact", "ok", 2, 2),
        done.sentence,
    )
    lines = (tmp_path / "state" / "run_logs" / "retention_202611.jsonl").read_text().splitlines()
    assert [json.loads(line)["rows"] for line in lines] == [60, 60]
    table = lake.table(TABLE)
    assert table is not None
    assert table.metadata().configuration["delta.logRetentionDuration"] == "interval 68 days"
    assert table.metadata().configuration["delta.checkpointInterval"] == "10"


@pytest.mark.parametrize("undo", ["raw/open_interest", "raw/open_interest@0", "raw/nothing@3", "../x@1"])
def test_an_undo_of_what_is_no_compaction_is_wrong_usage(tmp_path: Path, undo: str) -> None:
    lake = bare_lake(tmp_path / "lake")
    (tmp_path / "lake" / "lake.json").write_text(
        json.dumps({"origin": "simulated", "created_at": NOW.isoformat(), "schema_version": 1})
    )
    done = run_chainlake("compact", "--lake", lake.root, "--undo", undo, place=tmp_path)
    assert done.returncode == 2
    assert "--undo" in done.stderr
