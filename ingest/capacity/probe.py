"""What IB leaves unsettled, measured on the user's own gateway within a safe budget.

The budget: never more messages than `SHARE_OF_RATE` of the configured rate, but for the two questions that are about
the rate (`probe_rate`), and each of them stops at its first error 100; never more open requests than configured lines,
but for the one question that is about the lines, and IB is expected to refuse that one.
"""

import time
from collections.abc import Callable, Sequence
from datetime import date
from statistics import median

import structlog
from aiolimiter import AsyncLimiter

from ingest.broker import BrokerSession
from ingest.broker.probe import Listed, ProbeLink, TimedRequest
from ingest.calendar.clock import HostClock
from ingest.calendar.sessions import NEW_YORK
from ingest.capacity.probe_rate import EXCESS_PER_S, CancelsCounted, ask_about_cancels, ask_whose_rate
from ingest.capacity.probe_result import Latency, ProbeResult, connections_to_fill
from ingest.contracts import Underlying
from ingest.discovery.selection import wants_expiry, wants_strike
from ingest.errors import UsageError
from ingest.settings import AcquisitionSettings, Settings
from lake.code_version import code_version

log = structlog.get_logger(__name__)

SHARE_OF_RATE = 0.8
SNAPSHOTS = 20
# IB ends a snapshot after 11 s (TWS API, md_request).
SNAPSHOT_END_S = 12.0


async def probe(
    settings: Settings, universe: Sequence[Underlying], say: Callable[[str], None] = lambda text: None
) -> ProbeResult:
    """Probe the gateway of `settings` with options of `universe`: a minute at most, with all lines for a part of it.

    Raises BrokerUnreachable when there is no gateway or it is lost, UsageError when no option can be found.
    """
    started = time.monotonic()
    async with BrokerSession.connect(settings.ib) as session:
        origin, today = session.origin, session.clock.now().astimezone(NEW_YORK).date()
    async with ProbeLink.open(settings.ib) as link:
        found = _Probe(link, settings, say)
        await found.run(universe, today)
    say("comparing connections")
    owner = await ask_whose_rate(settings.ib, found.cancels)
    result = ProbeResult(
        chainlake=code_version(),
        probed_at=HostClock().now(),
        gateway=f"{settings.ib.host}:{settings.ib.port}",
        origin=origin,
        lines=settings.ib.lines,
        messages_per_second=settings.ib.message_limit,
        cancels_count=found.cancels.cancels_count,
        excess_messages=found.cancels.excess,
        rate_per=owner.rate_per,
        messages=link.messages + owner.messages,
        pacing_errors=link.pacing_errors + owner.pacing_errors,
        errors=dict(sorted(link.errors.items())),
        seconds=round(time.monotonic() - started, 1),
        notes=(*found.notes, *owner.notes),
        **found.findings,
    )
    result = result.model_copy(update={"connections_to_lines": _connections_to_lines(result)})
    log.info("probed", **result.model_dump(mode="json", exclude={"notes"}))
    return result


class _RateTooHigh(Exception):
    pass


