"""The house in order: made files are current, the shipped configuration holds, and the code keeps to its plan."""

import ast
import csv
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ingest.universe import ib_symbol, read_universe
from lake.dbt.table_docs import FILE, tables_markdown

REPOSITORY = Path(__file__).resolve().parents[1]
UNIVERSE = REPOSITORY / "config" / "universe.csv"
TARGET = re.compile(r"^([a-z-]+):.*## ", re.MULTILINE)


# -- pins --------------------------------------------------------------------------------------------------------------


# What the program needs; the client library that each environment is without.
LOCKS = {"requirements.lock": "ib_async", "requirements-ib_async.lock": "ib_insync"}
# What development needs besides, with either of them.
DEVELOPMENT = "requirements-dev.lock"
CLIENT_LOCKS = sorted((REPOSITORY / "tests" / "clients" / "requirements").glob("*.txt"))
ALL_LOCKS = [*LOCKS, DEVELOPMENT, *(str(path.relative_to(REPOSITORY)) for path in CLIENT_LOCKS)]
RUN_TIME_EXTRAS = ("dbt-tasks", "ib-async", "mcp")


def locked(lock: str) -> list[Requirement]:
    return [Requirement(pin) for pin, _ in pins_and_hashes(lock)]


def pins_and_hashes(lock: str) -> Iterator[tuple[str, list[str]]]:
    """Each pin of a lock with the hashes of its files, which stand in the lines after it."""
    text = (REPOSITORY / lock).read_text()
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    for line in lines:
        pin, *hashes = line.split(" --hash=")
        yield pin.strip(), [each.strip() for each in hashes]


def required(lock: str, extras: Collection[str]) -> Iterator[Requirement]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    for text in (text for group in groups for text in group):
        requirement = Requirement(text)
        if requirement.name not in (project["name"], LOCKS[lock]):
            yield requirement


def environments() -> Iterator[dict[str, str]]:
    for python in ("3.11", "3.12", "3.13"):
        for platform, system, machine in (
            ("linux", "Linux", "x86_64"),
            ("linux", "Linux", "aarch64"),
            ("darwin", "Darwin", "arm64"),
        ):
            yield {
                "python_version": python,
                "python_full_version": f"{python}.9",
                "sys_platform": platform,
                "platform_system": system,
                "platform_machine": machine,
                "implementation_name": "cpython",
                "platform_python_implementation": "CPython",
            }


@pytest.mark.parametrize("lock", ALL_LOCKS)
def test_the_lock_pins_one_version_of_everything_with_its_hashes_and_names_no_place(lock: str) -> None:
    for requirement in locked(lock):
        assert requirement.url is None
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
    for pin, hashes in pins_and_hashes(lock):
        assert hashes, pin
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), pin
    assert "://" not in (REPOSITORY / lock).read_text()


@pytest.mark.parametrize("lock", LOCKS)
def test_what_only_development_needs_is_in_a_lock_of_its_own(lock: str) -> None:
    run_time, development = ({canonicalize_name(pin.name) for pin in locked(each)} for each in (lock, DEVELOPMENT))
    assert run_time & development == set()
    assert {"mypy", "pytest", "ruff", "sqlfluff"} <= development


@pytest.mark.parametrize(
    "environment", list(environments()), ids=lambda e: "-".join((e["python_version"], e["platform_machine"]))
)
@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_meets_every_requirement_of_the_project(lock: str, environment: dict[str, str]) -> None:
    """Run `make lock` when this fails."""
    pins: dict[str, str] = {}
    for file, extras in ((lock, RUN_TIME_EXTRAS), (DEVELOPMENT, ["dev"])):
        for pin in locked(file):
            if pin.marker is None or pin.marker.evaluate(environment):
                name = canonicalize_name(pin.name)
                assert name not in pins, f"{name} is pinned twice"
                pins[name] = next(iter(pin.specifier)).version
        for requirement in required(lock, extras):
            if requirement.marker is None or requirement.marker.evaluate(environment):
                assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_the_environments_differ_in_the_client_library_and_what_it_needs_only() -> None:
    """Each library needs an `eventkit` of its own, and ib_async 2.1.0 a tzdata before 2026."""
    default, other = ({(canonicalize_name(pin.name), str(pin.specifier)) for pin in locked(lock)} for lock in LOCKS)
    assert {name for name, _ in default - other} == {"ib-insync", "eventkit", "tzdata"}
    assert {name for name, _ in other - default} == {"ib-async", "aeventkit", "tzdata"}


# -- documents ---------------------------------------------------------------------------------------------------------


