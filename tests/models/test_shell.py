"""The checked-in project as a dbt user runs it: no Chainlake command, no variables, no network, tables missing."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from lake.duck import connect
from lake.store import Lake
from tests.models.rows import CREATED, Day, contract, write_seeds

pytestmark = pytest.mark.long

REPOSITORY = Path(__file__).resolve().parents[2]
DAYS = (date(2014, 6, 5), date(2014, 6, 6))


@dataclass(frozen=True)
class Checkout:
    """A copy of the checkout in which `dbt build` ran; no test changes it."""

    root: Path
    ran: subprocess.CompletedProcess[str]
    seeds_before: dict[str, bytes]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The checkout with a lake in its default place: two complete days, some tables missing; built from its root."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copy(REPOSITORY / "profiles.yml", root)
    shutil.copytree(REPOSITORY / "dbt_project", root / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    write_seeds(root / "config")
    seeds = {file.name: file.read_bytes() for file in (root / "config").iterdir()}
    lake = Lake.create(root / "data" / "lake", "simulated", CREATED)
    for trade_date in DAYS:
        day = Day(lake, trade_date)
        day.open(contract(1))
        day.write("raw/option_quotes", [day.quote(contract(1), slot) for slot in range(14)])
    shutil.rmtree(root / "data" / "lake" / "ops")
    shutil.rmtree(root / "data" / "lake" / "raw" / "open_interest")
    shutil.rmtree(root / "data" / "lake" / "raw" / "underlying_quotes")
    # As a lake of an earlier version is: its manifest names no tables, so none of them is lost.
    manifest = root / "data" / "lake" / "lake.json"
    manifest.write_text(json.dumps({k: v for k, v in json.loads(manifest.read_text()).items() if k != "tables"}))
    return Checkout(root, dbt(root, "build", "--project-dir", "dbt_project", "--profiles-dir", "."), seeds)


@pytest.fixture
def another(checkout: Checkout, tmp_path: Path) -> Path:
    """A checkout of its own, built like the shared one, for a test that changes it."""
    return shutil.copytree(checkout.root, tmp_path / "checkout")


def dbt(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CHAINLAKE_", "DBT_"))}
    # Nothing answers there: whatever tried to reach the network would fail.
    environment |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [str(Path(sys.executable).parent / "dbt"), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_build_from_the_root_writes_all_tables_and_fails_on_what_is_missing(checkout: Checkout) -> None:
    ran = checkout.ran
    assert ran.returncode == 1, ran.stdout + ran.stderr
    failed = {
        line.split("FAIL")[1].split()[1] for line in ran.stdout.splitlines() if " FAIL " in line and "[FAIL" in line
    }
    assert failed == {"oi_filled_holds"}, ran.stdout
    assert " SKIP=0 " in ran.stdout
    assert " ERROR=1 " in ran.stdout
    lake = Lake.open(checkout.root / "data" / "lake")
    assert lake.table_names() == [
        "clean/daily_adjusted",
        "clean/daily_clean",
        "clean/daily_unresolved",
        "clean/intraday",
        "quality/daily_metrics",
        "quality/slot_coverage",
        "raw/contracts",
        "raw/option_quotes",
        "raw/sessions",
    ]
    daily = connect().sql(f"select trade_date, rollup_strategy from delta_scan('{lake.uri('clean/daily_clean')}')")
    assert sorted(daily.fetchall()) == [(day, "close") for day in DAYS]


def test_a_build_leaves_the_files_that_people_edit_alone(checkout: Checkout) -> None:
    """dbt-core writes what it ran beside a seed's path, which is the CSV file itself here."""
    assert {file.name: file.read_bytes() for file in (checkout.root / "config").iterdir()} == checkout.seeds_before


def test_test_from_the_project_folder_tells_one_contract(checkout: Checkout) -> None:
    ran = dbt(checkout.root / "dbt_project", "test", "--profiles-dir", "..", "--select", "daily_clean")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "daily_tables_reconcile" in ran.stdout


def test_docs_are_generated_offline(another: Path) -> None:
    ran = dbt(another / "dbt_project", "docs", "generate", "--static", "--profiles-dir", "..")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    target = another / "dbt_project" / "target"
    catalog = json.loads((target / "catalog.json").read_text())
    assert "STRIKE_PER_100" in {name.upper() for name in catalog["nodes"]["model.chainlake.daily_clean"]["columns"]}
    manifest = json.loads((target / "manifest.json").read_text())
    kept = [node for node in manifest["nodes"].values() if node["config"]["materialized"] == "delta"]
    assert len(kept) == 6
    assert all(node["config"]["contract"]["enforced"] for node in kept)
    assert set(manifest["exposures"]) == {
        f"exposure.chainlake.{name}" for name in ("dashboard", "command_line", "catalog")
    }
    # The whole site in one file that asks nobody for anything.
    page = (target / "static_index.html").read_text()
    assert "daily_adjusted" in page