class _Probe:
    """The questions in order; `findings` are fields of the result."""

    def __init__(self, link: ProbeLink, settings: Settings, say: Callable[[str], None]) -> None:
        self._link, self._settings, self._say = link, settings, say
        self._rate = settings.ib.message_limit
        self._limiter = AsyncLimiter(1, 1 / (self._rate * SHARE_OF_RATE))
        self.findings: dict[str, object] = {}
        self.cancels = CancelsCounted(None, None, 0.0)
        self.notes: list[str] = []

    async def _turn(self) -> None:
        """Wait until the safe rate allows one more message. Raises _RateTooHigh once that was too much for IB."""
        await self._limiter.acquire()
        if self._link.pacing_errors:
            raise _RateTooHigh

    async def run(self, universe: Sequence[Underlying], today: date) -> None:
        """Ask everything; what an error 100 at a safe rate leaves open stays open."""
        try:
            options = await self._choose(universe, today)
            await self._market_data(options)
            await self._message_rate(options)
        except _RateTooHigh:
            self.notes.append(
                f"error 100 at {self._rate * SHARE_OF_RATE:g} messages a second: IB allows less than "
                f"ib.messages_per_second = {self._rate:g}; set it and probe again"
            )

    # -- contracts -----------------------------------------------------------------------------------------------

    async def _choose(self, universe: Sequence[Underlying], today: date) -> list[Listed]:
        """Options to ask for, as capture would: enough for every line, and a few more."""
        self._say("looking up contracts")
        wanted, options = self._settings.ib.lines + SNAPSHOTS + 2, list[Listed]()
        for underlying in universe:
            if len(options) >= wanted:
                break
            options += await self._options_of(underlying, today, wanted - len(options))
        if not options:
            raise UsageError("no option of the universe can be found at this gateway: give --symbols of one that has")
        return options

    async def _options_of(self, underlying: Underlying, today: date, wanted: int) -> list[Listed]:
        filters = self._settings.filters
        await self._turn()
        known = await self._link.identify(underlying)
        if known is None:
            return []
        price = await self._price(known)
        await self._turn()
        expirations = await self._link.expirations(known)
        options: list[Listed] = []
        for day in [day for day in expirations if day > today and wants_expiry(day, today, filters)]:
            if len(options) >= wanted:
                break
            await self._turn()
            listed = await self._link.listed(known, day)
            near = [one for one in listed if price is None or wants_strike(one.strike, price, filters)]
            options += sorted(near, key=lambda one: (abs(one.strike - (price or one.strike)), one.right))
        return options[:wanted]

    async def _price(self, underlying: Underlying) -> float | None:
        await self._turn()
        request = self._link.stream_underlying(underlying)
        await self._link.until(lambda: request.price is not None or request.error is not None, 4.0)
        await self._turn()
        self._link.cancel(request)
        return request.price

    # -- latency, and whether snapshots hold lines ---------------------------------------------------------------

    async def _market_data(self, options: Sequence[Listed]) -> None:
        """Open as many subscriptions as there are lines, time them, ask beside them, and close them again."""
        lines, acquisition = self._settings.ib.lines, self._settings.acquisition
        self._say(f"timing {min(lines, len(options)):,} subscriptions")
        streams: list[TimedRequest] = []
        for option in options[:lines]:
            await self._turn()
            streams.append(self._link.stream(option))
            if any(stream.refused for stream in streams):
                break
        await self._link.until(lambda: all(s.complete for s in streams), acquisition.contract_timeout_s)
        answered = [stream for stream in streams if not stream.refused]
        self.findings |= {
            "asked": len(answered),
            "quote": Latency.of([stream.quote_s for stream in answered]),
            "model": Latency.of([stream.model_s for stream in answered]),
            "streaming_hold_ms": _mean_ms([streaming_hold(stream, acquisition) for stream in answered]),
        }
        if not any(stream.quote_s is not None for stream in answered):
            self.findings["streaming_hold_ms"] = None
            self.notes.append("no subscription was answered: probe again while the market is open, with a subscription")
        self.findings["snapshots_hold_lines"] = await self._snapshots_hold_lines(options, streams)
        for stream in streams:
            await self._turn()
            self._link.cancel(stream)
        await self._time_snapshots(options)

    async def _snapshots_hold_lines(self, options: Sequence[Listed], streams: Sequence[TimedRequest]) -> bool | None:
        full = any(stream.refused for stream in streams)
        if not full and len(streams) < self._settings.ib.lines:
            self.notes.append(
                f"{len(streams)} contracts are too few for {self._settings.ib.lines} lines: whether snapshots hold "
                "lines cannot be told; give more --symbols"
            )
            return None
        await self._turn()
        snapshot = self._link.snapshot(options[len(streams) % len(options)])
        await self._link.until(lambda: snapshot.error is not None or snapshot.end_s is not None, SNAPSHOT_END_S)
        if snapshot.refused:
            return True
        if snapshot.end_s is None:
            self.notes.append(f"a snapshot was not served (error {snapshot.error}): whether it holds a line is unknown")
            return None
        # It was served. A subscription that is refused now shows that there was no line that it could have taken.
        await self._turn()
        control = self._link.stream(options[(len(streams) + 1) % len(options)])
        await self._link.until(lambda: control.touched, self._settings.acquisition.contract_timeout_s)
        await self._turn()
        self._link.cancel(control)
        if control.refused:
            return False
        self.notes.append(
            f"IB allows more than the {self._settings.ib.lines} lines of ib.lines: whether snapshots hold lines "
            "cannot be told; set ib.lines and probe again"
        )
        return None

    async def _time_snapshots(self, options: Sequence[Listed]) -> None:
        count = min(SNAPSHOTS, len(options), self._settings.ib.lines)
        self._say(f"timing {count} snapshots")
        snapshots: list[TimedRequest] = []
        for option in options[-count:]:
            await self._turn()
            snapshots.append(self._link.snapshot(option))
        await self._link.until(
            lambda: all(one.error is not None or one.end_s is not None for one in snapshots), SNAPSHOT_END_S
        )
        ended = [one.end_s for one in snapshots if one.end_s is not None]
        self.findings |= {
            "snapshot": Latency.of(ended),
            "snapshots_asked": len(snapshots),
            "snapshots_with_model": sum(one.model_s is not None for one in snapshots),
            "snapshot_hold_ms": _mean_ms(ended),
        }

    # -- whether cancels count -----------------------------------------------------------------------------------

    async def _message_rate(self, options: Sequence[Listed]) -> None:
        """Find out whether cancels count, and what becomes of messages above the rate."""
        self._say("counting cancels")
        self.cancels = await ask_about_cancels(self._link, options, self._rate, await self._usual_round_trip())
        if self.cancels.excess is None:
            self.notes.append(
                f"no limit shows at {self._rate + EXCESS_PER_S:g} messages a second: whether cancels count, and "
                "whether connections share the limit, cannot be told"
            )

    async def _usual_round_trip(self) -> float:
        trips = []
        for _ in range(3):
            await self._turn()
            if (trip := await self._link.round_trip()) is not None:
                trips.append(trip)
        return median(trips) if trips else 0.0


def streaming_hold(request: TimedRequest, acquisition: AcquisitionSettings) -> float:
    """Seconds for which capture would hold the line of this request, by its rule of readiness."""
    if request.quote_s is None:
        return acquisition.contract_timeout_s
    patience = max(request.quote_s, acquisition.greeks_patience_s)
    return patience if request.model_s is None else min(max(request.quote_s, request.model_s), patience)


def _connections_to_lines(result: ProbeResult) -> int | None:
    """How many connections keep all lines in use, where each has the rate and the time that lines are held is known."""
    if result.rate_per != "connection" or result.streaming_hold_ms is None:
        return None
    hold_s, free = result.streaming_hold_ms / 1000, result.cancels_free is True
    return connections_to_fill(result.lines, result.messages_per_second, hold_s, cancels_free=free)


def _mean_ms(seconds: Sequence[float]) -> float | None:
    return round(1000 * sum(seconds) / len(seconds), 1) if seconds else None