def test_the_table_reference_is_current() -> None:
    """Run `python -m lake.dbt.table_docs` when this fails."""
    assert FILE.read_text(encoding="utf-8") == tables_markdown()


def test_every_link_between_documents_leads_somewhere() -> None:
    documents = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]
    broken = [
        f"{document.relative_to(REPOSITORY)} -> {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8"))
        if "://" not in target and not (document.parent / target).exists()
    ]
    assert broken == []


def test_every_command_of_the_makefile_explains_itself() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    assert phony.group(1).split() == TARGET.findall(makefile)


# -- universe ----------------------------------------------------------------------------------------------------------


def test_the_universe_is_the_s_and_p_500_as_ib_writes_it(shared_data: Path) -> None:
    with (shared_data / "reference" / "sp500_constituents.csv").open(newline="") as lines:
        constituents = {ib_symbol(row["Symbol"]) for row in csv.DictReader(lines)}
    symbols = [underlying.symbol for underlying in read_universe(UNIVERSE)]
    assert len(symbols) == len(set(symbols)) == len(constituents)
    assert set(symbols) == constituents
    assert {"BRK B", "BF B"} <= set(symbols)


def test_the_universe_begins_with_the_stocks_of_each_stage() -> None:
    """Stage 0 is AAPL, stage 1 AAPL and MSFT, stage 2 the ten largest, stage 3 all."""
    universe = read_universe(UNIVERSE)
    assert [underlying.symbol for underlying in universe[:2]] == ["AAPL", "MSFT"]
    assert [underlying.group for underlying in universe].count("top10") == 10
    for underlying in universe:
        assert (underlying.group == "top10") == (underlying in universe[:10]) == (underlying.weight is not None)
    conids = [underlying.conid for underlying in universe if underlying.conid is not None]
    assert len(conids) == len(set(conids)) == 10


# -- code --------------------------------------------------------------------------------------------------------------

PACKAGES = ("chainlake", "flows", "ingest", "lake", "option_pricing", "tws_simulator")
MOST_LINES, LONGEST_FUNCTION, MOST_PARAMETERS = 400, 50, 6
# Functions that are longer, or take more, and why.
ALLOWED = {
    "option_pricing/black_scholes.py:price": "the seven terms of the formula",
    "option_pricing/early_exercise.py:exercise_premium": "the seven terms of an option",
    "option_pricing/black_scholes.py:value": "the seven terms of the formula",
    "option_pricing/black_scholes.py:implied_vol": "the seven terms of the formula",
    "chainlake/cli/commands/gate.py:gate": "Typer makes each option of a command from a parameter",
    "chainlake/cli/commands/gateway.py:gateway": "Typer makes each option of a command from a parameter",
    "chainlake/cli/commands/stored.py:sql": "Typer makes each option of a command from a parameter",
    "chainlake/cli/commands/ops/install.py:install": "Typer makes each option of a command from a parameter",
    "chainlake/cli/commands/ops/service.py:rehearse_": "Typer makes each option of a command from a parameter",
}


def modules() -> dict[str, Path]:
    """Path by dotted name, of every module of the packages."""
    found: dict[str, Path] = {}
    for file in (file for package in PACKAGES for file in (REPOSITORY / package).rglob("*.py")):
        parts = file.relative_to(REPOSITORY).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(tree: ast.Module, names: Mapping[str, Path]) -> Iterator[str]:
    """Modules of the packages that a module imports, at its top, in a function or for types only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield from (
                    name for name in (inner, node.module) if name in names and (name == inner or inner not in names)
                )


def test_no_files_import_each_other_in_a_circle() -> None:
    files = modules()
    graph = {name: set(imported(ast.parse(file.read_text(encoding="utf-8")), files)) for name, file in files.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" <- ".join(circle.args[1]))


def test_no_file_is_longer_than_a_few_screens() -> None:
    lengths = {str(file.relative_to(REPOSITORY)): len(file.read_text().splitlines()) for file in modules().values()}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in arguments)


def test_long_functions_and_long_parameter_lists_are_the_ones_with_a_reason() -> None:
    found = {
        f"{file.relative_to(REPOSITORY)}:{node.name}"
        for file in modules().values()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (parameters(node) > MOST_PARAMETERS or node.end_lineno - node.lineno >= LONGEST_FUNCTION)  # type: ignore[operator]
    }
    assert found == set(ALLOWED)


def test_every_package_says_what_lives_in_it() -> None:
    without = [
        str(file.relative_to(REPOSITORY))
        for file in modules().values()
        if file.name == "__init__.py" and not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert without == []
