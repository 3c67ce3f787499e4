"""Roots with letters that mean something to SQL, to URLs or to globs: a lake there works, or is refused."""

from pathlib import Path

import pytest

from lake.catalog.connection import open_catalog
from lake.errors import LakeMissing, UnusableRoot
from lake.maintenance.compaction import candidates, compact
from lake.maintenance.lock import maintainer
from lake.maintenance.vacuum import vacuum
from lake.reads import reader
from lake.replay import write_replay_day
from lake.storage import access, checked, masked
from lake.store import Lake
from tests.lake.maintained import CREATED, HOT_FROM, NOW, OLD, RECENT, TABLE, TODAY, publish, with_days
from tests.small_lake import PASSED, small_lake


@pytest.mark.parametrize("name", ["my lake", "o'brien", "it''s", "a+b&c=d;e,f", "(x) ~ $y !", "ünïcode", "`x` <y> @z"])
def test_a_lake_there_is_written_maintained_and_read(tmp_path: Path, name: str) -> None:
    lake = with_days(tmp_path / name, OLD, RECENT)
    publish(lake, RECENT, {TABLE: 3})
    with maintainer(lake, "compact") as hold:
        assert list(compact(lake, candidates(lake, TODAY, HOT_FROM), hold))
        list(vacuum(lake, NOW, hold))
    with reader(lake) as reads:
        assert len(reads.rows(TABLE)) == 120
        reads.remember_contracts(RECENT, 5, OLD)
        assert reads.known_contracts("AAPL") == []
        assert reads.damage == []
    assert open_catalog(lake.root).execute("select count(*) from raw.open_interest").fetchone() == (120,)


def test_a_day_becomes_a_replay_file_below_a_quote(tmp_path: Path) -> None:
    lake = small_lake(tmp_path / "o'brien" / "lake")
    assert write_replay_day(lake, PASSED, tmp_path / "o'brien" / "day.parquet") > 0


@pytest.mark.parametrize("letter", list('%#?*[]\\|^"{}\n\t\x7f'))
def test_a_root_that_engines_read_differently_is_refused_before_anything_is_written(
    tmp_path: Path, letter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / f"a{letter}b" / "lake"
    for begin in (lambda: Lake.create(root, "simulated", CREATED), lambda: Lake.open(root)):
        with pytest.raises(UnusableRoot) as refused:
            begin()
        assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    root.parent.mkdir()
    monkeypatch.chdir(root.parent)
    # A relative root is one below the current folder.
    with pytest.raises(UnusableRoot):
        Lake.create("lake", "simulated", CREATED)


def test_no_password_of_an_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hunter2@127.0.0.1:9000")
    with pytest.raises(Exception, match=r"\*\*\*@127.0.0.1:9000") as refused:
        access()
    assert "hunter2" not in str(refused.value)
    for root in ("s3://key:hunter2@bucket/x", "ftp://key:hunter2@host/x"):
        with pytest.raises(UnusableRoot) as refused:
            checked(root)
        assert "hunter2" not in str(refused.value)
    assert masked("see https://a:b@c/d and http://e/f@g") == "see https://***@c/d and http://e/f@g"


def test_a_root_that_is_usable_and_empty_is_a_missing_lake(tmp_path: Path) -> None:
    with pytest.raises(LakeMissing):
        Lake.open(tmp_path / "o'brien")
