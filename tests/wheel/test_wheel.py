"""A wheel is built, installed into a fresh environment, and run from an empty folder: `make test-wheel`."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from lake.code_version import code_version, same_code

pytestmark = pytest.mark.wheel

REPOSITORY = Path(__file__).resolve().parents[2]
LOCK = REPOSITORY / "requirements.lock"
# The host's own, which an installation has to do without.
FOREIGN = ("CHAINLAKE_", "DBT_", "GIT_", "IB_", "PREFECT_", "PYTHON", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment with the wheel, and the empty folder that commands run in."""

    environment: Path
    folder: Path
    version: str

    @property
    def variables(self) -> dict[str, str]:
        """What a command gets: the host's variables but for those that mean Chainlake, and a home of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        return kept | {"HOME": str(self.folder.parent / "home"), "COLUMNS": "200"}

    @property
    def files(self) -> set[Path]:
        """Every file of the packages and what ships with them, without compiled code."""
        packages = next(self.environment.glob("lib/python3.*/site-packages"))
        ours = ("chainlake", "flows", "ingest", "lake", "option_pricing", "tws_simulator")
        found = (path for name in ours for path in (packages / name).rglob("*") if path.is_file())
        return {path.relative_to(packages) for path in found if path.suffix != ".pyc"}

    def run(self, *command: str, code: int = 0) -> str:
        """Run a program of the environment; its output. Asserts its exit code."""
        done = subprocess.run(
            [str(self.environment / "bin" / command[0]), *command[1:]],
            cwd=self.folder,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == code, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        return done.stdout

    def asked(self, statement: str) -> list[dict[str, object]]:
        """The rows of `chainlake sql` on the demo's lake."""
        rows: list[dict[str, object]] = json.loads(
            self.run("chainlake", "sql", statement, "--lake", "data/demo", "--json")
        )
        return rows


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, made from its source distribution: what is not in that is not needed."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", folder, REPOSITORY], check=True, stdout=subprocess.DEVNULL
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel and what it requires, of the versions that the lock names."""
    place = tmp_path_factory.mktemp("installed")
    pins = [line.removesuffix("\\").strip() for line in LOCK.read_text().splitlines() if re.match(r"\w", line)]
    (place / "constraints.txt").write_text("\n".join(pins) + "\n")
    environment = place / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--constraint", str(place / "constraints.txt"), str(wheel)], check=True, cwd=place)
    subprocess.run([*pip, "check"], check=True, cwd=place)
    for folder in ("empty", "home"):
        (place / folder).mkdir()
    return Installed(environment, place / "empty", wheel.name.split("-")[1])


@pytest.fixture(scope="module")
def demo(installed: Installed) -> Installed:
    """The same after `chainlake demo`."""
    installed.run("chainlake", "demo")
    return installed


def test_the_version_is_that_of_the_commit(installed: Installed) -> None:
    assert installed.run("chainlake", "--version") == f"chainlake {installed.version}\n"
    assert installed.run("python", "-c", "import chainlake; print(chainlake.__version__)").strip() == installed.version
    # That of a tree with changes is no code that could be named again.
    assert same_code(installed.version, code_version()) == (not re.search(r"dirty|\.d2", code_version()))


def test_init_writes_what_doctor_reads(installed: Installed, tmp_path: Path) -> None:
    installed.run("chainlake", "init", str(tmp_path), "--dbt")
    for file in ("chainlake.toml", "universe.csv", "corporate_actions.csv"):
        assert (tmp_path / "config" / file).read_text() == (REPOSITORY / "config" / file).read_text()
    settings = str(tmp_path / "config" / "chainlake.toml")
    checks = json.loads(installed.run("chainlake", "doctor", "--offline", "--json", "--config", settings))
    assert {check["status"] for check in checks if check["name"] in {"libraries", "settings", "universe"}} == {"ok"}
    # dbt from the shell, with the copy of the project.
    dbt = ("--project-dir", str(tmp_path / "dbt_project"), "--profiles-dir", str(tmp_path))
    listed = installed.run("dbt", "--quiet", "ls", "--resource-type", "model", "--output", "name", *dbt).split()
    assert {"daily_clean", "daily_adjusted", "slot_coverage"} <= set(listed)


def test_the_demo_records_a_day_and_publishes_it_as_this_version(demo: Installed) -> None:
    ((row),) = demo.asked("select count(*) as rows, count(distinct underlying) as stocks from clean.daily_clean")
    assert row["stocks"] == 3
    assert isinstance(row["rows"], int)
    assert row["rows"] > 300
    assert demo.asked("select distinct status, code_version from ops.published") == [
        {"status": "passed", "code_version": demo.version}
    ]


def test_a_day_is_rolled_up_again(demo: Installed) -> None:
    ((latest),) = demo.asked("select trade_date, count(*) as publications from ops.published group by trade_date")
    before = latest["publications"]
    assert isinstance(before, int)
    printed = demo.run("chainlake", "rollup", "--date", str(latest["trade_date"]), "--lake", "data/demo", "--json")
    assert json.loads(printed)["status"] == "passed"
    assert demo.asked("select count(*) as publications from ops.published") == [{"publications": before + 1}]


def test_the_dashboard_answers(demo: Installed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = str(demo.environment / "bin" / "chainlake")
    serving = subprocess.Popen(
        [program, "dashboard", "--lake", "data/demo", "--port", str(port)],
        cwd=demo.folder,
        env=demo.variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert _answer(serving, f"http://127.0.0.1:{port}/_stcore/health") == b"ok"
    finally:
        serving.terminate()
        serving.wait()


def test_nothing_is_written_into_the_installation(demo: Installed, wheel: Path) -> None:
    """The last test: all that runs has run."""
    with zipfile.ZipFile(wheel) as packed:
        shipped = {Path(name) for name in packed.namelist() if ".dist-info/" not in name}
    assert demo.files == shipped
    assert {path.name for path in demo.folder.iterdir()} == {"data", "state"}


def _answer(serving: "subprocess.Popen[bytes]", url: str) -> bytes:
    """What the page answers, once it does; the test's own time limit ends the wait."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while serving.poll() is None:
        try:
            with opener.open(url, timeout=10) as answer:
                body: bytes = answer.read()
                return body
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"the dashboard ended with {serving.returncode}")
