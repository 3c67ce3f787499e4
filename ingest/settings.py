"""Settings: TOML file < environment < command-line flags, in one frozen model.

Environment variables are ``CHAINLAKE_<SECTION>__<KEY>``; ``IB_HOST``, ``IB_PORT``, ``IB_CLIENT_ID`` and
``IB_MARKET_DATA_TYPE`` are understood as well. Every key stands, commented, in ``config/chainlake.toml``.
"""

import os
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from ingest.errors import UsageError
from lake.location import DEFAULT_ROOT, settings_file
from lake.resources import SHIPPED

# Kept for who imported it from here; lake.resources is the place.
PROJECT = SHIPPED
IB_VARIABLES = ("host", "port", "client_id", "market_data_type")

# IB: up to 32 client applications to a session of TWS or IB Gateway (TWS API, Connection).
MOST_CONNECTIONS = 32

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


def here_or_shipped(path: Path) -> Path:
    """`path` as it is seen from the current directory; where there is none, the file of that name that ships.

    So ``config/universe.csv`` is one's own file in a folder with a configuration, and Chainlake's in an empty one.
    """
    return path if path.exists() else SHIPPED / path


def _shipped(name: str) -> Path:
    return here_or_shipped(Path("config") / name)


class Section(BaseModel):
    """A table of the settings file: frozen, and a misspelled key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LakeSettings(Section):
    """Where the lake is."""

    root: str = DEFAULT_ROOT


class StateSettings(Section):
    """Where logs and working files are."""

    dir: Path = Path("state")


class GatewaySettings(Section):
    """One of several gateways, written as ``"host:port"`` or with limits of its own."""

    address: Annotated[str, Field(pattern=r"^[^\s:]+:[0-9]{1,5}$")]
    lines: Annotated[int, Field(ge=2)] | None = None
    messages_per_second: Positive | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_address(cls, value: Any) -> Any:
        return {"address": value} if isinstance(value, str) else value

    @field_validator("address", mode="after")
    @classmethod
    def _has_a_port(cls, value: str) -> str:
        if not 0 < int(value.rpartition(":")[2]) < 1 << 16:
            raise ValueError("the port is a number from 1 to 65535")
        return value

    @property
    def host(self) -> str:
        """The part before the colon."""
        return self.address.rpartition(":")[0]

    @property
    def port(self) -> int:
        """The part after the colon."""
        return int(self.address.rpartition(":")[2])


class IbSettings(Section):
    """The gateway and what it allows. With `gateways`, `host` and `port` are those of the first."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 4002
    client_id: Annotated[int, Field(ge=0)] = 17
    client_id_pool: Count = 4
    gateways: tuple[GatewaySettings, ...] = ()
    connections: Annotated[int, Field(ge=1, le=MOST_CONNECTIONS)] | Literal["auto"] = "auto"
    market_data_type: Literal[1, 2, 3, 4] = 1
    lines: Annotated[int, Field(ge=2)] = 100
    messages_per_second: Positive | None = None
    connect_timeout_s: Positive = 10
    reconnect_s: Positive = 900
    handover_s: Positive = 60
    heartbeat_s: Positive = 10
    heartbeat_timeout_s: Positive = 5

    @field_validator("gateways", mode="after")
    @classmethod
    def _each_once(cls, value: tuple[GatewaySettings, ...]) -> tuple[GatewaySettings, ...]:
        addresses = [gateway.address for gateway in value]
        if len(set(addresses)) < len(addresses):
            raise ValueError("a gateway stands twice")
        return value

    @model_validator(mode="before")
    @classmethod
    def _first_gateway(cls, values: Any) -> Any:
        gateways = values.get("gateways") if isinstance(values, dict) else None
        if not gateways or not isinstance(gateways, list | tuple):
            return values
        first = gateways[0].get("address") if isinstance(gateways[0], dict) else gateways[0]
        host, _, port = str(first).rpartition(":")
        # What is no address is told of by its own field.
        return values | {"host": host, "port": port} if host and port.isdigit() else values

    @property
    def each_gateway(self) -> "list[IbSettings]":
        """One a gateway, with its address and limits. Of several, each is given up for another after `handover_s`."""
        if not self.gateways:
            return [self]
        reconnect_s = min(self.reconnect_s, self.handover_s) if len(self.gateways) > 1 else self.reconnect_s
        return [
            self.model_copy(
                update={
                    "host": gateway.host,
                    "port": gateway.port,
                    "gateways": (),
                    "reconnect_s": reconnect_s,
                    "lines": gateway.lines or self.lines,
                    # Limits of its own are IB's rule for its lines, unless it says otherwise.
                    "messages_per_second": gateway.messages_per_second
                    or (None if gateway.lines else self.messages_per_second),
                }
            )
            for gateway in self.gateways
        ]

    @property
    def message_limit(self) -> float:
        """Messages a second that IB allows: half the market data lines unless set."""
        return self.messages_per_second or self.lines / 2


