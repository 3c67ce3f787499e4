"""The sources YAML that is checked in says what lake/tables.py says, and when a source is stale."""

import json
from collections import Counter
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import yaml

from lake.dbt.sources import ERROR_AFTER, LOADED_AT, SOURCES_FILE, WARN_AFTER, sources_yaml
from lake.tables import TABLES


def test_the_checked_in_sources_are_current() -> None:
    assert SOURCES_FILE.read_text(encoding="utf-8") == sources_yaml(), "run `python -m lake.dbt.sources`"


def test_every_table_and_column_is_a_source() -> None:
    document = yaml.safe_load(sources_yaml())
    found = {
        f"{source['name']}/{table['name']}": [column["name"] for column in table["columns"]]
        for source in document["sources"]
        for table in source["tables"]
    }
    assert found == {table.name: [column.name for column in table.columns] for table in TABLES}


def test_a_source_is_loaded_at_an_instant_of_its_own() -> None:
    instants = {
        f"{source['name']}/{table['name']}": {
            column["name"] for column in table["columns"] if column["data_type"] == "timestamp with time zone"
        }
        for source in yaml.safe_load(sources_yaml())["sources"]
        for table in source["tables"]
    }
    assert {table for table in instants if table.startswith("raw/")} < LOADED_AT.keys()
    assert {table: column for table, column in LOADED_AT.items() if column not in instants[table]} == {}


def test_no_planned_closing_makes_a_source_stale(shared_data: Path) -> None:
    """Days from one session to the next, counted from an independent list of holidays, 1998 to 2028."""
    hours = json.loads((shared_data / "reference" / "us_equity_hours.json").read_text())
    closed = {datetime.strptime(day, "%m/%d/%Y").date() for day in hours["holidays"]}  # noqa: DTZ007
    first, last = date(1998, 1, 2), date(2028, 12, 29)
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    sessions = [day for day in days if day.weekday() < 5 and day not in closed]
    gaps = Counter((after - before).days for before, after in pairwise(sessions))
    # Longer than a long week-end were a day of mourning in January 2007, the storm of October 2012, September 2001.
    assert {days: count for days, count in gaps.items() if days >= WARN_AFTER} == {5: 2, 7: 1}
    assert max(gaps) < ERROR_AFTER
