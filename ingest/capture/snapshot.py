"""One slot of one session: capture what it has no good row of yet, and append one raw row per contract asked."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle

from ingest.broker import BrokerPool, BrokerSession
from ingest.broker.lookup import Lookup
from ingest.broker.pacing import PoolPace
from ingest.calendar.sessions import Slot
from ingest.capture.batch import Batch
from ingest.capture.fleet import BatchConnection, NullObserver, PlannedBatch, SlotObserver, plan_batches, share
from ingest.capture.modes import UNMEASURED, LineOccupancy, Mode, contracts_per_second, mode_of
from ingest.capture.rows import View
from ingest.capture.silence import is_skipped, silent_contracts
from ingest.capture.slot import SlotContext, check_window
from ingest.context import StepContext
from ingest.contracts import OptionContract, Underlying, contract_from_row
from ingest.discovery.selection import capture_order
from ingest.errors import UsageError
from ingest.runs import Run
from ingest.settings import AcquisitionSettings
from lake.reads import reader

LIVE_AT_CLOSE = 2


async def capture_slot(
    context: StepContext,
    session: BrokerSession | BrokerPool,
    slot: Slot,
    view: View,
    observer: SlotObserver | None = None,
    occupancy: LineOccupancy = UNMEASURED,
) -> list[Run]:
    """Capture what `slot` of `view` has no good row of yet on one gateway: see `capture_slot_on`."""
    return await capture_slot_on(context, [BatchConnection(session, occupancy)], slot, view, observer)


async def capture_slot_on(
    context: StepContext,
    connections: Sequence[BatchConnection],
    slot: Slot,
    view: View,
    observer: SlotObserver | None = None,
) -> list[Run]:
    """Capture what `slot` of `view` has no good row of yet, batch by batch, each by one of `connections`.

    Each batch is committed once. Returns one Run a batch, in order; a batch that has nothing left to ask for makes
    none. A connection that is lost hands its batch over; the run of what it had is committed, and not returned. Raises
    UsageError outside the window or without a frozen set, BrokerUnreachable when no connection is left (after
    committing what there is).
    """
    first = connections[0].session
    check_window(context.trading_session, slot, view, context.settings, first.clock.now())
    for connection in connections:
        context.lake.require_origin(connection.session.origin)
    capture = _SlotCapture(SlotContext(context, slot, view), connections, observer or NullObserver())
    return await capture.run()


class _SlotCapture:
    """One capture of one slot over its connections."""

    def __init__(self, of: SlotContext, connections: Sequence[BatchConnection], observer: SlotObserver) -> None:
        self._of, self._connections, self._observer = of, connections, observer
        self._settings = of.step.settings
        self._missing = _missing_of(of)
        self._runs: list[Run] = []
        self._begun: set[str] = set()

    async def run(self) -> list[Run]:
        listed = {contract.underlying for contract in self._missing.contracts}
        recorded = [u for u in self._of.step.universe if u.symbol in listed and self._of.view in u.views]
        batches = plan_batches(recorded, self._settings.acquisition.batch_size)
        self._observer.slot_began(
            {planned.name: self._missing.count(planned) for planned in batches}, self._seconds_left, self._bound
        )
        await share(self._connections, batches, self._capture, self._settings.ib.reconnect_s, self._seconds_left)
        return sorted(self._runs, key=lambda run: run.batch or "")

    async def _capture(self, connection: BatchConnection, planned: PlannedBatch) -> None:
        # A batch that was begun before was given back: what is recorded of it is not asked again.
        begun_before = planned.name in self._begun
        missing = await asyncio.to_thread(self._missing.refreshed, self._of) if begun_before else self._missing
        self._begun.add(planned.name)
        session = BrokerPool.of(connection.session)
        known = await with_conids(session, planned.underlyings, missing.conids, self._settings.acquisition)
        underlyings = [u for u in known if u.conid not in missing.done_underlyings]
        options, skipped = missing.of({u.symbol for u in known})
        if not options and not underlyings:
            return
        after_close = session.clock.now() >= self._of.step.trading_session.close
        session.use_market_data_type(LIVE_AT_CLOSE if after_close else self._settings.ib.market_data_type)
        pace, mode = self._pace_and_mode(connection)
        self._observer.batch_began(planned.name, session.address, len(options) + len(underlyings))
        try:
            batch = Batch(self._of, session, planned.name, missing.stale)
            batch.run.tell_damage(missing.damage, session.clock.now())
            run = await batch.capture(
                underlyings, options, skipped, mode, pace, partial(self._observer.settled, planned.name)
            )
        finally:
            self._observer.batch_ended(planned.name)
        self._runs.append(run)

    def _pace_and_mode(self, connection: BatchConnection) -> tuple[PoolPace, Mode]:
        acquisition = self._settings.acquisition
        pace, occupancy = BrokerPool.of(connection.session).pace(acquisition), connection.occupancy
        if occupancy.streaming_s is None and pace.measured:
            occupancy = replace(occupancy, streaming_s=pace.line_seconds)
        interest_needed = self._of.interest_needed
        return pace, mode_of(
            acquisition.mode,
            pace.lines,
            pace.rate,
            occupancy,
            interest_needed=interest_needed,
            cancels_free=pace.cancels_free,
        )

    def _seconds_left(self) -> float:
        _, end = self._of.window
        return self._connections[0].session.clock.wall_seconds_until(end)

    def _bound(self) -> float:
        """Contracts a second that the limits of all connections allow."""
        total = 0.0
        for connection in self._connections:
            pace, mode = self._pace_and_mode(connection)
            limit = connection.session.settings.message_limit * len(pace.each)
            total += contracts_per_second(mode, pace.lines, limit, pace.line_seconds, cancels_free=pace.cancels_free)
        return total


@dataclass(frozen=True, slots=True)
class _Missing:
    """The frozen contracts in order of capture, what already has a row, and what is not worth asking in this slot."""

    contracts: list[OptionContract]
    done_options: set[int]
    done_underlyings: set[int]
    conids: dict[str, int]
    silent: set[int]
    skipped: set[int]
    stale: frozenset[int]
    # Why some of that is not known.
    damage: tuple[str, ...] = ()

    def of(self, symbols: set[str]) -> tuple[list[OptionContract], int]:
        """The options of `symbols` that are asked, silent ones last, and how many are skipped."""
        left = [c for c in self.contracts if c.underlying in symbols and c.conid not in self.done_options]
        asked = [contract for contract in left if contract.conid not in self.skipped]
        return sorted(asked, key=lambda contract: contract.conid in self.silent), len(left) - len(asked)

    def count(self, planned: PlannedBatch) -> int:
        """How many contracts of a batch are asked, its underlyings included."""
        conids = [u.conid or self.conids.get(u.symbol) for u in planned.underlyings]
        options, _ = self.of({u.symbol for u in planned.underlyings})
        return len(options) + sum(conid not in self.done_underlyings for conid in conids)

    def refreshed(self, of: SlotContext) -> "_Missing":
        """The same with what has been recorded since."""
        trade_date, slot_30m = of.slot.trade_date, of.slot.slot_30m
        with reader(of.step.lake) as reads:
            return replace(
                self,
                done_options=reads.spared(
                    lambda: reads.captured_options(trade_date, of.view, slot_30m, of.window), self.done_options
                ),
                done_underlyings=reads.spared(
                    lambda: reads.captured_underlyings(trade_date, of.view, slot_30m), self.done_underlyings
                ),
                conids=reads.spared(lambda: reads.underlying_conids(trade_date), self.conids),
                damage=(*self.damage, *reads.damage),
            )


def _missing_of(of: SlotContext) -> _Missing:
    slot, acquisition = of.slot, of.step.settings.acquisition
    none: set[int] = set()
    unknown: dict[str, int] = {}
    with reader(of.step.lake) as reads:
        rows = [row for row in reads.contracts(slot.trade_date) if row["first_seen_slot"] <= slot.slot_30m]
        # Without what was recorded before, more is asked than need be: that costs messages, and not the slot.
        done_options = reads.spared(
            lambda: reads.captured_options(slot.trade_date, of.view, slot.slot_30m, of.window), none
        )
        done_underlyings = reads.spared(
            lambda: reads.captured_underlyings(slot.trade_date, of.view, slot.slot_30m), none
        )
        conids = reads.spared(lambda: reads.underlying_conids(slot.trade_date), unknown)
        silent = reads.spared(lambda: silent_contracts(reads, slot, acquisition.silent_slots), none)
        damage = tuple(reads.damage)
    if not rows:
        raise UsageError(
            f"no contracts are frozen for {slot.trade_date}: run `chainlake discover --date {slot.trade_date}` first"
        )
    reference = {row["underlying"]: row["reference_price"] for row in rows if row["reference_price"]}
    contracts = {row["conid"]: contract_from_row(row) for row in rows}
    in_order = capture_order(list(contracts.values()), reference)
    skipped = _skipped(silent, slot, acquisition)
    stale = frozenset(row["conid"] for row in rows if (row.get("discovered_on") or slot.trade_date) < slot.trade_date)
    return _Missing(in_order, done_options, done_underlyings, conids, silent, skipped, stale, damage)


def _skipped(silent: set[int], slot: Slot, acquisition: AcquisitionSettings) -> set[int]:
    return {conid for conid in silent if not slot.is_close and is_skipped(conid, slot, acquisition.silent_every)}


async def with_conids(
    pool: BrokerPool, underlyings: Sequence[Underlying], conids: dict[str, int], acquisition: AcquisitionSettings
) -> list[Underlying]:
    """`underlyings` with their conids, in order: from the universe file, this day's rows, or else the broker.

    Its connections are asked in turns, within their budgets: the batch before may have left nothing of them.
    """
    known = [replace(u, conid=u.conid or conids.get(u.symbol)) for u in underlyings]
    standing = cycle(pool.standing or pool.sessions)

    async def asked(underlying: Underlying, session: BrokerSession) -> list[Underlying]:
        await session.pace(acquisition).message()
        return await Lookup(session).known_underlyings([underlying])

    unknown = [(underlying, next(standing)) for underlying in known if underlying.conid is None]
    found = await asyncio.gather(*(asked(underlying, session) for underlying, session in unknown))
    answered = {underlying.symbol: underlying for each in found for underlying in each}
    return [answered.get(u.symbol, u) for u in known if u.conid or u.symbol in answered]
