"""Whether a slot fits: contracts a second from lines, messages and latency, and what would make it fit. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from statistics import fmean
from typing import Literal

from ingest.broker.pacing import ASSUMED_LINE_SECONDS, PRESETS, SPARE_LINES, Preset
from ingest.calendar.sessions import HALF_HOUR
from ingest.capacity.probe_result import ProbeResult, connections_for
from ingest.capture.modes import LineOccupancy, Mode, contracts_per_second, mode_of
from ingest.discovery.selection import wants_expiry, wants_strike
from ingest.settings import MOST_CONNECTIONS, FilterSettings, Settings

# Lines come by the hundred: an account has 100, and 10 boosters at most (IBKR FAQ, market data lines).
BOOSTER_LINES, MOST_LINES = 100, 1_100
# What is assumed until a probe has measured it: IB ends a snapshot after 11 s (TWS API, md_request).
ASSUMED_SNAPSHOT_S = 11.0
# CPU of a capture's process for a contract at full speed, and so the most that one core captures, whatever IB allows.
# Measured: five slots of 50,000 contracts took 0.27 to 0.32 ms each (docs/benchmarks.md, speed of a capture).
CPU_SECONDS_A_CONTRACT = 0.00032
NARROWER_MONEYNESS = (0.25, 0.20, 0.15, 0.10, 0.05)
FEWER_MONTHS = (9, 6, 3, 2, 1)

IB_LIMIT = "ib-limit"
Bound = Literal["messages", "lines", "preset", "cpu"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one gateway allows, and how much of it is used: `head_room` of the messages, all but `spare_lines`.

    The messages are those of a connection, or with `shared_rate` of all `connections` together.
    """

    lines: int
    messages_per_second: float
    head_room: float = 1.0
    spare_lines: int = 0
    cancels_count: bool = True
    connections: int = 1
    shared_rate: bool = False

    @classmethod
    def of(cls, settings: Settings, probed: ProbeResult | None = None) -> "Limits":
        """Those of the settings and of a probe, as capture uses them.

        With several `ib.gateways`: what each has on average, and what was probed of the first.
        """
        gateways = settings.ib.each_gateway
        lines = round(fmean(gateway.lines for gateway in gateways))
        messages = fmean(gateway.message_limit for gateway in gateways)
        hold_s = (probed.occupancy.streaming_s if probed else None) or ASSUMED_LINE_SECONDS
        return cls(
            lines,
            messages,
            settings.acquisition.head_room,
            SPARE_LINES,
            cancels_count=probed is None or probed.cancels_free is not True,
            connections=connections_for(settings.ib.connections, probed, lines, messages, hold_s),
            shared_rate=probed is not None and probed.rate_per == "session",
        )

    @property
    def all_messages_per_second(self) -> float:
        """Messages a second of all connections."""
        return self.messages_per_second * (1 if self.shared_rate else self.connections)

    def mode(self, setting: Literal["streaming", "snapshot", "auto"], occupancy: LineOccupancy) -> Mode:
        """The mode in which capture asks, as it chooses it in a slot that needs no open interest."""
        free = not self.cancels_count
        return mode_of(
            setting, self.lines, self.all_messages_per_second, occupancy, interest_needed=False, cancels_free=free
        )

    def with_lines(self, lines: int) -> "Limits":
        """The same with other lines: the messages a second go with them (IB: half the lines)."""
        return replace(self, lines=lines, messages_per_second=self.messages_per_second * lines / self.lines)


@dataclass(frozen=True, slots=True)
class Timing:
    """Mean wall-clock seconds for which a contract is asked, by mode."""

    streaming_s: float = ASSUMED_LINE_SECONDS
    snapshot_s: float = ASSUMED_SNAPSHOT_S
    snapshots_hold_lines: bool = True

    def of(self, mode: Mode) -> float:
        """The seconds of a mode."""
        return self.streaming_s if mode == "streaming" else self.snapshot_s

    @property
    def occupancy(self) -> LineOccupancy:
        """How long lines are held."""
        return LineOccupancy(self.streaming_s, self.snapshot_s if self.snapshots_hold_lines else 0.0)