class AcquisitionSettings(Section):
    """How a slot is captured."""

    preset: Literal["ib-limit", "stage-0", "stage-1", "stage-1-approved", "stage-2", "stage-3"] = "ib-limit"
    mode: Literal["streaming", "snapshot", "auto"] = "auto"
    head_room: Annotated[float, Field(gt=0, le=1)] = 0.98
    greeks_patience_s: Positive = 2
    contract_timeout_s: Positive = 11
    retries: Count = 2
    slot_grace_s: Count = 120
    silent_slots: Count = 3
    silent_every: Annotated[int, Field(ge=1)] = 4
    batch_size: Count = 0
    delayed_fallback: Literal["auto", "off"] = "auto"
    outage_probe_s: Positive = 15

    @field_validator("preset", mode="before")
    @classmethod
    def _stage_number(cls, value: Any) -> Any:
        return f"stage-{value}" if str(value) in {"0", "1", "2", "3"} else value


class FilterSettings(Section):
    """Which contracts are frozen. A value of 0 switches the bound off."""

    moneyness_pct: Annotated[float, Field(ge=0)] = 0.30
    expiry_types: tuple[Literal["monthly", "quarterly", "all"], ...] = ("monthly", "quarterly")
    expiry_months_ahead: Count = 12

    @field_validator("moneyness_pct", mode="after")
    @classmethod
    def _percent(cls, value: float) -> float:
        # 0.30 and 30 are both how people write thirty per cent; nobody means a band of 3,000 %.
        return value / 100 if value > 1 else value


class DiscoverySettings(Section):
    """How the contract set is found."""

    unlisted_sessions: Annotated[int, Field(ge=1)] = 5
    stale_sessions: Count = 5
    answer_timeout_s: Positive = 30
    retries: Count = 4


class UniverseSettings(Section):
    """Which underlyings are recorded."""

    file: Path = Field(default_factory=lambda: _shipped("universe.csv"))


class ReferenceSettings(Section):
    """Reference data."""

    corporate_actions: Path = Field(default_factory=lambda: _shipped("corporate_actions.csv"))
    rates: Path = Field(default_factory=lambda: _shipped("rates.csv"))


class ScheduleSettings(Section):
    """When the steps of a day run, on New York clocks; the slots come from the calendar."""

    enrichment_at: time = time(4, 0)
    prewarm: bool = True
    prewarm_at: time = time(5, 0)
    freeze_at: time = time(9, 25)
    midday_refresh: bool = False
    midday_refresh_at: time = time(12, 0)
    close_snapshot_at: time = time(17, 0)
    daily_report_at: time = time(18, 0)
    # Sundays. IB's weekly login is after 01:00.
    maintain_at: time = time(10, 0)
    watchdog_minutes: Annotated[int, Field(ge=1, le=30)] = 5
    dbt_tasks: bool = False
    market_clock: Annotated[str, Field(pattern=r"^([^\s:]+:[0-9]{1,5})?$")] = ""


class CloseSettings(Section):
    """The close snapshot."""

    deadline: time = time(23, 45)


class EnrichmentSettings(Section):
    """Open interest of the next morning."""

    on: Literal["next_session", "next_day"] = "next_session"
    repeat_at: tuple[time, ...] = (time(7, 30), time(9, 0))
    oi_published_at: time = time(7, 0)
    patience_s: Positive = 4


