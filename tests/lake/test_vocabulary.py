"""The lists of words that columns hold are the same wherever they have to be written again."""

import re
from typing import Any

import pytest
import yaml

from ingest.settings import PROJECT
from lake.vocabulary import ERRORS, ErrorType, Flag, RollupStrategy, RowError, Unresolved, View, listed, words

MODELS = PROJECT / "dbt_project" / "models"
SEVERAL = re.compile(r"'(\w+)'")


def accepted(model: str, column: str) -> tuple[str, ...]:
    """The values that a model's contract accepts in a column."""
    (found,) = yaml.safe_load((MODELS / "marts" / f"{model}.yml").read_text(encoding="utf-8"))["models"]
    (tests,) = [each["data_tests"] for each in found["columns"] if each["name"] == column]
    (values,) = [test["accepted_values"]["arguments"]["values"] for test in tests if "accepted_values" in test]
    return tuple(values)


@pytest.mark.parametrize(
    ("model", "column", "literal"),
    [
        ("daily_unresolved", "reason", Unresolved),
        ("daily_clean", "rollup_strategy", RollupStrategy),
        ("daily_clean", "rollup_source_view", View),
    ],
)
def test_the_models_accept_the_words_that_are_listed(model: str, column: str, literal: Any) -> None:
    assert accepted(model, column) == words(literal)


def test_the_models_make_the_reasons_that_are_listed() -> None:
    sql = (MODELS / "marts" / "daily_unresolved.sql").read_text(encoding="utf-8")
    (case,) = re.findall(r"case\n((?:(?!\bcase\b).)*?)end as reason", sql, re.DOTALL)
    assert set(re.findall(r"(?:then|else) '(\w+)'", case)) == set(words(Unresolved))


def test_the_models_know_the_flags_that_are_listed() -> None:
    known = (PROJECT / "dbt_project" / "tests" / "generic" / "known_flags.sql").read_text(encoding="utf-8")
    assert sorted(SEVERAL.findall(known)) == sorted(words(Flag))


@pytest.mark.parametrize("flag", words(Flag))
def test_every_flag_is_explained(flag: str) -> None:
    lines = (PROJECT / "docs" / "quality.md").read_text(encoding="utf-8").splitlines()
    assert any(f"`{flag}`" in line for line in lines if line.startswith("| "))


def test_every_error_type_is_explained() -> None:
    assert set(ERRORS) == {*words(RowError), *words(ErrorType)}


def test_a_list_reads_as_prose() -> None:
    assert listed(View) == "intraday or close"
    assert words(RowError)[-2:] == ("window_over", "unrepresentable")
