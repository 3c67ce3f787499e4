"""The checked-in project as a dbt user runs it: no Chainlake command, no variables, no network, tables missing."""

import json
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from lake.duck import connect
from lake.store import Lake
from tests.models.rows import CREATED, Day, contract, write_seeds

REPOSITORY = Path(__file__).resolve().parents[2]
DAYS = (date(2014, 6, 5), date(2014, 6, 6))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with a lake in its default place: two complete days, and some tables missing."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copy(REPOSITORY / "profiles.yml", root)
    shutil.copytree(REPOSITORY / "dbt_project", root / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    write_seeds(root / "config")
    lake = Lake.create(root / "data" / "lake", "simulated", CREATED)
    for trade_date in DAYS:
        day = Day(lake, trade_date)
        day.open(contract(1))
        day.write("raw/option_quotes", [day.quote(contract(1), slot) for slot in range(14)])
    shutil.rmtree(root / "data" / "lake" / "ops")
    shutil.rmtree(root / "data" / "lake" / "raw" / "open_interest")
    shutil.rmtree(root / "data" / "lake" / "raw" / "underlying_quotes")
    return root


def dbt(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CHAINLAKE_", "DBT_"))}
    # Nothing answers there: whatever tried to reach the network would fail.
    environment |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [str(Path(sys.executable).parent / "dbt"), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_build_from_the_root_writes_all_tables_and_fails_on_what_is_missing(checkout: Path) -> None:
    seeds = {file.name: file.read_bytes() for file in (checkout / "config").iterdir()}
    ran = dbt(checkout, "build", "--project-dir", "dbt_project", "--profiles-dir", ".")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    failed = {
        line.split("FAIL")[1].split()[1] for line in ran.stdout.splitlines() if " FAIL " in line and "[FAIL" in line
    }
    assert failed == {"oi_filled_holds"}, ran.stdout
    assert " SKIP=0 " in ran.stdout
    assert " ERROR=1 " in ran.stdout
    assert Lake.open(checkout / "data" / "lake").table_names() == [
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
    daily = connect().sql(
        f"select trade_date, rollup_strategy from delta_scan('{checkout}/data/lake/clean/daily_clean')"
    )
    assert sorted(daily.fetchall()) == [(day, "close") for day in DAYS]
    # dbt-core writes what it ran beside a seed's path; these seeds are files that people edit.
    assert {file.name: file.read_bytes() for file in (checkout / "config").iterdir()} == seeds


def test_test_from_the_project_folder_tells_one_contract(checkout: Path) -> None:
    ran = dbt(checkout / "dbt_project", "test", "--profiles-dir", "..", "--select", "daily_clean")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "daily_tables_reconcile" in ran.stdout


def test_docs_are_generated_offline(checkout: Path) -> None:
    ran = dbt(checkout / "dbt_project", "docs", "generate", "--profiles-dir", "..")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    catalog = json.loads((checkout / "dbt_project" / "target" / "catalog.json").read_text())
    assert "STRIKE_PER_100" in {name.upper() for name in catalog["nodes"]["model.chainlake.daily_clean"]["columns"]}
    manifest = json.loads((checkout / "dbt_project" / "target" / "manifest.json").read_text())
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    assert all(node["description"].startswith("One row per") for node in models)
    kept = [node for node in models if node["config"]["materialized"] == "delta"]
    assert len(kept) == 6
    assert all(node["config"]["contract"]["enforced"] for node in kept)


def test_a_model_that_breaks_its_contract_writes_nothing(checkout: Path) -> None:
    model = checkout / "dbt_project" / "models" / "marts" / "daily_unresolved.sql"
    before = Lake.open(checkout / "data" / "lake").version("clean/daily_unresolved")
    model.write_text(
        model.read_text().replace("latest.error_code,\n", "cast(latest.error_code as bigint) as error_code,\n")
    )
    ran = dbt(checkout / "dbt_project", "run", "--profiles-dir", "..", "--select", "daily_unresolved")
    assert ran.returncode == 1
    assert "enforced contract that failed" in ran.stdout
    assert "error_code" in ran.stdout
    assert Lake.open(checkout / "data" / "lake").version("clean/daily_unresolved") == before
