"""A journal gives back whole what was written into it, wherever its end was cut off."""

import errno
import fcntl
import os
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.journal import Journal, read

OPTIONS, UNDERLYINGS = "raw/option_quotes", "raw/underlying_quotes"
INSTANT = datetime(2026, 11, 20, 15, 0, 1, 123456, UTC)
prices = st.none() | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


def option_row(conid: int, bid: float | None = 1.0, message: str | None = None) -> dict[str, Any]:
    return {
        "trade_date": date(2026, 11, 20),
        "view": "intraday",
        "slot_30m": 1,
        "sample_time": INSTANT,
        "underlying": "AAPL",
        "conid": conid,
        "bid": bid,
        "requested_at": INSTANT,
        "ingest_id": "0" * 36,
        "source": "simulated",
        "snapshot_error": message is not None,
        "error_message": message,
        "data_quality_flag": ["late_sample"],
        "ingest_run_type": "manual",
        "batch": "all",
        "attempt": 1,
    }


def underlying_row(conid: int) -> dict[str, Any]:
    return {
        "trade_date": date(2026, 11, 20),
        "view": "intraday",
        "slot_30m": 1,
        "sample_time": INSTANT,
        "underlying": "AAPL",
        "conid": conid,
        "ingest_id": "0" * 36,
        "source": "simulated",
        "snapshot_error": False,
    }


def kept(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["conid"], row.get("bid"), row.get("error_message"), row["sample_time"]) for row in rows]


def flushed(folder: Path, flushes: list[list[dict[str, Any]]]) -> tuple[bytes, list[int]]:
    """The bytes of a journal of so many flushes, and where each record ends."""
    path = folder / "a.journal"
    path.unlink(missing_ok=True)
    writer = Journal(path, {"step": "snapshot"})
    ends = [path.stat().st_size]
    for rows in flushes:
        for row in rows:
            writer.add(OPTIONS, row)
        writer._flush()
        ends.append(path.stat().st_size)
    writer.close()
    return path.read_bytes(), ends


@settings(max_examples=40, deadline=None)
@given(
    flushes=st.lists(st.lists(st.tuples(prices, st.none() | texts), min_size=1, max_size=4), min_size=1, max_size=4),
    cut=st.floats(0, 1),
    damage=st.none() | st.floats(0, 1),
)
def test_a_journal_that_is_cut_off_anywhere_gives_its_whole_records_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, flushes: list[list[tuple[Any, Any]]], cut: float, damage: float | None
) -> None:
    number = iter(range(100))
    rows = [[option_row(next(number), bid, text) for bid, text in flush] for flush in flushes]
    content, ends = flushed(tmp_path_factory.mktemp("journal"), rows)
    length = round(cut * len(content))
    cut_off = bytearray(content[:length])
    if damage is not None and cut_off:
        place = min(round(damage * length), length - 1)
        cut_off[place] ^= 0x20
        length = place
    whole = [end for end in ends if end <= length]
    found = read(BytesIO(bytes(cut_off)))
    assert (found.header is not None) == bool(whole)
    expected = [row for flush in rows[: max(0, len(whole) - 1)] for row in flush]
    assert kept(found.rows.get(OPTIONS, [])) == kept(expected)
    assert found.dropped == len(cut_off) - (whole[-1] if whole else 0)


def test_rows_of_both_tables_come_back_as_the_tables_hold_them(tmp_path: Path) -> None:
    writer = Journal(tmp_path / "a.journal", {"step": "snapshot", "attempt": 2})
    writer.add(UNDERLYINGS, underlying_row(1))
    # A value that the column cannot hold costs that row alone, in the journal as in the lake.
    writer.add(OPTIONS, option_row(2) | {"volume": 2**63})
    writer.add(OPTIONS, option_row(3))
    writer.close()
    with (tmp_path / "a.journal").open("rb") as file:
        found = read(file)
    assert found.header == {"step": "snapshot", "attempt": 2}
    assert (found.count, found.dropped) == (3, 0)
    assert [row["conid"] for row in found.rows[UNDERLYINGS]] == [1]
    assert [(row["conid"], row["error_type"]) for row in found.rows[OPTIONS]] == [(2, "unrepresentable"), (3, None)]


def test_what_was_added_is_on_the_disk_without_anybody_closing_it(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    writer = Journal(path, {})
    before = path.stat().st_size
    writer.add(OPTIONS, option_row(1))
    while path.stat().st_size == before:
        assert writer._thread.is_alive()
        os.sched_yield() if hasattr(os, "sched_yield") else None
    with path.open("rb") as file:
        assert read(file).count == 1
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    writer.discard()
    writer.close()
    assert not path.exists()


def test_a_disk_that_takes_no_more_stops_the_journal_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Journal(tmp_path / "a.journal", {})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    writer.add(OPTIONS, option_row(1))
    writer.close()
    assert writer.failure is not None
    assert "No space left on device" in writer.failure
    writer.add(OPTIONS, option_row(2))
    writer.discard()


def test_a_folder_that_cannot_be_made_leaves_the_answers_in_memory(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder")
    writer = Journal(tmp_path / "state" / "journal" / "a.journal", {})
    assert writer.failure is not None
    writer.add(OPTIONS, option_row(1))
    writer.discard()
