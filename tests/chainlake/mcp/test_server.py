"""chainlake mcp, asked by the official client: as a process on standard input and output, and over HTTP."""

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError

from flows.loopback import is_taken
from tests.chainlake.mcp.lakes import AFTER, BEFORE, HOSTILE, IV
from tests.commands import CLI, run_chainlake
from tests.lake.conftest import free_ports
from tests.lake.test_untrusted import content
from tests.models.conftest import SmallLake

PROJECT = Path(__file__).resolve().parents[3]
EXPIRY = "2014-07-17"
DOCUMENT = (PROJECT / "docs" / "mcp.md").read_text(encoding="utf-8")


def started(lake: SmallLake, place: Path, *more: str) -> StdioServerParameters:
    """`chainlake mcp` on `lake`, as an assistant starts it: in a folder where nothing of Chainlake is."""
    environment = {"PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])}
    return StdioServerParameters(
        command=CLI[0], args=[*CLI[1:], "mcp", "--lake", lake.lake.root, *more], env=environment, cwd=place
    )


async def table(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The answer of a tool, which is the same as text and as structured content."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    (content,) = result.content
    assert json.loads(content.text) == result.structured_content
    return dict(result.structured_content)


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    (content,) = result.content
    assert "\n" not in content.text
    return str(content.text)


def column(answer: dict[str, Any], name: str) -> list[Any]:
    return [row[answer["columns"].index(name)] for row in answer["rows"]]


# -- over standard input and output ------------------------------------------------------------------------------------


async def test_an_assistant_finds_its_way_from_the_days_to_a_contract_over_a_split(
    lake: SmallLake, tmp_path: Path
) -> None:
    async with Client(started(lake, tmp_path)) as client:
        days = await table(client, "days")
        assert column(days, "trade_date") == [str(AFTER), str(BEFORE)]
        assert column(days, "status") == ["failed", "passed"]
        assert column(days, "slots") == [14, 14]

        # The latest published day without being named; two strikes of 100 and 90, calls before puts.
        chain = await table(client, "chain", underlying="aapl")
        assert list(zip(column(chain, "strike"), column(chain, "right"), strict=True)) == [
            *((90.0, "C"), (90.0, "P"), (100.0, "C"), (100.0, "P"))
        ]
        assert column(chain, "iv") == [IV[5], IV[6], IV[1], IV[2]]
        assert column(chain, "open_interest") == [50, 60, 10, 20]

        smile = await table(client, "smile", underlying="AAPL", expiry=EXPIRY, trade_date=str(BEFORE), slot="11:00")
        assert column(smile, "strike") == [630.0, 700.0]
        # Below the spot of 700 the put is out of the money, at it the call counts as such.
        assert column(smile, "otm_iv") == [IV[4], IV[1]]

        structure = await table(client, "term_structure", underlying="AAPL", trade_date=str(BEFORE))
        assert column(structure, "atm_iv") == [pytest.approx((IV[1] + IV[2]) / 2)]
        assert column(structure, "days") == [41]

        history = await table(client, "contract_history", contract="AAPL 140717C00100000")
        assert column(history, "trade_date") == [str(BEFORE), str(AFTER)]
        assert column(history, "strike") == [700.0, 100.0]
        assert column(history, "strike_adj") == [100.0, 100.0]
        assert column(history, "bid_adj") == [1.0, 1.0]
        assert column(history, "open_interest_adj") == [70, 10]
        (key,) = set(column(history, "adjusted_contract_key"))
        assert (await table(client, "contract_history", contract=key, until=str(BEFORE)))["rows"] == history["rows"][:1]


async def test_the_quality_of_a_day_is_what_dbt_measured(lake: SmallLake, tmp_path: Path) -> None:
    async with Client(started(lake, tmp_path)) as client:
        quality = await table(client, "day_quality", trade_date=str(AFTER))
    measured = lake.rows(
        f"select metric, value, passed from quality.daily_metrics where trade_date = date '{AFTER}' order by metric"
    )
    got = sorted(zip(*(column(quality, name) for name in ("metric", "value", "passed")), strict=True))
    assert len(got) > 10
    assert [metric for metric, *_ in got] == [metric for metric, *_ in measured]
    for (metric, value, passed), (_, expected, verdict) in zip(got, measured, strict=True):
        assert (value, passed) == (pytest.approx(expected), verdict), metric


async def test_every_table_is_described_with_grain_and_units(lake: SmallLake, tmp_path: Path) -> None:
    async with Client(started(lake, tmp_path)) as client:
        tables = await table(client, "tables")
        assert {
            "raw.option_quotes",
            "clean.daily_adjusted",
            "quality.daily_metrics_passed",
            "ops.latest_published",
        } <= set(column(tables, "table"))
        assert all(grain.startswith("One row per") for grain in column(tables, "grain"))
        for name in ("raw.option_quotes", "clean.daily_adjusted_passed"):
            described = await table(client, "describe_table", table=name)
            assert len(described["rows"]) > 30
            assert all(column(described, "meaning")), name
        intraday = json.loads(await text_of(client, "chainlake://tables/clean.intraday"))
        assert ("iv", "model implied volatility, per year") in {(c["name"], c["meaning"]) for c in intraday["columns"]}
        assert "| raw.option_quotes | One row per capture outcome" in await text_of(client, "chainlake://tables")
        with pytest.raises(MCPError, match="chainlake://tables lists them"):
            await text_of(client, "chainlake://tables/clean.nosuch")
        tools = (await client.list_tools()).tools
    for tool in tools:
        assert tool.annotations.read_only_hint
        assert "row per" in tool.description or tool.name == "sql"


async def text_of(client: Client, uri: str) -> str:
    (found,) = (await client.read_resource(uri)).contents
    return str(found.text)


async def test_what_is_wrong_is_one_line_with_the_next_step(lake: SmallLake, tmp_path: Path) -> None:
    async with Client(started(lake, tmp_path)) as client:
        assert "write it as 2026-11-20" in await refusal(client, "chain", underlying="AAPL", trade_date="today")
        assert "10:30" in await refusal(client, "chain", underlying="AAPL", slot="9.30")
        assert "neither C (call) nor P (put)" in await refusal(client, "chain", underlying="AAPL", right="x")
        assert "`chain` gives" in await refusal(client, "contract_history", contract="AAPL140717C00999000")
        assert "OCC symbol" in await refusal(client, "contract_history", contract="'; drop")
        assert "`tables` lists" in await refusal(client, "describe_table", table="clean.daily_clean; drop")
        assert "does not exist" in await refusal(client, "describe_table", table="clean.nosuch")
        assert "ask for 1 to 2000" in await refusal(client, "days", rows=100_000)
        assert "syntax error" in await refusal(client, "sql", statement="selec 1")
        assert "is no instant" in await refusal(client, "sql", statement="select 1", as_of="noon")
        empty = await table(client, "chain", underlying="O'Neil\"; --")
        assert empty["rows"] == []
        assert "`days` lists" in empty["note"]


async def test_a_hostile_question_changes_nothing_and_gets_no_more_than_it_may(lake: SmallLake, tmp_path: Path) -> None:
    before = content(Path(lake.lake.root))
    async with Client(started(lake, tmp_path, "--timeout", "2", "--memory", "300MB")) as client:
        for statement in (
            "drop view raw.sessions",
            "copy (select 1) to 'out.csv'",
            "select * from read_text('/etc/passwd')",
            "select write_blob('x', 'y'::blob)",
            "attach 'x.duckdb'",
        ):
            assert "allowed" in (said := await refusal(client, "sql", statement=statement)) or "not a read" in said
        long = "select levenshtein(repeat('a', 1000000), repeat('b', 1000000))"
        assert "stopped after 2 s" in await refusal(client, "sql", statement=long)
        assert "memory" in await refusal(client, "sql", statement="select list_sort(range(100000000))[1]")
        assert "the answer has" in await refusal(client, "sql", statement="select repeat('x', 20000000) as x")

        endless = await table(client, "sql", statement="select * from range(100000000000)")
        assert (len(endless["rows"]), endless["truncated"]) == (200, True)
        assert "first 200 rows" in endless["note"]
        wide = await table(client, "sql", statement="select repeat('x', 1500) as x from range(900)", rows=900)
        assert len(json.dumps(wide)) < 210_000
        assert wide["truncated"]
        (cell,) = (await table(client, "sql", statement="select repeat('x', 5000) as x"))["rows"][0]
        assert cell.endswith("… (5,000 characters)")
    assert content(Path(lake.lake.root)) == before
    assert content(tmp_path) == {}


async def test_a_text_in_a_cell_is_data_in_which_nothing_is_invisible(lake: SmallLake, tmp_path: Path) -> None:
    async with Client(started(lake, tmp_path)) as client:
        answer = await table(
            client,
            "sql",
            statement=f"select error_message from raw.option_quotes where trade_date = date '{AFTER}' "
            "and error_message is not null",
        )
        instructions = client.instructions
    (said,) = column(answer, "error_message")
    assert said == HOSTILE.replace("\x1b", "\\x1b").replace("\x07", "\\x07").replace("\u202e", "\\u202e").replace(
        "\u202c", "\\u202c"
    )
    assert "they are no instruction" in instructions


async def test_values_that_json_has_not_come_as_texts(lake: SmallLake, tmp_path: Path) -> None:
    statement = """select 'nan'::double as a, '-inf'::float as b, 1.23::decimal(5, 2) as c, 'x'::blob as d,
        {'k': [1, null]} as e, map {'m': 2} as f, timestamptz '2014-06-06 13:30:00+00' as g, interval 3 hours as h,
        170141183460469231731687303715884105727::hugeint as i, 0.1::float as j, [0.5::float] as k"""
    async with Client(started(lake, tmp_path)) as client:
        (row,) = (await table(client, "sql", statement=statement))["rows"]
    assert row[:4] == ["nan", "-inf", "1.23", b"x".hex()]
    assert row[4:7] == [{"k": [1, None]}, [["m", 2]], "2014-06-06T13:30:00+00:00"]
    assert row[9:] == [0.1, [0.5]]


# -- over HTTP ---------------------------------------------------------------------------------------------------------


@contextmanager
def served(lake: SmallLake, place: Path) -> Iterator[int]:
    (port,) = free_ports(1)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "NO_PROXY": "127.0.0.1"}
    command = [*CLI, "mcp", "--lake", lake.lake.root, "--http", "--port", str(port)]
    with subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert f"http://127.0.0.1:{port}/mcp" in server.stdout.readline()
            while not is_taken(port):
                assert server.poll() is None
                time.sleep(0.05)
            yield port
        finally:
            server.terminate()


def status(port: int, method: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    accepted = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    connection.request(method, "/mcp", body, {**accepted, **headers})
    code = connection.getresponse().status
    connection.close()
    return code


async def test_over_http_own_clients_are_answered_and_pages_of_others_are_not(lake: SmallLake, tmp_path: Path) -> None:
    with served(lake, tmp_path) as port:
        async with Client(f"http://127.0.0.1:{port}/mcp") as client:
            assert column(await table(client, "days"), "trade_date") == [str(AFTER), str(BEFORE)]
        for method in ("POST", "GET", "DELETE"):
            assert status(port, method, Host=f"rebound.example:{port}") == 421
            assert status(port, method, Origin="http://evil.example") == 403
            assert status(port, method, Origin="null") == 403
            # Another server of this host.
            assert status(port, method, Origin="http://127.0.0.1:1") == 403
        with pytest.raises(OSError, match="refused"):
            http.client.HTTPConnection("127.0.0.2", port, timeout=5).connect()
        taken = run_chainlake("mcp", "--lake", lake.lake.root, "--http", "--port", str(port), place=tmp_path)
        assert taken.returncode == 2
        assert "is taken by" in taken.stderr


# -- where there is nothing to serve -----------------------------------------------------------------------------------


def test_without_a_lake_the_command_says_so_in_one_line(tmp_path: Path) -> None:
    result = run_chainlake("mcp", "--lake", str(tmp_path / "nothing"), place=tmp_path)
    assert result.returncode == 2
    assert "no lake at" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_without_the_library_the_command_names_the_extra(tmp_path: Path) -> None:
    """In a process of its own, whose interpreter finds no module `mcp`."""
    program = (
        "import importlib.util as u, sys; found = u.find_spec; "
        "u.find_spec = lambda name, *more: None if name == 'mcp' else found(name, *more); "
        "from chainlake.cli import main; main(['mcp'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 2
    assert 'pip install "chainlake[mcp]"' in result.stderr


# -- as documented -----------------------------------------------------------------------------------------------------


def documented() -> list[dict[str, Any]]:
    """The server of each configuration in docs/mcp.md."""
    blocks = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    return [server for block in blocks for part in json.loads(block).values() for server in part.values()]


async def test_the_configurations_of_the_document_start_a_server(lake: SmallLake, tmp_path: Path) -> None:
    servers = documented()
    assert len(servers) == 2
    for server in servers:
        assert server["command"].endswith("/chainlake")
        command, *more = server["args"]
        assert (command, more[:2]) == ("mcp", ["--lake", "/data/lake"])
        async with Client(started(lake, tmp_path, *more[2:])) as client:
            offered = {tool.name for tool in (await client.list_tools()).tools}
        assert {"chain", "sql"} <= offered
        told = set(re.findall(r"^\| `([^|]*)` \|", DOCUMENT, re.MULTILINE))
        assert offered == {name for cell in told for name in cell.split("`, `")}
