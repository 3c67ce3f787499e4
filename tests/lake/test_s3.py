"""A lake in an object store holds what a lake on disk holds, and says in one line what is wrong with the store."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from multiprocessing.synchronize import Barrier
from pathlib import Path

import duckdb
import pytest

from flows.models import BuildPaths, BuildResult, DbtProject
from flows.publication import BuildOutcome, publish
from lake.catalog.connection import Limits, open_catalog, query, read
from lake.catalog.untrusted import Question, answer
from lake.errors import LakeError, LakeMissing, ObjectStoreError, OriginMismatch, QueryRefused
from lake.origin import Origin
from lake.reads import reader
from lake.replay import write_replay_day
from lake.store import ORIGINS, Lake
from tests.lake.conftest import BUCKET, SECRET, ObjectStore, free_ports
from tests.models.rows import CREATED, LATER, Day, Row, contract, write_seeds

REPOSITORY = Path(__file__).resolve().parents[2]
# AAPL was split 7:1 between the two.
DAYS = (date(2014, 6, 6), date(2014, 6, 9))
STRIKES = {1: 651.0, 2: 658.0}
AFTER_SPLIT = {1: 93.0, 2: 94.0}
CONTRACTS = [contract(conid, strike=strike) for conid, strike in STRIKES.items()]
SPLIT = {"symbol": "AAPL", "event_type": "split", "effective_date": DAYS[1], "ratio_new": 7, "ratio_old": 1}
SMALL = Limits(memory="500MB", threads=1, seconds=60)
# What a person at a terminal waits for an error, at most.
SECONDS = 20

pytestmark = [pytest.mark.usefixtures("in_store"), pytest.mark.long]


# -- whole days --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Built:
    lake: Lake
    result: BuildResult
    folder: Path


def record(lake: Lake) -> None:
    """Two complete days of two contracts: every slot, the close snapshot, the open interest of the next morning."""
    for trade_date in DAYS:
        day = Day(lake, trade_date)
        day.open(*CONTRACTS)
        quotes = [day.quote(each, slot, bid=1 + slot / 100) for each in CONTRACTS for slot in range(14)]
        day.write("raw/option_quotes", [*quotes, *(day.close_quote(each) for each in CONTRACTS)])
        day.write("raw/underlying_quotes", [day.underlying("AAPL", 13, view="close")])
        day.write("raw/open_interest", [day.open_interest(each, 100 + each["conid"]) for each in CONTRACTS])
        day.write("ops/runs", [run(day)])


def run(day: Day) -> Row:
    times = {"started_at": day.session.open, "ended_at": day.session.close}
    named = {"trade_date": day.trade_date, "step": "snapshot", "ingest_id": day.ingest_id(), "trigger": "demo"}
    return named | times | {"status": "ok", "host": "here", "pacing_errors": 0}


def rolled_up(root: str, folder: Path) -> Built:
    lake = Lake.create(root, "simulated", CREATED)
    record(lake)
    seeds = write_seeds(folder / "config", actions=[SPLIT])
    result = DbtProject().build(BuildPaths(lake.root, seeds, folder / "state"), DAYS, as_of=LATER)
    failures, warnings = ([finding.name for finding in found] for found in (result.failures, result.warnings))
    publish(
        lake, result.dates, BuildOutcome(result.versions, failures, warnings), seeds / "corporate_actions.csv", LATER
    )
    return Built(lake, result, folder)


@pytest.fixture(scope="module")
def stored(in_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return rolled_up(in_store.new_root(), tmp_path_factory.mktemp("stored"))


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("local")
    return rolled_up(str(folder / "lake"), folder)


@pytest.fixture(scope="module")
def catalog(stored: Built) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_catalog(stored.lake.root, SMALL) as connection:
        yield connection


def test_days_in_the_store_have_the_values_of_the_same_days_on_disk(stored: Built, local: Built) -> None:
    names = stored.lake.table_names()
    assert names == local.lake.table_names()
    assert len([name for name in names if name.startswith(("clean/", "quality/"))]) == 6
    # A publication has a new id each time.
    compared = [f"select columns(c -> c <> 'run_id') from {name.replace('/', '.')} order by all" for name in names]
    with open_catalog(stored.lake.root, SMALL) as ours, open_catalog(local.lake.root, SMALL) as theirs:
        for everything in compared:
            assert read(ours, everything).equals(read(theirs, everything)), everything


def test_published_days_are_what_was_captured(stored: Built, catalog: duckdb.DuckDBPyConnection) -> None:
    assert stored.result.failures == ()
    published = read(catalog, "select trade_date, status from ops.latest_published order by all").to_pylist()
    assert published == [{"trade_date": day, "status": stored.result.status} for day in DAYS]
    found = read(catalog, "select trade_date, conid, bid, strike_adj from clean.daily_adjusted order by all")
    # The close snapshot bids 1.00.
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        *((DAYS[0], conid, 1.0, strike) for conid, strike in AFTER_SPLIT.items()),
        *((DAYS[1], conid, 1.0, strike) for conid, strike in STRIKES.items()),
    ]


def test_capture_and_replay_read_the_store(stored: Built, tmp_path: Path) -> None:
    with reader(stored.lake) as reads:
        assert reads.latest_date() == DAYS[1]
        assert {row["conid"] for row in reads.contracts(DAYS[0])} == set(STRIKES)
    assert write_replay_day(stored.lake, DAYS[0], tmp_path / "day.parquet") == 14 * len(STRIKES)


def test_dbt_from_the_shell_builds_in_the_store(stored: Built) -> None:
    """NullWatcher tells it versions to read: it lists the logs."""
    before = stored.lake.version("clean/daily_unresolved")
    ran = dbt(stored, "run", "--select", "daily_unresolved")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert before is not None
    assert stored.lake.version("clean/daily_unresolved") == before + 1


def dbt(built: Built, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the checked-in project on the lake, with the database and the parsed project of its last build."""
    workspace = built.folder / "state" / "dbt"
    environment = os.environ | {
        "CHAINLAKE_LAKE__ROOT": built.lake.root,
        "CHAINLAKE_DBT_DATABASE": str(workspace / "chainlake.duckdb"),
        "CHAINLAKE_SEEDS": str(built.folder / "config"),
        **variables,
    }
    options = ["--project-dir", "dbt_project", "--profiles-dir", "."]
    options += ["--target-path", str(workspace / "target"), "--log-path", str(workspace / "logs")]
    command = [str(Path(sys.executable).parent / "dbt"), *arguments, *options]
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


