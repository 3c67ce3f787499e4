"""What ships for Prometheus and Grafana: every query names metrics and labels that chainlake metrics exposes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from chainlake.cli.commands.metrics import SHIPPED
from chainlake.metrics.families import BY_NAME, FAMILIES
from tests.commands import run_chainlake

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "monitoring-prometheus.md"
# What Prometheus adds to each metric when it scrapes.
OF_THE_TARGET = {"instance", "job"}
# What Grafana replaces before it asks.
VARIABLES = {"$instance": ".*"}


def queries_of_the_board() -> list[str]:
    board = json.loads(SHIPPED["board"].read_text(encoding="utf-8"))
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(SHIPPED["alerts"].read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


def parsed(query: str) -> Any:
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    return promql.parse(query)


def named(query: str) -> set[str]:
    """The metrics of a query."""
    return {selector.name or "" for selector in selectors(parsed(query))}


def labels_of(query: str) -> set[str]:
    """All labels of the metrics of a query."""
    return {label for name in named(query) for label in BY_NAME[name].labels}


def selectors(expression: Any) -> Iterator[promql.VectorSelector]:
    match expression:
        case promql.VectorSelector():
            yield expression
        case promql.MatrixSelector():
            yield expression.vector_selector
        case promql.Call():
            for argument in expression.args:
                yield from selectors(argument)
        case promql.BinaryExpr():
            yield from selectors(expression.lhs)
            yield from selectors(expression.rhs)
        case promql.AggregateExpr() | promql.ParenExpr():
            yield from selectors(expression.expr)
        case promql.NumberLiteral() | promql.StringLiteral():
            return
        case _:
            raise AssertionError(expression)


def grouped(query: str) -> set[str]:
    """The labels of `by (…)` and `on (…)`."""
    return {label.strip() for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for label in group.split(",")}


@pytest.mark.parametrize("query", [*queries_of_the_board(), *(rule["expr"] for rule in rules())])
def test_a_query_names_metrics_that_are_exposed_with_the_labels_that_they_have(query: str) -> None:
    found = list(selectors(parsed(query)))
    assert found
    known: set[str] = set(OF_THE_TARGET)
    for selector in found:
        labels = {*BY_NAME[selector.name or ""].labels, *OF_THE_TARGET}
        assert {matcher.name for matcher in selector.matchers.matchers} <= labels, query
        known |= labels
    assert grouped(query) <= known


def test_the_legends_of_the_board_name_labels_that_are_left() -> None:
    board = json.loads(SHIPPED["board"].read_text(encoding="utf-8"))
    legends = 0
    for target in (target for panel in board["panels"] for target in panel.get("targets", [])):
        wanted = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        expression = parsed(target["expr"])
        if isinstance(expression, promql.AggregateExpr):
            assert wanted <= grouped(target["expr"])
        else:
            assert wanted <= labels_of(target["expr"])
        legends += len(wanted)
    assert legends > 10


def test_the_board_shows_every_metric() -> None:
    shown = {name for query in queries_of_the_board() for name in named(query)}
    assert {family.name for family in FAMILIES} - shown == {"chainlake_build_info"}


def test_the_panels_of_the_board_lie_side_by_side() -> None:
    board = json.loads(SHIPPED["board"].read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_every_rule_says_what_is_wrong_and_what_to_do() -> None:
    repository = DOCUMENT.parents[1]
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        for page in re.findall(r"docs/[\w./-]+\.md", said := rule["annotations"]["description"]):
            assert (repository / page).exists(), said
        labels = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        assert labels <= labels_of(rule["expr"])


def test_names_follow_the_conventions_of_prometheus() -> None:
    """https://prometheus.io/docs/practices/naming/"""
    for family in FAMILIES:
        assert re.fullmatch(r"chainlake_[a-z]+(_[a-z]+)*", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert not family.name.endswith(("_ms", "_pct", "_percent", "_mb", "_minutes", "_count"))
        assert not {"le", "quantile", "instance", "job"} & set(family.labels)
    assert len(BY_NAME) == len(FAMILIES)


def test_the_document_lists_every_metric() -> None:
    table = re.findall(
        r"^\| `(chainlake_\w+)` \| ([^|]*) \| (.*) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert table == [(each.name, ", ".join(f"`{label}`" for label in each.labels), each.help) for each in FAMILIES]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_command_prints_what_ships(name: str, tmp_path: Path) -> None:
    result = run_chainlake("metrics", "--print", name, place=tmp_path)
    assert result.returncode == 0
    assert result.stdout == SHIPPED[name].read_text(encoding="utf-8")
