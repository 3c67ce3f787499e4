"""Settings: precedence, mistakes as one line, and a template that names every key with its true default."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from ingest.errors import UsageError
from ingest.settings import PROJECT, Settings, load


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CHAINLAKE_IB__PORT", "IB_PORT", "IB_HOST", "CHAINLAKE_LAKE__ROOT", "CHAINLAKE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "some.toml"
    file.write_text(text)
    return file


def test_the_file_loses_against_ib_variables_these_against_ours_and_flags_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "[ib]\nport = 1111\nclient_id = 3\n")
    assert load(file).ib.port == 1111
    monkeypatch.setenv("IB_PORT", "2222")
    assert load(file).ib.port == 2222
    monkeypatch.setenv("CHAINLAKE_IB__PORT", "3333")
    assert load(file).ib.port == 3333
    flagged = load(file, ib={"port": 4444})
    assert (flagged.ib.port, flagged.ib.client_id, flagged.ib.host) == (4444, 3, "127.0.0.1")


def test_settings_are_what_they_are_given_and_only_load_reads_files_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAINLAKE_IB__PORT", "3333")
    assert load(written(tmp_path, "[ib]\nclient_id = 3\n")).ib.client_id == 3
    assert (Settings().ib.port, Settings().ib.client_id) == (4002, 17)


def test_market_data_type_comes_from_the_variable_of_other_ib_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IB_MARKET_DATA_TYPE", "3")
    assert load().ib.market_data_type == 3


def test_defaults_are_those_of_the_contract() -> None:
    settings = load()
    assert (settings.ib.host, settings.ib.port, settings.ib.market_data_type) == ("127.0.0.1", 4002, 1)
    assert (settings.lake.root, settings.acquisition.slot_grace_s) == ("data/lake", 120)
    assert settings.ib.message_limit == 50


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        load().ib.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[ib]\nprot = 1\n", "ib.prot"),
        ("[ib]\nport = 'x'\n", "ib.port"),
        ("[ib]\nmarket_data_type = 7\n", "ib.market_data_type"),
        ("[acquisition]\npreset = 'warp'\n", "acquisition.preset"),
        ("[ib\n", "settings cannot be read"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key_and_the_file(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(written(tmp_path, text))
    message = str(caught.value)
    assert named in message
    assert "some.toml" in message
    assert "\n" not in message


def test_a_settings_file_that_does_not_exist_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no settings file"):
        load(Path("nowhere.toml"))


@pytest.mark.parametrize(("given", "share"), [(0.3, 0.3), (30, 0.3), (0, 0), (1, 1)])
def test_moneyness_is_a_share_and_per_cent_are_understood(given: float, share: float) -> None:
    assert load(filters={"moneyness_pct": given}).filters.moneyness_pct == pytest.approx(share)


def test_stages_are_known_by_number_too() -> None:
    assert load(acquisition={"preset": "2"}).acquisition.preset == "stage-2"


def test_the_template_names_every_key_with_its_default() -> None:
    text = (PROJECT / "config" / "chainlake.toml").read_text()
    uncommented = re.sub(r"^# ([a-z_]+ = )", r"\1", text, flags=re.MULTILINE)
    template = tomllib.loads(uncommented)
    defaults = Settings.model_construct(
        **{name: field.get_default(call_default_factory=True) for name, field in Settings.model_fields.items()}
    )
    for section in Settings.model_fields:
        known = getattr(defaults, section).model_dump()
        assert set(template[section]) == set(known), section
        for key, value in template[section].items():
            if key == "messages_per_second":
                assert value == defaults.ib.message_limit
            elif isinstance(known[key], Path):
                assert Path(known[key]).name == Path(value).name
            else:
                assert value == (list(known[key]) if isinstance(known[key], tuple) else known[key]), key
