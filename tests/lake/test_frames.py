"""The lake's tables as frames: the same rows as through SQL, and nothing read that was filtered out."""

from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest

from ingest.calendar.sessions import session_on
from ingest.discovery.discover import store_session
from lake.catalog.connection import CATALOG_FILE, write_catalog
from lake.catalog.frames import scan
from lake.duck import load_delta, open_root
from lake.errors import LakeError, LakeMissing
from lake.location import ROOT_VARIABLE
from lake.storage import read_object
from lake.store import Lake
from tests.lake.conftest import SECRET, ObjectStore
from tests.small_lake import CONTRACTS_A_DAY, FAILED, PASSED, slots_of, small_lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return small_lake(tmp_path_factory.mktemp("frames") / "lake")


def test_two_lines_give_a_polars_frame(lake: Lake) -> None:
    day = scan("clean/daily_clean", lake.root).filter(trade_date=PASSED, underlying="AAPL").collect()
    assert day.height == CONTRACTS_A_DAY / 2
    assert day.schema["rollup_source_time"] == pl.Datetime("us", "UTC")
    assert day["bid"].unique().to_list() == pytest.approx([5.0 + slots_of(PASSED)[-1].slot_30m / 100])


def test_and_a_pandas_frame(lake: Lake) -> None:
    day = scan("clean/intraday", lake.root).filter(trade_date=PASSED, slot_30m=2).collect().to_pandas()
    assert isinstance(day, pd.DataFrame)
    assert (len(day), day["volume"].sum()) == (CONTRACTS_A_DAY, CONTRACTS_A_DAY * 20)


def test_the_variable_of_the_settings_names_the_lake(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, lake.root)
    assert scan("raw/sessions").collect().height == len(slots_of(PASSED)) + len(slots_of(FAILED))


def test_what_is_filtered_out_is_not_read(tmp_path: Path) -> None:
    """The data files of one day are gone; the other day is read all the same."""
    lake = small_lake(tmp_path / "lake")
    for file in (Path(lake.uri("clean/intraday")) / f"trade_date={FAILED}").iterdir():
        file.unlink()
    rows = scan("clean/intraday", lake.root)
    assert rows.filter(trade_date=PASSED).select(pl.len()).collect().item() == len(slots_of(PASSED)) * CONTRACTS_A_DAY
    with pytest.raises((OSError, pl.exceptions.PolarsError)):
        rows.filter(trade_date=FAILED).collect()


def test_a_name_that_is_no_table_is_told_with_those_there_are(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match=r"no table 'clean/daily'.*clean/daily_clean"):
        scan("clean/daily", lake.root)
    with pytest.raises(LakeMissing, match="no lake at"):
        scan("clean/daily_clean", tmp_path)


def test_in_an_object_store_frames_and_catalog_file_are_the_same(in_store: ObjectStore, tmp_path: Path) -> None:
    session = session_on(PASSED)
    assert session is not None
    lake = Lake.create(in_store.new_root(), "simulated", session.open)
    store_session(lake, session)
    assert scan("raw/sessions", lake.root).filter(trade_date=PASSED).collect().height == len(session.slots)
    assert write_catalog(lake.root) == lake.uri(CATALOG_FILE)
    file = tmp_path / "mine.duckdb"
    file.write_bytes(read_object(lake.root, CATALOG_FILE))
    with duckdb.connect(file, read_only=True) as connection:
        load_delta(connection)
        open_root(connection, lake.root)
        count = connection.execute("SELECT count(*) FROM raw.sessions").fetchone()
    assert count == (len(session.slots),)
    assert SECRET.encode() not in file.read_bytes()
