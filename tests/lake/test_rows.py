"""A value that a table cannot hold costs neither the batch nor, where it can be helped, its row."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from lake.rows import LONGEST_TEXT, bounded_text
from lake.store import Lake
from tests.models.rows import Day, contract

DAY, AT = date(2014, 6, 6), datetime(2014, 6, 6, 14, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.create(tmp_path / "lake", "simulated", AT)


def written(lake: Lake, table: str, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    assert lake.append(table, rows, "test", 1)
    delta = lake.table(table)
    assert delta is not None
    found: list[dict[str, Any]] = delta.to_pyarrow_table().to_pylist()
    return found


@pytest.mark.parametrize(
    ("column", "value"),
    [("volume", 2**63), ("market_data_type", 2**31), ("bid_size", -(2**63) - 1), ("bid", "1,25"), ("asof_ts", "noon")],
)
def test_a_row_that_cannot_be_held_becomes_an_error_row_and_costs_no_other(
    lake: Lake, column: str, value: object
) -> None:
    day = Day(lake, DAY)
    rows = [day.quote(contract(conid), 3) for conid in (1, 2, 3)]
    rows[1] |= {column: value}
    found = {row["conid"]: row for row in written(lake, "raw/option_quotes", *rows)}
    assert found.keys() == {1, 2, 3}
    assert [found[conid]["snapshot_error"] for conid in (1, 2, 3)] == [False, True, False]
    spoilt, whole = found[2], found[1]
    assert (spoilt["error_type"], spoilt["data_quality_flag"]) == ("unrepresentable", ["snapshot_error"])
    assert column in spoilt["error_message"]
    assert {spoilt[name] for name in ("bid", "ask", "volume", "iv", "asof_ts", "market_data_type")} == {None}
    for name in ("underlying", "strike", "expiry", "slot_30m", "ingest_id", "requested_at"):
        assert spoilt[name] == whole[name]
    assert (whole["bid"], whole["volume"]) == (1.0, 100)


def test_an_error_row_keeps_its_error_when_the_code_is_out_of_range(lake: Lake) -> None:
    row = Day(lake, DAY).quote(contract(1), 3) | {"snapshot_error": True, "error_code": 2**40, "error_type": "ib_error"}
    (found,) = written(lake, "raw/option_quotes", row | {"error_message": "odd"})
    assert (found["error_code"], found["error_type"], found["error_message"]) == (None, "ib_error", "odd")


def test_a_table_without_error_rows_loses_the_value_and_a_required_one_its_row(lake: Lake) -> None:
    error = {"trade_date": DAY, "step": "snapshot", "ingest_id": "a", "error_type": "ib_error", "observed_at": AT}
    found = written(
        lake,
        "ops/errors",
        error | {"conid": 2**63, "code": 2**31, "message": "first"},
        error | {"conid": 2, "message": "half \ud83d of a pair, and \0"},
        error | {"conid": 3, "message": "undated", "observed_at": "noon"},
        error | {"conid": 4, "message": "x" * 5_000_000},
    )
    told = {row["message"]: (row["conid"], row["code"]) for row in found}
    long = next(message for message in told if message.startswith("xxx"))
    assert told == {"first": (None, None), "half ? of a pair, and \ufffd": (2, None), long: (4, None)}
    assert len(long) == LONGEST_TEXT
    assert long.endswith(" … (5,000,000 characters)")


def test_a_long_text_is_cut_where_nothing_else_is_wrong(lake: Lake) -> None:
    error = {"trade_date": DAY, "step": "snapshot", "ingest_id": "a", "error_type": "ib_error", "observed_at": AT}
    (found,) = written(lake, "ops/errors", error | {"message": "y" * 5000})
    assert found["message"] == bounded_text("y" * 5000)
    assert len(found["message"]) == LONGEST_TEXT