@dataclass(frozen=True, slots=True)
class Speed:
    """Contracts a second of one gateway, and what bounds them."""

    contracts_per_second: float
    bound_by: Bound


def speed(mode: Mode, preset: Preset | None, limits: Limits, timing: Timing) -> Speed:
    """The most contracts a second: of messages, of lines, and of the preset's batches and concurrency."""
    messages = limits.all_messages_per_second * limits.head_room
    if mode == "streaming" and not limits.cancels_count:
        messages *= 2
    lines = max(1, limits.lines - limits.spare_lines)
    occupancy = timing.occupancy.streaming_s if mode == "streaming" else timing.occupancy.snapshot_s
    by_messages = contracts_per_second(mode, lines, messages, 0.0)
    bounds: dict[Bound, float] = {
        "messages": by_messages,
        "lines": contracts_per_second(mode, lines, messages, occupancy or 0.0),
    }
    if preset is not None:
        bounds["preset"] = min(
            preset.requests_per_minute * preset.max_concurrent / 60,
            preset.max_concurrent / timing.of(mode) if timing.of(mode) else math.inf,
        )
    # In this order at equal figures: what bounds is what would have to change first.
    name = min(bounds, key=lambda bound: bounds[bound])
    return Speed(bounds[name], name)


@dataclass(frozen=True, slots=True)
class Fit:
    """How a slot goes: the seconds that all contracts take, and the share of them that the time suffices for."""

    contracts: int
    speed: Speed
    gateways: int
    seconds: float
    share: float

    @property
    def fits(self) -> bool:
        """Whether every contract has its turn."""
        return self.share >= 1


