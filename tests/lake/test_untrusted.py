"""SQL of a user in its own process: what the fence by name would let through can still neither write nor reach out."""

import hashlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lake.catalog.as_of import query_as_of
from lake.catalog.connection import Limits, query
from lake.catalog.untrusted import Question, answer
from lake.errors import LakeError, LakeMissing, QueryRefused
from lake.store import Lake
from tests.small_lake import DAYS, PASSED, small_lake

PROJECT = Path(__file__).resolve().parents[2]
SMALL = Limits(memory="300MB", threads=1, seconds=60)
linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's means are those of Linux")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return small_lake(tmp_path_factory.mktemp("lake with a space"))


def content(root: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM clean.daily_clean ORDER BY ALL",
        "SELECT sample_time, slot_30m, is_close FROM raw.sessions ORDER BY ALL",
        "SELECT data_quality_flag, {'a': [1, 2]} AS s, MAP {1: 'x'} AS m FROM clean.intraday LIMIT 1",
        "SELECT i, 'row ' || i AS t FROM range(200000) r(i)",
        "SELECT 1 WHERE false",
        "SELECT 'it''s ✓ \n a line', $$'$$",
        "FROM chain(date '2026-11-19', 1, 'AAPL')",
        "DESCRIBE raw.option_quotes",
    ],
)
def test_an_answer_is_that_of_the_same_process(lake: Lake, sql: str) -> None:
    assert answer(Question(lake.root, sql), SMALL).equals(query(lake.root, sql, limits=SMALL))


def test_an_answer_as_of_an_instant_is_that_of_the_same_process(lake: Lake) -> None:
    sql, at = "SELECT count(*) FROM raw.option_quotes", f"{PASSED} 17:30"
    found = answer(Question(lake.root, sql, at, 36500), SMALL)
    assert found.equals(query_as_of(lake.root, sql, at, days=36500, limits=SMALL))
    with pytest.raises(QueryRefused, match="is no instant"):
        answer(Question(lake.root, sql, "noon", 36500), SMALL)


@pytest.mark.parametrize(
    ("root", "sql", "kind", "message"),
    [
        (None, "SELECT nosuch", QueryRefused, "nosuch"),
        (None, "SELEC 1", QueryRefused, "syntax error"),
        (None, "SELECT error('a' || chr(10) || 'b')", QueryRefused, "a b"),
        (None, "SELECT write_blob('x', 'y'::blob)", QueryRefused, "not allowed"),
        (None, "DROP VIEW raw.sessions", QueryRefused, "not a read"),
        ("/nowhere", "SELECT 1", LakeMissing, "chainlake demo"),
    ],
)
def test_what_is_wrong_is_one_line(lake: Lake, root: str | None, sql: str, kind: type[LakeError], message: str) -> None:
    with pytest.raises(kind, match=message) as refusal:
        answer(Question(root or lake.root, sql), SMALL)
    assert "\n" not in str(refusal.value)


def test_modules_of_the_working_directory_are_not_loaded(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "duckdb", "lake"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('loaded')")
    monkeypatch.chdir(tmp_path)
    assert answer(Question(lake.root, "SELECT 1 AS one"), SMALL).to_pydict() == {"one": [1]}


def test_a_program_with_threads_can_ask(lake: Lake) -> None:
    found: list[int] = []
    asking = [
        threading.Thread(
            target=lambda n=n: found.append(answer(Question(lake.root, f"SELECT {n} AS n"), SMALL)["n"][0].as_py())
        )
        for n in range(2)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert sorted(found) == [0, 1]


# -- limits ------------------------------------------------------------------------------------------------------------


def test_of_an_endless_answer_the_first_rows_are_given(lake: Lake) -> None:
    few = Limits(memory="300MB", threads=1, seconds=60, rows=3)
    assert answer(Question(lake.root, "SELECT * FROM range(100000000000)"), few)["range"].to_pylist() == [0, 1, 2]
    newest = Question(lake.root, "SELECT DISTINCT trade_date FROM clean.daily_clean ORDER BY trade_date DESC")
    assert answer(newest, few)["trade_date"].to_pylist() == sorted(DAYS, reverse=True)
    assert answer(Question(lake.root, "DESCRIBE clean.daily_clean"), few).num_rows == 3
    as_of = Question(lake.root, "SELECT conid FROM raw.contracts", f"{PASSED} 17:30", 36500)
    assert answer(as_of, few).num_rows == 3


def test_an_answer_that_is_larger_than_wanted_is_refused(lake: Lake) -> None:
    small = Limits(memory="300MB", threads=1, seconds=60, rows=3, answer_bytes=100_000)
    with pytest.raises(QueryRefused, match=r"the answer has 0\.3 MB, more than 0\.1"):
        answer(Question(lake.root, "SELECT repeat('x', 100000) FROM range(10)"), small)
    assert answer(Question(lake.root, "SELECT repeat('x', 10000) FROM range(10)"), small).num_rows == 3


def test_a_function_that_heeds_no_interrupt_is_ended(lake: Lake) -> None:
    """It would take many minutes, in which DuckDB looks at no clock."""
    with pytest.raises(QueryRefused, match=r"stopped after 0\.5 s"):
        answer(
            Question(lake.root, "SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))"),
            Limits(memory="300MB", threads=1, seconds=0.5),
        )


@linux
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT list_sort(range(100000000))[1]",
        "SELECT repeat('x', 4000000000)",
        "SELECT list(i) FROM range(100000000) t(i)",
        "SELECT i FROM range(300000000) t(i)",
    ],
)
def test_memory_that_duckdb_does_not_count_is_bounded_too(lake: Lake, sql: str) -> None:
    with pytest.raises(QueryRefused, match="too much memory"):
        answer(Question(lake.root, sql), SMALL)