class MaintenanceSettings(Section):
    """How long things are kept, and when they are rewritten. Days are calendar days."""

    hot_days: Annotated[int, Field(ge=1)] = 14
    same_day: bool = False
    intraday_retain_days: Annotated[int, Field(ge=1)] = 60
    # Discovery looks back for 15 days in ops/errors.
    log_retain_days: Annotated[int, Field(ge=30)] = 90
    as_of_days: Count = 60
    vacuum_hours: Annotated[int, Field(ge=168)] = 168
    disk_used_pct: Annotated[float, Field(gt=0, le=100)] = 80


class WatchSettings(Section):
    """What the watchdog takes for a breach, beside the thresholds of dbt_project.yml."""

    slot_late_s: Positive = 300
    clock_skew_s: Positive = 2
    keywords: tuple[str, ...] = ("traceback", "critical", "corrupt", "no space left", "out of memory")


class Settings(BaseSettings):
    """All settings. Build it with `load`, which reads file and environment and turns every mistake into one line."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="CHAINLAKE_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    lake: LakeSettings = LakeSettings()
    state: StateSettings = StateSettings()
    ib: IbSettings = IbSettings()
    acquisition: AcquisitionSettings = AcquisitionSettings()
    filters: FilterSettings = FilterSettings()
    discovery: DiscoverySettings = DiscoverySettings()
    universe: UniverseSettings = Field(default_factory=UniverseSettings)
    reference: ReferenceSettings = Field(default_factory=ReferenceSettings)
    schedule: ScheduleSettings = ScheduleSettings()
    close: CloseSettings = CloseSettings()
    enrichment: EnrichmentSettings = EnrichmentSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    watch: WatchSettings = WatchSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is given: `load` is where files and the environment come in."""
        return (init_settings,)


class _IbVariables(PydanticBaseSettingsSource):
    """The variables that other IB tools use: IB_HOST, IB_PORT, IB_CLIENT_ID, IB_MARKET_DATA_TYPE."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {key: os.environ[f"IB_{key.upper()}"] for key in IB_VARIABLES if os.environ.get(f"IB_{key.upper()}")}
        if "market_data_type" in found:
            return {"ib": found | {"market_data_type": _whole(found["market_data_type"])}}
        return {"ib": found} if found else {}


def _whole(text: str) -> Any:
    # A Literal of numbers does not take their text.
    return int(text) if text.isdigit() else text


def load(config: Path | None = None, **flags: dict[str, Any]) -> Settings:
    """Settings from `config` (default ``config/chainlake.toml`` where it exists), the environment and `flags`.

    `flags` are sections with the keys to set, such as ``ib={"port": 4003}``. Raises UsageError with the first
    mistake and where it is.
    """
    config = config or settings_file()
    if config is not None and not config.exists():
        raise UsageError(f"no settings file {config}: give another --config, or run `chainlake init`")
    try:
        # Later ones win.
        sources = (TomlConfigSettingsSource(Settings, config), _IbVariables(Settings), EnvSettingsSource(Settings))
        given: dict[str, Any] = {}
        for values in (*(source() for source in sources), flags):
            given = _merged(given, values)
        return Settings(**given)
    except ValidationError as error:
        raise UsageError(f"setting {first_mistake(error)} ({_origin(config)})") from None
    except ValueError as error:  # includes a TOML syntax error
        raise UsageError(f"settings cannot be read: {str(error).splitlines()[0]} ({_origin(config)})") from None


def _merged(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    """Both, table by table; `high` wins."""
    merged = dict(low)
    for key, value in high.items():
        kept = merged.get(key)
        merged[key] = _merged(kept, value) if isinstance(kept, dict) and isinstance(value, dict) else value
    return merged


def first_mistake(error: ValidationError) -> str:
    """The first of pydantic's complaints as one line: key, value, and what is wrong with it."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    return f"{key} = {first.get('input')!r}: {first['msg']}"


def _origin(config: Path | None) -> str:
    return f"from flags, the environment{f', or {config}' if config else ''}"
