"""How a gateway is set up."""

from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tws_simulator.connections.limits import Rules
from tws_simulator.history.pacing import PacingRule
from tws_simulator.history.request import StepRule
from tws_simulator.protocol.versions import HIGHEST_VERSION, LOWEST_VERSION
from tws_simulator.worlds.instruments import UnderlyingSpec


class GatewayOptions(BaseModel):
    """Everything that decides what a simulated gateway shows and enforces."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    host: str = "127.0.0.1"
    port: int = Field(4002, ge=0, le=65535, description="0: any free port")
    control_port: int | None = Field(None, ge=0, le=65535, description="None: no control port; 0: any free port")
    world: Literal["synthetic", "replay"] = "synthetic"
    replay: tuple[Path, ...] = Field((), description="Parquet files of recorded days, for the world 'replay'")
    symbols: tuple[str | UnderlyingSpec, ...] = Field(
        ("AAPL",), description="underlyings of the synthetic world; conids of a replayed one"
    )
    seed: int = Field(7, description="of the world 'synthetic'")
    corporate_actions: Path | None = Field(
        None, description="CSV of splits, special dividends and symbol changes that the synthetic world goes through"
    )
    minis: tuple[str, ...] = Field((), description="symbols of the synthetic world with options on 10 shares too")
    at: datetime | None = Field(None, description="market clock at start, with time zone; None: the host's time")
    speed: float = Field(1.0, ge=0, description="market seconds per wall-clock second; 0: stepped")
    lines: int = Field(100, ge=1, description="market data lines, shared by all clients")
    messages_per_second: float | None = Field(
        None, gt=0, description="per client, or by `rules.rate_per` of all; None: lines / 2"
    )
    rules: Rules = Field(Rules(), description="what is unsettled, or a setting of TWS, about the limits")
    latency_ms: tuple[float, float] = Field((50.0, 200.0), description="ticks of a new subscription arrive in between")
    history_latency_ms: tuple[float, float] = Field(
        (100.0, 500.0), description="a historical request is answered in between"
    )
    history_pacing: PacingRule = Field("all", description="bars that IB's pacing of history is for; small: up to 30 s")
    history_steps: StepRule = Field("small", description="bars that the table of step sizes is for; small: below 1 min")
    snapshot_seconds: float = Field(
        11.0, gt=0, description="a snapshot request ends after this many wall-clock seconds"
    )
    delayed_by: timedelta = Field(
        timedelta(0), description="age of delayed data (types 3 and 4); IB's is 15 minutes or more"
    )
    delayed_requests: Literal["served", "ignored"] = Field(
        "served", description="ignored: types 3 and 4 show live and frozen data where there is permission, as IB says"
    )
    protocol_versions: tuple[int, int] = Field(
        (LOWEST_VERSION, HIGHEST_VERSION), description="lowest and highest that the gateway says it speaks"
    )
    greeting_zone: str | None = Field(
        None, description="time zone in the greeting, as the host names it (China Standard Time); None: New York's"
    )
    scenario: Path | None = Field(None, description="YAML file of faults; docs/reference/gateway-scenarios.md")
    delivery_log: Path | None = Field(
        None, description="file to which a JSON line is added for each request that was answered in full"
    )
    previous_close: float | None = Field(None, gt=0, description="tick 9 of the replayed underlying")
    oi_published_at: time = Field(time(4, 0), description="New York time at which open interest turns over")
    rate: float = Field(0.0, ge=-0.05, le=0.5, description="interest rate of the option model")
    dividend_yield: float = Field(0.0, ge=0, le=0.5, description="dividend yield of the option model")

    @property
    def account(self) -> str:
        """Begins with SIM, so that nothing simulated is taken for real; a replay's with SIMR."""
        return "SIMR000001" if self.world == "replay" else "SIM0000001"

    @property
    def underlyings(self) -> tuple[UnderlyingSpec, ...]:
        """`symbols`, all as specifications."""
        return tuple(UnderlyingSpec(one) if isinstance(one, str) else one for one in self.symbols)

    @field_validator("latency_ms", "history_latency_ms")
    @classmethod
    def _latency_in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] <= 60_000:
            raise ValueError(f"latency {value[0]:g}-{value[1]:g} ms: give two ascending numbers of at most 60000")
        return value

    @field_validator("protocol_versions")
    @classmethod
    def _versions_in_order(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not LOWEST_VERSION <= value[0] <= value[1]:
            raise ValueError(f"versions {value[0]}-{value[1]}: give two ascending numbers from {LOWEST_VERSION} on")
        return value

    @property
    def message_rate(self) -> float:
        """Messages that a client may send per wall-clock second, or all clients together by `rules.rate_per`."""
        return self.messages_per_second if self.messages_per_second is not None else self.lines / 2