# -- the process -------------------------------------------------------------------------------------------------------

CONFINED = """
import sys
from lake.catalog import sandbox
sandbox.confine(network={network})
from pathlib import Path
import os, socket, subprocess, duckdb
from lake.duck import connect
path, inside, port = sys.argv[1:]
print("confined", flush=True)
{action}
"""
# Each would do harm; all of them run in a process whose DuckDB is not fenced at all.
HARM = [
    "Path(path).write_text('x')",
    "Path(inside).write_text('x')",
    "open(inside, 'a').write('x')",
    "os.truncate(inside, 0)",
    "os.remove(inside)",
    "os.rename(inside, path)",
    "os.symlink(inside, path)",
    "os.mkdir(path)",
    "subprocess.run(['touch', path])",
    "os.execv('/bin/touch', ['touch', path])",
    "connect().execute('select write_blob($1, $2)', [path, b'x']).fetchall()",
    "connect().execute('select write_blob($1, $2)', [inside, b'x']).fetchall()",
    "connect().execute(f\"copy (select 1) to '{path}'\")",
    "connect().execute(f\"attach '{path}'\")",
    "connect().execute(f\"from copy_dir('{Path(inside).parent}', '{path}')\").fetchall()",
    "connect(threads=4).execute('select write_blob($1 || i, $2) from range(500000) t(i)', [path, b'x']).fetchall()",
]
CONNECTIONS = [
    "socket.create_connection(('127.0.0.1', int(port)), timeout=5)",
    "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', int(port)))",
    "socket.socket(socket.AF_UNIX)",
    "connect().execute(f\"from delta_scan('http://127.0.0.1:{port}/x')\").fetchall()",
    "connect().execute(f\"select json_serialize_plan('from delta_scan(''http://127.0.0.1:{port}/x'')')\").fetchall()",
]


def run(action: str, network: bool, *arguments: object) -> subprocess.CompletedProcess[str]:
    program = CONFINED.replace("{network}", str(network)).replace("{action}", action)
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, *map(str, arguments)],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "AWS_EC2_METADATA_DISABLED": "true"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    # It came as far as the harm: an error before would prove nothing.
    assert done.stdout.startswith("confined"), done.stderr
    return done


@linux
@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("action", HARM)
def test_a_confined_process_changes_nothing(tmp_path: Path, action: str, network: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    inside = folder / "lake.json"
    inside.write_text("whole")
    done = run(action, network, tmp_path / "out", inside, 0)
    assert done.returncode != 0
    assert "Error" in done.stderr
    assert (content(tmp_path), [path.name for path in tmp_path.iterdir()]) == (
        {str(inside): hashlib.sha256(b"whole").hexdigest()},
        ["folder"],
    )


@linux
@pytest.mark.parametrize("action", CONNECTIONS)
def test_a_confined_process_connects_to_nothing(tmp_path: Path, action: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        run(action, False, tmp_path / "out", tmp_path / "in", listener.getsockname()[1])
        with pytest.raises(BlockingIOError):
            listener.accept()


@linux
def test_the_network_of_an_object_store_stays(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        done = run(CONNECTIONS[0], True, tmp_path / "out", tmp_path / "in", listener.getsockname()[1])
        listener.accept()[0].close()
    assert done.returncode == 0
