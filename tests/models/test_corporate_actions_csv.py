"""config/corporate_actions.csv: its format, and AAPL's splits against an independent vendor's factor file."""

import csv
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from ingest.calendar.sessions import new_york, next_session, session_on
from tests.reference_data import reference_data

REPOSITORY = Path(__file__).resolve().parents[2]
ACTIONS = REPOSITORY / "config" / "corporate_actions.csv"
COLUMNS = "symbol,event_type,effective_date,ratio_new,ratio_old,cash_amount,new_symbol,known_at,source"
# The columns that an event type fills; it leaves the others of the four empty.
FILLED = {
    "split": {"ratio_new", "ratio_old"},
    "special_dividend": {"cash_amount"},
    "symbol_change": {"new_symbol"},
    "deliverable_change": set(),
}


def actions() -> list[dict[str, str]]:
    with ACTIONS.open(newline="") as lines:
        return list(csv.DictReader(lines, strict=True))


def described(action: dict[str, str]) -> str:
    return f"{action['symbol']}-{action['event_type']}-{action['effective_date']}"


each_action = pytest.mark.parametrize("action", actions(), ids=described)


def test_the_header_is_the_documented_one() -> None:
    assert ACTIONS.read_text().splitlines()[0] == COLUMNS


def test_no_event_is_listed_twice() -> None:
    names = [described(action) for action in actions()]
    assert len(names) == len(set(names)) > 0


@each_action
def test_an_event_fills_exactly_the_columns_of_its_type(action: dict[str, str]) -> None:
    optional = set().union(*FILLED.values())
    assert {column for column in optional if action[column]} == FILLED[action["event_type"]]
    assert all(action[column] for column in action.keys() - optional)


@each_action
def test_amounts_are_positive_numbers(action: dict[str, str]) -> None:
    if action["event_type"] == "split":
        new, old = int(action["ratio_new"]), int(action["ratio_old"])
        assert new > 0
        assert old > 0
        assert new != old
    if action["event_type"] == "special_dividend":
        # The smallest special dividend that adjusts options: SR-OCC-2008-16.
        assert float(action["cash_amount"]) >= 0.125


@each_action
def test_an_event_is_effective_on_a_session_and_known_before_its_open(action: dict[str, str]) -> None:
    session = session_on(date.fromisoformat(action["effective_date"]))
    assert session is not None
    assert action["known_at"].endswith("Z")
    assert datetime.fromisoformat(action["known_at"]) < session.open


@each_action
def test_an_announcement_known_by_its_day_only_counts_from_the_end_of_that_day(action: dict[str, str]) -> None:
    # The source names the New York day of the announcement, not the minute; an earlier instant would look ahead.
    announced = next(word for word in action["source"].replace(";", "").split() if word[:2] == "20")
    end_of_day = new_york(date.fromisoformat(announced) + timedelta(days=1), time(0))
    assert datetime.fromisoformat(action["known_at"]) == end_of_day


def test_aapl_splits_agree_with_the_factor_file() -> None:
    """A factor holds through its date: the split is effective on the session after it."""
    factor_file = reference_data("reference", "factor_files", "aapl.csv")
    lines = [line.split(",") for line in factor_file.read_text().split()]
    factors = [(datetime.strptime(day, "%Y%m%d").date(), float(split)) for day, _, split, _ in lines]  # noqa: DTZ007
    expected = {
        next_session(through).trade_date: round(after / before)
        for (through, before), (_, after) in pairwise(factors)
        if after != before
    }
    listed = {
        date.fromisoformat(action["effective_date"]): int(action["ratio_new"]) / int(action["ratio_old"])
        for action in actions()
        if action["symbol"] == "AAPL" and action["event_type"] == "split"
    }
    assert listed == expected
    assert len(listed) == 4
