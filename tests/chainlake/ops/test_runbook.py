"""The runbook: every cause has its page, both languages say the same, and every command and setting exists."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import typer
import yaml

from chainlake.cli.app import app
from chainlake.ops.incidents.causes import causes
from flows.prefect_environment import QUIET
from flows.prefect_password import CLIENT, SERVER
from ingest.settings import Settings
from lake.dbt.sources import SQL_TYPES
from lake.tables import TABLES

REPOSITORY = Path(__file__).resolve().parents[3]
RUNBOOK = REPOSITORY / "docs" / "runbook"
LANGUAGES = ("en", "zh")
PAGES = sorted(page for language in LANGUAGES for page in (RUNBOOK / language).glob("*.md"))
DOCUMENTS = [*PAGES, REPOSITORY / "docs" / "install.md", RUNBOOK / "README.md"]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
ANCHOR = re.compile(r'<a id="([^"]+)"></a>')
EXAMPLES = ("NAME", "HOST", "UID")


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY / "docs"))


def outside_code(text: str) -> str:
    return FENCE.sub("", text)


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = outside_code(page.read_text(encoding="utf-8"))
    return {slug(heading) for _, heading in HEADING.findall(text)} | set(ANCHOR.findall(text))


def commands(page: Path) -> Iterator[str]:
    """Every chainlake command of a page, in blocks and in the text; continued lines and comments are taken off."""
    text = page.read_text(encoding="utf-8")
    blocks = [body for _, body in FENCE.findall(text)]
    for line in re.split(r"\n(?![^\n]*\")(?=\s*\S)|\n(?=\s*(?:chainlake|export|prefect|systemctl))", "\n".join(blocks)):
        if re.match(r"\s*(sudo )?([A-Z_]+=\S+ )*chainlake ", line):
            yield line.strip()
    for inline in INLINE.findall(outside_code(text)):
        if inline.startswith("chainlake "):
            yield " ".join(inline.split())


def words(command: str) -> list[str]:
    split = shlex.split(command, comments=True)
    return split[split.index("chainlake") + 1 :]


def find(command: list[str]) -> str | None:
    """What is wrong with a command: None when each word of it exists."""
    group: Any = typer.main.get_command(app)
    rest = list(command)
    while hasattr(group, "commands"):
        if not rest or rest[0] not in group.commands:
            return f"no command {' '.join(rest[:1])!r}"
        group = group.commands[rest.pop(0)]
    options = {name: option for option in group.params for name in (*option.opts, *option.secondary_opts)}
    arguments = [each for each in group.params if each.param_type_name == "argument"]
    given = 0
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            given += 1
            continue
        option = options.get(word)
        if option is None:
            return f"no option {word}"
        if not option.is_flag:
            del rest[: option.nargs]
    return None if given <= len(arguments) else "more arguments than it takes"


# -- completeness ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_cause_and_every_metric_has_its_place_among_the_alerts(language: str) -> None:
    project = yaml.safe_load((REPOSITORY / "dbt_project" / "dbt_project.yml").read_text(encoding="utf-8"))
    known = {key.lower() for key in causes()} | set(project["vars"]["thresholds"])
    assert len(known) > 30
    assert known - anchors(RUNBOOK / language / "alerts.md") == set()


def causes_in_the_code() -> set[str]:
    """First arguments of what adds breaches, in chainlake/ops/monitoring."""
    found = set()
    for file in (REPOSITORY / "chainlake" / "ops" / "monitoring").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
                "add",
                "condition",
            ):
                found |= {
                    each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)
                }
    return {each for each in found if re.fullmatch(r"[a-z]+(_[a-z]+)+", each)}


def test_no_rule_of_the_watchdog_finds_a_cause_that_is_not_listed() -> None:
    """Else the test above would not miss it."""
    found = causes_in_the_code()
    assert {"slot_missed", "disk_full", "gateway_unreachable"} <= found
    assert found - set(causes()) == set()


def test_both_languages_have_the_same_pages_sections_and_commands() -> None:
    english, chinese = (sorted(page.name for page in (RUNBOOK / language).glob("*.md")) for language in LANGUAGES)
    assert english == chinese
    for name in english:
        pages = [(RUNBOOK / language / name).read_text(encoding="utf-8") for language in LANGUAGES]
        levels = [[len(marks) for marks, _ in HEADING.findall(outside_code(page))] for page in pages]
        assert levels[0] == levels[1], name
        rows = [len(re.findall(r"^\|", page, re.MULTILINE)) for page in pages]
        assert rows[0] == rows[1], name
        given = [
            [find_words for command in commands(RUNBOOK / language / name) if (find_words := shape(command))]
            for language in LANGUAGES
        ]
        assert given[0] == given[1], name


def shape(command: str) -> list[str]:
    """A command without its free text, which is translated."""
    return [re.sub(r"[^\x00-\x7f].*", "…", word) for word in words(command) if " " not in word and word.isascii()]


def test_the_index_leads_to_every_page() -> None:
    index = (RUNBOOK / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert f"({page.relative_to(RUNBOOK)})" in index


def test_the_chinese_pages_are_chinese() -> None:
    """More Chinese characters than words of Latin letters outside of code, on every page."""
    for page in (RUNBOOK / "zh").glob("*.md"):
        text = INLINE.sub("", outside_code(page.read_text(encoding="utf-8")))
        assert len(re.findall(r"[\u4e00-\u9fff]", text)) > 3 * len(re.findall(r"[A-Za-z]{3,}", text)), page.name


# -- what it names exists ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_every_command_exists(page: Path) -> None:
    wrong = [f"{command}: {error}" for command in commands(page) if (error := find(words(command)))]
    assert wrong == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("chainlake fly", "no command 'fly'"),
        ("chainlake ops fly", "no command 'fly'"),
        ("chainlake disk --much", "no option --much"),
        ("chainlake selfcheck --date 2026-11-20 now", "more arguments than it takes"),
    ],
)
def test_a_command_that_does_not_exist_would_be_found(command: str, said: str) -> None:
    assert find(words(command)) == said


def test_commands_are_found_on_the_pages() -> None:
    counts = {page.name: len(list(commands(page))) for page in (RUNBOOK / "en").glob("*.md")}
    assert counts["alerts.md"] > 30
    assert counts["missing-slots.md"] >= 9
    assert min(counts.values()) >= 2, counts


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_every_setting_exists(page: Path) -> None:
    sections = {name: set(field.annotation.model_fields) for name, field in Settings.model_fields.items()}  # type: ignore[union-attr]
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`([a-z]+)\.([a-z_0-9]+)(?: = [^`]*)?`", text)
    wrong = [f"{section}.{key}" for section, key in named if section in sections and key not in sections[section]]
    for section, key in re.findall(r"CHAINLAKE_([A-Z]+)__([A-Z_0-9]+)", text):
        if key.lower() not in sections.get(section.lower(), set()):
            wrong.append(f"{section}__{key}")
    assert wrong == []


def test_every_deployment_and_service_exists() -> None:
    from chainlake.ops.install.installation import InstallPaths, jobs
    from flows.prefect.deployments import deployments

    names = {f"{each.flow.name}/{each.name}" for each in deployments(Settings())}
    paths = InstallPaths(*[Path("/x")] * 2, None, Path("/x"), None, Path("/x"))  # type: ignore[call-arg]
    services = {job.name for mode in ("serve", "worker") for job in jobs(paths, mode)}  # type: ignore[arg-type]
    for page in DOCUMENTS:
        text = page.read_text(encoding="utf-8")
        run = re.findall(r"prefect deployment run (?:'|\")?([\w/-]+)", text)
        assert set(run) <= names, page
        units = set(re.findall(r"\b(chainlake(?:-(?!pool\b)[a-z]+)?)\.(?:service|timer)", text))
        assert units <= services, page


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_links_lead_to_sections_that_exist(page: Path) -> None:
    wrong = []
    for target in re.findall(r"\]\(([^)]+)\)", outside_code(page.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        if not other.exists() or (anchor and anchor not in anchors(other)):
            wrong.append(target)
    assert wrong == []


@pytest.fixture(scope="module")
def empty_lake() -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables of a lake, without rows."""
    connection = duckdb.connect()
    columns = {
        table.name.replace("/", "."): {each.name: SQL_TYPES[each.type] for each in table.columns} for table in TABLES
    }
    for folder, schema in (("marts", "clean"), ("quality", "quality")):
        for query in (REPOSITORY / "dbt_project" / "models" / folder).glob("*.sql"):
            file = query.with_suffix(".yml")
            (model,) = yaml.safe_load(file.read_text(encoding="utf-8"))["models"]
            columns[f"{schema}.{model['name']}"] = {each["name"]: each["data_type"] for each in model["columns"]}
    for schema in ("raw", "ops", "clean", "quality"):
        connection.execute(f"create schema {schema}")
    for table, types in columns.items():
        listed = ", ".join(f'"{name}" {kind}' for name, kind in types.items())
        connection.execute(f"create table {table} ({listed})")
    yield connection
    connection.close()


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_every_query_can_be_asked(page: Path, empty_lake: duckdb.DuckDBPyConnection) -> None:
    for command in commands(page):
        given = words(command)
        if given[0] == "sql":
            empty_lake.execute(next(word for word in given[1:] if word.startswith("select")))


def test_the_environment_of_the_services_is_the_one_that_is_documented() -> None:
    """docs/install.md names no variable of Prefect's that the services do not set or the environment file offers."""
    from chainlake.ops.install.environment_file import TEMPLATE

    text = (REPOSITORY / "docs" / "install.md").read_text(encoding="utf-8")
    named = set(re.findall(r"PREFECT_[A-Z_]+", text))
    assert named <= {
        *QUIET,
        "PREFECT_HOME",
        "PREFECT_API_URL",
        SERVER,
        CLIENT,
        *re.findall(r"PREFECT_[A-Z_]+", TEMPLATE),
    }