def test_freshness_of_the_sources_is_judged_by_when_rows_were_loaded(another: Path) -> None:
    lake = Lake.create(another / "data" / "lake", "simulated", CREATED)
    day, now = Day(lake, DAYS[1]), datetime.now(UTC)
    recent = {"trade_date": (now - timedelta(days=6)).date()}
    day.write("raw/option_quotes", [day.quote(contract(1), 0, requested_at=now - timedelta(hours=90), **recent)])
    day.write("raw/open_interest", [day.open_interest(contract(1), 5, observed_at=now - timedelta(days=6), **recent)])
    ran = dbt(another, "source", "freshness", "--project-dir", "dbt_project", "--profiles-dir", ".")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    results = json.loads((another / "dbt_project" / "target" / "sources.json").read_text())["results"]
    assert {result["unique_id"].removeprefix("source.chainlake."): result["status"] for result in results} == {
        "raw.option_quotes": "pass",
        "raw.open_interest": "warn",
        # Of 2014, or never.
        "raw.sessions": "error",
        "raw.contracts": "error",
        "raw.underlying_quotes": "error",
        "ops.runs": "error",
        "ops.published": "error",
    }


def test_a_model_that_breaks_its_contract_writes_nothing(another: Path) -> None:
    model = another / "dbt_project" / "models" / "marts" / "daily_unresolved.sql"
    before = Lake.open(another / "data" / "lake").version("clean/daily_unresolved")
    model.write_text(
        model.read_text().replace("latest.error_code,\n", "cast(latest.error_code as bigint) as error_code,\n")
    )
    ran = dbt(another / "dbt_project", "run", "--profiles-dir", "..", "--select", "daily_unresolved")
    assert ran.returncode == 1
    assert "enforced contract that failed" in ran.stdout
    assert "error_code" in ran.stdout
    assert Lake.open(another / "data" / "lake").version("clean/daily_unresolved") == before


def test_a_wrong_line_of_the_corporate_actions_stops_the_build_before_it_writes(another: Path) -> None:
    with (another / "config" / "corporate_actions.csv").open("a") as file:
        file.write(
            "AAPL,split,2014-06-09,7,1,,,2014-04-24T04:00:00Z,x\nAAPL,split,2020-08-31,4,,,,2020-07-31T04:00:00Z,x\n"
        )
    lake = Lake.open(another / "data" / "lake")
    before = {name: lake.version(name) for name in lake.table_names()}
    ran = dbt(another, "build", "--project-dir", "dbt_project", "--profiles-dir", ".")
    assert ran.returncode != 0
    assert "corporate_actions.csv, line 3: a split needs ratio_new and ratio_old" in ran.stdout
    assert {name: lake.version(name) for name in lake.table_names()} == before


def test_the_files_of_a_spreadsheet_are_read_and_their_symbols_written_as_ib_does(another: Path) -> None:
    for name, line in (
        ("universe.csv", "aapl,1,STK,SMART,,,both"),
        ("corporate_actions.csv", f"aapl,split,{DAYS[1]},2,1,,,2014-05-01T00:00:00Z,x"),
    ):
        file = another / "config" / name
        header = file.read_text().splitlines()[0]
        file.write_bytes(b"\xef\xbb\xbf" + f"{header}\r\n\r\n{line}\r\n  \r\n\r\n".encode())
    ran = dbt(another, "build", "--project-dir", "dbt_project", "--profiles-dir", ".")
    failed = [line for line in ran.stdout.splitlines() if "[FAIL" in line or "[ERROR" in line]
    assert [line for line in failed if "oi_filled_holds" not in line] == [], ran.stdout
    uri = Lake.open(another / "data" / "lake").uri("clean/daily_adjusted")
    strikes = connect().sql(f"select trade_date, strike_adj from delta_scan('{uri}') order by 1").fetchall()
    assert strikes == [(DAYS[0], 50.0), (DAYS[1], 100.0)]
    universe = connect().sql(
        f"select underlying, frozen from delta_scan('{uri.replace('clean/daily_adjusted', 'quality/slot_coverage')}')"
    )
    assert {symbol for symbol, _ in universe.fetchall()} == {"AAPL"}
