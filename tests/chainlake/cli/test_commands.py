"""The command line: one clear line and the right exit code for every mistake, and what a user sees."""

import json
from pathlib import Path

import pytest

from tests.commands import Chainlake, run_chainlake


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("discover", "--port", "1", "--date", "2026-11-23"), 3, "chainlake gateway"),
        (("discover", "--symbols", "ZZZZ", "--date", "2026-11-19"), 2, "ZZZZ"),
        (("discover", "--date", "2026-12-25"), 2, "2026-12-24"),
        (("discover", "--date", "2026-11-27"), 2, "future"),
        (("discover", "--date", "tomorrow"), 2, "no date"),
        (("snapshot", "--date", "2026-11-19", "--slot", "12:34"), 2, "09:30"),
        (("snapshot", "--date", "2026-11-19", "--slot", "now"), 2, "no slot"),
        (("enrichment", "--date", "2026-11-19"), 2, "is due from 2026-11-20 04:00"),
        (("rollup", "--date", "2026-11-19", "--lake", "nowhere"), 2, "no lake"),
        (("qa", "--lake", "nowhere"), 2, "no lake"),
        (("sql", "select 1", "--lake", "nowhere"), 2, "no lake"),
        (("demo", "--replay", "missing.parquet"), 2, "missing.parquet"),
        (("gateway", "--replay-date", "2026-11-20", "--lake", "nowhere"), 2, "no lake"),
        (("gateway", "--at", "noon"), 2, "--at"),
        (("gateway", "--lines", "0"), 2, "--lines"),
        (("gateway", "--latency", "fast"), 2, "--latency"),
        (("discover", "--config", "nowhere.toml"), 2, "chainlake init"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    environment: dict[str, str], tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = run_chainlake(*arguments, place=tmp_path, environment=environment)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stderr.startswith("chainlake: ")
    assert done.stderr.count("\n") == 1


def test_a_malformed_universe_is_named_with_its_line(chainlake: Chainlake, tmp_path: Path) -> None:
    file = tmp_path / "universe.csv"
    file.write_text("symbol,conid,sec_type,exchange,weight,group,views\nAAPL,one,STK,SMART,,,both\n")
    done = chainlake("discover", CHAINLAKE_UNIVERSE__FILE=str(file))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "universe.csv, line 2" in done.stderr


def test_init_writes_a_configuration_that_works_and_keeps_what_is_there(chainlake: Chainlake, tmp_path: Path) -> None:
    assert chainlake("init", str(tmp_path)).returncode == 0
    mine = tmp_path / "config" / "universe.csv"
    mine.write_text("symbol,conid,sec_type,exchange,weight,group,views\nMSFT,,,,,,\n")
    again = chainlake("init", str(tmp_path))
    assert again.stdout.count("kept") == 4
    assert "MSFT" in mine.read_text()
    dry = chainlake(
        "discover", "--config", str(tmp_path / "config" / "chainlake.toml"), "--date", "2026-11-19", "--dry-run"
    )
    assert dry.returncode == 0, dry.stderr


def test_a_dry_run_writes_nothing(chainlake: Chainlake, tmp_path: Path) -> None:
    root = tmp_path / "lake"
    for step in (("discover",), ("run-day",)):
        assert chainlake(*step, "--date", "2026-11-19", "--dry-run", "--lake", str(root)).returncode == 0
    assert not root.exists()


def test_results_are_json_for_programs(chainlake: Chainlake, tmp_path: Path) -> None:
    root = ("--lake", str(tmp_path / "lake"))
    done = chainlake("discover", "--symbols", "MSFT", "--date", "2026-11-19", "--json", *root)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)
    assert (run["step"], run["status"]) == ("discover", "ok")
    counted = chainlake("sql", "select count(*) as contracts from raw.contracts", "--json", *root)
    assert json.loads(counted.stdout) == [{"contracts": run["captured"]}]
    refused = chainlake("sql", "drop table raw.contracts", *root)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