# -- many at once ------------------------------------------------------------------------------------------------------

ATTEMPTS = 6


def append_all(root: str, name: str, start: Barrier) -> None:
    """Every attempt under an id of this process, and under one that another process uses at the same time."""
    lake = Lake.open(root)
    start.wait()
    for attempt in range(1, ATTEMPTS + 1):
        for app_id in ("shared", name):
            lake.append("ops/errors", [error_row(app_id, attempt)], app_id, attempt)


def error_row(app_id: str, attempt: int) -> Row:
    row = {"trade_date": DAYS[0], "step": app_id, "ingest_id": str(attempt), "observed_at": CREATED}
    return row | {"error_type": "timeout", "message": "none"}


def test_two_processes_at_once_append_each_attempt_exactly_once(in_store: ObjectStore) -> None:
    lake = Lake.create(in_store.new_root(), "simulated", CREATED)
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(2)
    writers = [spawn.Process(target=append_all, args=(lake.root, name, start)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0]
    counted = query(lake.root, "select step, ingest_id, count(*) as rows from ops.errors group by all order by all")
    assert counted.to_pylist() == [
        {"step": step, "ingest_id": str(attempt), "rows": 1}
        for step in ("a", "b", "shared")
        for attempt in range(1, ATTEMPTS + 1)
    ]


def test_a_process_of_its_own_reads_the_store_and_cannot_write_beside_it(in_store: ObjectStore) -> None:
    lake = Lake.create(in_store.new_root(), "simulated", CREATED)
    lake.append("ops/errors", [error_row("a", 1)], "a", 1)
    assert answer(Question(lake.root, "select step from ops.errors"), Limits("500MB")).to_pydict() == {"step": ["a"]}
    with pytest.raises(QueryRefused, match="not allowed"):
        answer(Question(lake.root, f"select write_blob('{lake.root}/lake.json', 'x'::blob)"), Limits("500MB"))


def origins_after_a_race(root: str) -> list[str]:
    """What each of several makers at once has: the origin that it asked for, or "refused"."""
    wanted = ORIGINS * 2
    start = threading.Barrier(len(wanted))

    def make(origin: Origin) -> str:
        start.wait()
        try:
            return Lake.create(root, origin, CREATED).origin
        except OriginMismatch:
            return "refused"

    with ThreadPoolExecutor(len(wanted)) as makers:
        return list(makers.map(make, wanted))


@pytest.mark.parametrize("place", ["store", "disk"])
def test_of_all_who_make_a_lake_at_once_one_origin_wins(in_store: ObjectStore, tmp_path: Path, place: str) -> None:
    for attempt in range(3):
        root = in_store.new_root() if place == "store" else str(tmp_path / str(attempt) / "lake")
        outcomes = origins_after_a_race(root)
        lake = Lake.open(root)
        assert sorted(outcomes) == sorted([lake.origin] * 2 + ["refused"] * 6)
        for name in lake.table_names():
            table = lake.table(name)
            assert table is not None
            assert len(table.history()) == 1


def test_a_lake_whose_making_was_cut_short_keeps_the_origin_of_who_began(tmp_path: Path) -> None:
    """Killed between the first table and the manifest."""
    Lake.create(tmp_path, "replay", CREATED)
    manifest = tmp_path / "lake.json"
    text = manifest.read_text()
    manifest.unlink()
    with pytest.raises(OriginMismatch, match="holds replay data"):
        Lake.create(tmp_path, "simulated", LATER)
    # Whose lake it is completes it, with the list of its tables.
    begun = json.loads(text)
    assert json.loads(manifest.read_text()) == {name: begun[name] for name in begun if name != "tables"}
    Lake.create(tmp_path, "replay", LATER)
    assert manifest.read_text() == text
    assert begun["created_at"] == CREATED.isoformat()


# -- what is wrong with the store --------------------------------------------------------------------------------------


def nobody_listens() -> str:
    return f"http://127.0.0.1:{free_ports(1)[0]}"


WRONG: dict[str, tuple[dict[str, str | Callable[[], str]], str]] = {
    "unknown key": ({"AWS_ACCESS_KEY_ID": "nobody"}, "does not accept the credentials: check AWS_ACCESS_KEY_ID"),
    "wrong secret": ({"AWS_SECRET_ACCESS_KEY": "guess"}, "does not accept the credentials: check AWS_ACCESS_KEY_ID"),
    "no key": ({"AWS_ACCESS_KEY_ID": ""}, "no credentials for s3://: set AWS_ACCESS_KEY_ID"),
    "server down": ({"AWS_ENDPOINT_URL": nobody_listens}, "does not answer: check AWS_ENDPOINT_URL"),
    "no such host": ({"AWS_ENDPOINT_URL": "http://nowhere.invalid"}, "does not answer: check AWS_ENDPOINT_URL"),
    "no address": ({"AWS_ENDPOINT_URL": "127.0.0.1:9000"}, "AWS_ENDPOINT_URL is no address: write it like https://"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_store_that_cannot_be_used_is_told_in_one_line_within_seconds(
    stored: Built, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    lake = Lake.open(stored.lake.root)
    variables, message = WRONG[wrong]
    for name, value in variables.items():
        monkeypatch.setenv(name, value if isinstance(value, str) else value())
    for step in (
        lambda: Lake.open(lake.root),
        lambda: Lake.create(lake.root, "simulated", CREATED),
        lambda: open_catalog(lake.root),
        lambda: lake.table_names(),
        # These had a lake that could be reached when they began.
        lambda: lake.version("raw/sessions"),
        lambda: lake.append("ops/errors", [error_row("late", 1)], "late", 1),
    ):
        began = time.monotonic()
        with pytest.raises(ObjectStoreError, match=message) as refusal:
            step()
        assert time.monotonic() - began < SECONDS
        assert "\n" not in str(refusal.value)
        assert SECRET not in str(refusal.value)


def test_a_missing_bucket_is_not_a_missing_lake(in_store: ObjectStore) -> None:
    with pytest.raises(LakeMissing, match="chainlake demo"):
        Lake.open(in_store.new_root())
    for step in (Lake.open, lambda root: Lake.create(root, "simulated", CREATED), open_catalog):
        with pytest.raises(ObjectStoreError, match=r"there is no bucket no-such-bucket at http://.*: make it"):
            step("s3://no-such-bucket/lake")


@pytest.mark.parametrize("root", ["gs://bucket/lake", "s3://", "s3://b", "s3://bucket/a lake", "s3://bucket/a/../b"])
def test_a_root_that_is_none_is_refused(root: str) -> None:
    with pytest.raises(LakeError, match="is no root of a lake") as refusal:
        Lake.open(root)
    assert not isinstance(refusal.value, LakeMissing)


def test_a_slash_at_the_end_of_a_root_changes_nothing(stored: Built) -> None:
    assert Lake.open(f"{stored.lake.root}/") == stored.lake


@pytest.mark.slow
def test_dbt_tells_wrong_credentials_without_a_traceback(stored: Built) -> None:
    ran = dbt(stored, "run", "--select", "daily_unresolved", AWS_ACCESS_KEY_ID="nobody")
    assert ran.returncode != 0
    assert "does not accept the credentials" in ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr


# -- what stays closed -------------------------------------------------------------------------------------------------


def test_the_catalog_reads_the_lake_and_nothing_else_in_the_store(
    stored: Built, catalog: duckdb.DuckDBPyConnection
) -> None:
    """Both fences: the statement's, and the connection's own."""
    others = [f"{stored.lake.root}-2", f"{stored.lake.root.removesuffix('lake')}other"]
    for other in others:
        Lake.create(other, "simulated", CREATED).append("ops/errors", [error_row("x", 1)], "x", 1)
        with pytest.raises(duckdb.PermissionException):
            catalog.execute(f"from read_text('{other}/lake.json')")
    for other in (*others, f"{stored.lake.root}/../other"):
        for sql in (f"from delta_scan('{other}/ops/errors')", f"from read_text('{other}/lake.json')"):
            with pytest.raises(QueryRefused):
                read(catalog, sql)
            with pytest.raises(duckdb.Error):
                catalog.execute(sql).fetchall()
        with pytest.raises(QueryRefused):
            read(catalog, f"from '{other}/x.parquet'")
    inside = f"select count(*) from glob('{stored.lake.root}/lake.json')"
    assert catalog.execute(inside).fetchone() == (1,)
    with pytest.raises(duckdb.PermissionException):
        catalog.execute(f"from read_text('http://{BUCKET}/lake.json')")


def test_credentials_are_in_no_answer_and_in_no_file(stored: Built, catalog: duckdb.DuckDBPyConnection) -> None:
    for sql in (
        "select current_setting('s3_secret_access_key') || current_setting('s3_access_key_id') as text",
        "select string_agg(value, ' ') as text from duckdb_settings()",
    ):
        assert SECRET not in str(read(catalog, sql).to_pylist())
    for sql in ("from duckdb_secrets()", "from duckdb_secrets(redact => false)", "from which_secret('s3://x', 's3')"):
        with pytest.raises(QueryRefused):
            read(catalog, sql)
    files = [path for path in stored.folder.rglob("*") if path.is_file()]
    assert {"dbt.log", "chainlake.duckdb", "manifest.json"} <= {path.name for path in files}
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
