"""One rule says where the lake is: Python, the settings, the dashboard and dbt find the same one."""

from pathlib import Path

import pytest

import chainlake
from ingest.settings import load
from lake.errors import LakeError
from lake.location import CONFIG_VARIABLE, ROOT_VARIABLE, lake_root
from tests.small_lake import FAILED, PASSED, slots_of, small_lake

SLOTS = len(slots_of(PASSED)) + len(slots_of(FAILED))


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ROOT_VARIABLE, CONFIG_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def configured(folder: Path, root: str) -> Path:
    """A settings file in `folder` that names `root`."""
    file = folder / "config" / "chainlake.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f'[lake]\nroot = "{root}"\n')
    return file


def test_a_given_root_wins_then_the_variable_then_the_file_then_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lake_root() == load().lake.root == "data/lake"
    configured(tmp_path, "from/file")
    assert lake_root() == load().lake.root == "from/file"
    monkeypatch.setenv(ROOT_VARIABLE, "s3://bucket/variable")
    assert lake_root() == load().lake.root == "s3://bucket/variable"
    assert lake_root("given") == load(lake={"root": "given"}).lake.root == "given"


def test_another_settings_file_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured(tmp_path, "here")
    monkeypatch.setenv(CONFIG_VARIABLE, str(configured(tmp_path / "elsewhere", "there")))
    assert lake_root() == load().lake.root == "there"


def test_a_relative_root_is_looked_for_in_the_folder_of_the_settings(tmp_path: Path) -> None:
    """As dbt does, which may be started anywhere."""
    configured(tmp_path / "home", "mine")
    assert lake_root(home=tmp_path / "home") == str(tmp_path / "home" / "mine")
    assert lake_root() == "data/lake"


def test_settings_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    configured(tmp_path, '"broken')
    with pytest.raises(LakeError, match=r"config/chainlake.toml cannot be read .*: name the lake"):
        lake_root()


def test_the_three_names_of_python_find_it(tmp_path: Path) -> None:
    configured(tmp_path, "mine")
    small_lake(tmp_path / "mine")
    assert chainlake.open().sql("select count(*) from raw.sessions").fetchall() == [(SLOTS,)]
    assert chainlake.scan("raw/sessions").collect().height == SLOTS
    assert chainlake.at("2026-11-24 17:00").sql("select count(*) from raw.sessions").fetchall() == [(SLOTS,)]
    assert chainlake.__version__