@dataclass(frozen=True, slots=True)
class Case:
    """What is to be captured, with what: `available_s` seconds a slot, `gateways` with such limits each."""

    contracts: int
    available_s: float
    limits: Limits
    timing: Timing = Timing()
    gateways: int = 1

    def fit(self, mode: Mode, preset: str) -> Fit:
        """How a slot goes when it is asked in this mode and under this preset."""
        one = speed(mode, PRESETS[preset], self.limits, self.timing)
        # One process captures at all gateways.
        by_cpu = 1 / CPU_SECONDS_A_CONTRACT / self.gateways
        if by_cpu < one.contracts_per_second:
            one = Speed(by_cpu, "cpu")
        seconds = self.contracts / (one.contracts_per_second * self.gateways)
        share = min(1.0, self.available_s / seconds) if seconds else 1.0
        return Fit(self.contracts, one, self.gateways, seconds, share)

    def by_connections(self, mode: Mode, preset: str) -> list[tuple[int, Fit]]:
        """How a slot goes with 1, 2, 4 ... connections to each gateway, up to where another one brings nothing.

        Only where each has the message rate: of a shared rate it is what one connection does.
        """
        most = min(MOST_CONNECTIONS, self.limits.lines)
        fits = {n: self._with_connections(n).fit(mode, preset) for n in range(1, most + 1)}
        speeds = {n: fit.speed.contracts_per_second for n, fit in fits.items()}
        # A rounding error is no reason for another connection.
        enough = next((n for n in range(1, most) if speeds[n + 1] <= speeds[n] * (1 + 1e-9)), most)
        if enough < most:
            # What makes the next one useless is the bound, also where messages just reach it.
            fits[enough] = replace(fits[enough], speed=Speed(speeds[enough], fits[enough + 1].speed.bound_by))
        shown = {1, enough} | {n for n in (2, 4, 8, 16, MOST_CONNECTIONS) if n < enough}
        return [(1, fits[1])] if self.limits.shared_rate else [(n, fits[n]) for n in sorted(shown)]

    def gateways_to_fit(self, mode: Mode, preset: str) -> int:
        """How many such gateways it takes, with a batch for each."""
        one = speed(mode, PRESETS[preset], self.limits, self.timing)
        # A rounding error is no reason for another gateway.
        return max(1, math.ceil(self.contracts / (one.contracts_per_second * self.available_s) - 1e-9))

    def lines_to_fit(self, mode: Mode, preset: str) -> int | None:
        """The fewest lines that it takes at each gateway, boosters counted; None when no account has as many."""
        for lines in (self.limits.lines, *self._more_lines()):
            if replace(self, limits=self.limits.with_lines(lines)).fit(mode, preset).fits:
                return lines
        return None

    def changes(
        self, mode: Mode, preset: str, filters: FilterSettings, counts: "ContractCounts | None"
    ) -> list["Change"]:
        """What can be changed, one thing at a time and further and further until it fits; none when it does."""
        if self.fit(mode, preset).fits:
            return []
        changes = _until_fit(
            (f"{lines:,} lines", replace(self, limits=self.limits.with_lines(lines)).fit(mode, preset))
            for lines in self._more_lines()
        )
        changes += _until_fit(
            (f"{n} connections", fit) for n, fit in self.by_connections(mode, preset) if n > self.limits.connections
        )
        if preset != IB_LIMIT:
            changes.append(Change(f"preset {IB_LIMIT}", self.fit(mode, IB_LIMIT)))
        needed = self.gateways_to_fit(mode, preset)
        changes.append(
            Change(
                f"{needed} gateways, a batch each",
                replace(self, gateways=needed).fit(mode, preset),
            )
        )
        if counts is not None:
            for narrower in (narrower_strikes(filters), fewer_expiries(filters)):
                changes += _until_fit(
                    (words, replace(self, contracts=counts.within(some)).fit(mode, preset)) for words, some in narrower
                )
        return changes

    def _with_connections(self, connections: int) -> "Case":
        return replace(self, limits=replace(self.limits, connections=connections))

    def _more_lines(self) -> Iterator[int]:
        return iter(range(self.limits.lines + BOOSTER_LINES, MOST_LINES + 1, BOOSTER_LINES))


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that could be changed, in words, and how the slot goes then."""

    what: str
    fit: Fit


def _until_fit(steps: Iterable[tuple[str, Fit]]) -> list[Change]:
    changes = []
    for words, fit in steps:
        changes.append(Change(words, fit))
        if fit.fits:
            break
    return changes


def slot_seconds(grace_s: float) -> float:
    """Seconds of a slot that count: its half-hour less the grace at the start."""
    return HALF_HOUR.total_seconds() - grace_s


# -- fewer contracts ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ContractCounts:
    """How many contracts of a frozen set share expiry, strike and reference price (dollars; None: unknown)."""

    trade_date: date
    cells: Mapping[tuple[date, float, float | None], int]

    @classmethod
    def of(cls, trade_date: date, contracts: Iterable[tuple[date, float, float | None]]) -> "ContractCounts":
        """Count contracts given as expiry, strike and reference price."""
        return cls(trade_date, Counter(contracts))

    @property
    def total(self) -> int:
        """All contracts."""
        return sum(self.cells.values())

    def within(self, filters: FilterSettings) -> int:
        """Contracts that are left under `filters`, by the rules of discovery."""
        expiries = {e for e in {cell[0] for cell in self.cells} if wants_expiry(e, self.trade_date, filters)}
        strikes = {
            (strike, price)
            for strike, price in {cell[1:] for cell in self.cells}
            if price is None or wants_strike(strike, price, filters)
        }
        return sum(
            count
            for (expiry, strike, price), count in self.cells.items()
            if expiry in expiries and (strike, price) in strikes
        )


def narrower_strikes(filters: FilterSettings) -> Iterator[tuple[str, FilterSettings]]:
    """`filters` with narrower and narrower bands of moneyness, in words and as such."""
    for moneyness in NARROWER_MONEYNESS:
        if not filters.moneyness_pct or moneyness < filters.moneyness_pct:
            yield f"strikes within {moneyness:.0%}", filters.model_copy(update={"moneyness_pct": moneyness})


def fewer_expiries(filters: FilterSettings) -> Iterator[tuple[str, FilterSettings]]:
    """`filters` with monthly expiries only, then over fewer and fewer months, in words and as such."""
    if filters.expiry_types != ("monthly",):
        filters = filters.model_copy(update={"expiry_types": ("monthly",)})
        yield "monthly expiries only", filters
    for months in FEWER_MONTHS:
        if not filters.expiry_months_ahead or months < filters.expiry_months_ahead:
            words = f"monthly expiries of {months} month{'s' if months > 1 else ''}"
            yield words, filters.model_copy(update={"expiry_months_ahead": months})
