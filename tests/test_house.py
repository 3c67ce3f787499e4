"""The house in order: files that are made from others are current, and the shipped configuration holds."""

import csv
import re
import tomllib
from collections.abc import Iterator
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


# The client library that each environment is without.
LOCKS = {"requirements.lock": "ib_async", "requirements-ib_async.lock": "ib_insync"}


def locked(lock: str) -> list[Requirement]:
    lines = (REPOSITORY / lock).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def required(lock: str) -> Iterator[Requirement]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
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


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_pins_one_version_of_everything_and_names_no_place(lock: str) -> None:
    for requirement in locked(lock):
        assert requirement.url is None
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
    assert "://" not in (REPOSITORY / lock).read_text()


@pytest.mark.parametrize(
    "environment", list(environments()), ids=lambda e: "-".join((e["python_version"], e["platform_machine"]))
)
@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_meets_every_requirement_of_the_project(lock: str, environment: dict[str, str]) -> None:
    """Run `make lock` when this fails."""
    pins: dict[str, str] = {}
    for pin in locked(lock):
        if pin.marker is None or pin.marker.evaluate(environment):
            name = canonicalize_name(pin.name)
            assert name not in pins, f"{name} is pinned twice"
            pins[name] = next(iter(pin.specifier)).version
    for requirement in required(lock):
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
