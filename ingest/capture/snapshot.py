"""One slot of one session: capture what it still lacks, and append one raw row per contract asked."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from ingest.broker import BrokerSession
from ingest.calendar.sessions import NEW_YORK, Session, Slot
from ingest.capture.batch import OPTION_TICKS, Batch
from ingest.capture.fleet import Gateway, Part, SlotObserver, Unobserved, cut, share
from ingest.capture.modes import UNMEASURED, Holding, Mode, contracts_per_second, mode_of
from ingest.capture.pacing import Pace, pace_of
from ingest.capture.rows import View
from ingest.capture.silence import is_skipped, silent_contracts
from ingest.contracts import OptionContract, Underlying
from ingest.discovery.selection import capture_order
from ingest.errors import UsageError
from ingest.runs import Run, Trigger
from ingest.settings import Settings
from lake.reads import reader
from lake.store import Lake

__all__ = ["OPTION_TICKS", "capture_slot", "capture_slot_on", "check_window", "contract_of", "window_of"]

LIVE_AT_CLOSE = 2


def window_of(session: Session, slot: Slot, view: View, settings: Settings) -> tuple[datetime, datetime]:
    """The window in which rows of `slot` may be captured: the slot's own, or close to `close.deadline`."""
    if view == "intraday":
        return slot.sample_time, slot.window_end
    return session.close, session.at(settings.close.deadline)


def check_window(session: Session, slot: Slot, view: View, settings: Settings, now: datetime) -> None:
    """Raise UsageError unless `now` lies in the window: nothing is recorded under a slot that is over."""
    start, end = window_of(session, slot, view, settings)
    what = f"slot {slot.label} of {slot.trade_date}" if view == "intraday" else f"the close view of {slot.trade_date}"
    shown = f"{now.astimezone(NEW_YORK):%Y-%m-%d %H:%M} in New York"
    if now < start:
        raise UsageError(f"{what} begins at {start.astimezone(NEW_YORK):%H:%M}, and it is {shown}: wait for it")
    if now >= end:
        raise UsageError(
            f"{what} was over at {end.astimezone(NEW_YORK):%H:%M}, and it is {shown}: what was not recorded is gone"
        )


async def capture_slot(
    lake: Lake,
    session: BrokerSession,
    trading_session: Session,
    slot: Slot,
    view: View,
    universe: Sequence[Underlying],
    settings: Settings,
    trigger: Trigger,
    observer: SlotObserver | None = None,
    holding: Holding = UNMEASURED,
) -> list[Run]:
    """Capture what `slot` of `view` still lacks over one connection: see `capture_slot_on`."""
    gateways = [Gateway(session, holding)]
    return await capture_slot_on(
        gateways, lake, trading_session, slot, view, universe, settings, trigger, observer or Unobserved()
    )


async def capture_slot_on(
    gateways: Sequence[Gateway],
    lake: Lake,
    trading_session: Session,
    slot: Slot,
    view: View,
    universe: Sequence[Underlying],
    settings: Settings,
    trigger: Trigger,
    observer: SlotObserver,
) -> list[Run]:
    """Capture what `slot` of `view` still lacks, batch by batch, each by one of `gateways` and committed once.

    Returns one Run a batch, in order; a batch that has nothing left to ask for makes none. A gateway that is lost
    hands its batch over; the run of what it had is committed, and not returned. Raises UsageError outside the window
    or without a frozen set, BrokerUnreachable when no gateway is left (after committing what there is).
    """
    check_window(trading_session, slot, view, settings, gateways[0].session.clock.now())
    for gateway in gateways:
        lake.require_origin(gateway.session.origin)
    window = window_of(trading_session, slot, view, settings)
    todo = _still_to_do(lake, slot, view, window, settings)
    listed = {contract.underlying for contract in todo.contracts}
    recorded = [u for u in universe if u.symbol in listed and view in u.views]
    parts = cut(recorded, settings.acquisition.batch_size)
    interest_needed = view == "intraday" and slot.slot_30m == 0
    runs: list[Run] = []
    begun: set[str] = set()

    async def capture(gateway: Gateway, part: Part) -> None:
        # A batch that was begun before was given back: what is recorded of it is not asked again.
        left = todo if part.name not in begun else await asyncio.to_thread(todo.refreshed, lake, slot, view, window)
        begun.add(part.name)
        session = gateway.session
        underlyings = await _with_conids(session, part.underlyings, left.conids)
        missing = [u for u in underlyings if u.conid not in left.done_underlyings]
        options, skipped = left.of({u.symbol for u in underlyings})
        if not options and not missing:
            return
        after_close = session.clock.now() >= trading_session.close
        session.use_market_data_type(LIVE_AT_CLOSE if after_close else settings.ib.market_data_type)
        pace, mode = _pace_and_mode(gateway, settings, interest_needed)
        observer.batch_began(part.name, session.address, len(options) + len(missing))
        try:
            batch = Batch(lake, session, slot, view, window, part.name, settings, trigger, left.stale)
            run = await batch.capture(missing, options, skipped, mode, pace, partial(observer.settled, part.name))
        finally:
            observer.batch_ended(part.name)
        runs.append(run)

    def seconds_left() -> float:
        return gateways[0].session.clock.wall_seconds_until(window[1])

    def bound() -> float:
        total = 0.0
        for gateway in gateways:
            pace, mode = _pace_and_mode(gateway, settings, interest_needed)
            total += contracts_per_second(mode, pace.lines, gateway.session.settings.message_limit, pace.holding_s)
        return total

    observer.slot_began({part.name: todo.count(part) for part in parts}, seconds_left, bound)
    await share(gateways, parts, capture, settings.ib.reconnect_s, seconds_left)
    return sorted(runs, key=lambda run: run.batch or "")


def _pace_and_mode(gateway: Gateway, settings: Settings, interest_needed: bool) -> tuple[Pace, Mode]:
    pace = pace_of(gateway.session, settings.model_copy(update={"ib": gateway.session.settings}))
    holding = gateway.holding
    if holding.streaming_s is None and pace.measured:
        holding = replace(holding, streaming_s=pace.holding_s)
    mode = mode_of(settings.acquisition.mode, pace.lines, pace.rate, holding, interest_needed=interest_needed)
    return pace, mode


@dataclass(frozen=True, slots=True)
class _Todo:
    """The frozen contracts in order of capture, what already has a row, and what is not worth asking in this slot."""

    contracts: list[OptionContract]
    done_options: set[int]
    done_underlyings: set[int]
    conids: dict[str, int]
    silent: set[int]
    skipped: set[int]
    stale: frozenset[int]

    def of(self, symbols: set[str]) -> tuple[list[OptionContract], int]:
        """The options of `symbols` that are asked, silent ones last, and how many are skipped."""
        left = [c for c in self.contracts if c.underlying in symbols and c.conid not in self.done_options]
        asked = [contract for contract in left if contract.conid not in self.skipped]
        return sorted(asked, key=lambda contract: contract.conid in self.silent), len(left) - len(asked)

    def count(self, part: Part) -> int:
        """How many contracts of a batch are asked, its underlyings included."""
        conids = [u.conid or self.conids.get(u.symbol) for u in part.underlyings]
        options, _ = self.of({u.symbol for u in part.underlyings})
        return len(options) + sum(conid not in self.done_underlyings for conid in conids)

    def refreshed(self, lake: Lake, slot: Slot, view: View, window: tuple[datetime, datetime]) -> "_Todo":
        """The same with what has been recorded since."""
        with reader(lake) as reads:
            return replace(
                self,
                done_options=reads.captured_options(slot.trade_date, view, slot.slot_30m, window),
                done_underlyings=reads.captured_underlyings(slot.trade_date, view, slot.slot_30m),
                conids=reads.underlying_conids(slot.trade_date),
            )


def _still_to_do(lake: Lake, slot: Slot, view: View, window: tuple[datetime, datetime], settings: Settings) -> _Todo:
    acquisition = settings.acquisition
    with reader(lake) as reads:
        rows = [row for row in reads.contracts(slot.trade_date) if row["first_seen_slot"] <= slot.slot_30m]
        done_options = reads.captured_options(slot.trade_date, view, slot.slot_30m, window)
        done_underlyings = reads.captured_underlyings(slot.trade_date, view, slot.slot_30m)
        conids = reads.underlying_conids(slot.trade_date)
        silent = silent_contracts(reads, slot, acquisition.silent_slots)
    if not rows:
        raise UsageError(
            f"no contracts are frozen for {slot.trade_date}: run `chainlake discover --date {slot.trade_date}` first"
        )
    reference = {row["underlying"]: row["reference_price"] for row in rows if row["reference_price"]}
    contracts = {row["conid"]: contract_of(row) for row in rows}
    in_order = capture_order(list(contracts.values()), reference)
    skipped = {conid for conid in silent if not slot.is_close and is_skipped(conid, slot, acquisition.silent_every)}
    stale = frozenset(row["conid"] for row in rows if (row.get("discovered_on") or slot.trade_date) < slot.trade_date)
    return _Todo(in_order, done_options, done_underlyings, conids, silent, skipped, stale)


async def _with_conids(
    session: BrokerSession, underlyings: Sequence[Underlying], conids: dict[str, int]
) -> list[Underlying]:
    """`underlyings` with their conids, in order: from the universe file, this day's rows, or else the broker."""
    known = [replace(u, conid=u.conid or conids.get(u.symbol)) for u in underlyings]
    asked = await session.qualify_underlyings([u for u in known if u.conid is None])
    answered = {underlying.symbol: underlying for underlying in asked}
    return [answered.get(u.symbol, u) for u in known if u.conid or u.symbol in answered]


def contract_of(row: dict[str, object]) -> OptionContract:
    """The contract in a row of ``raw/contracts``."""
    return OptionContract(**{name: row[name] for name in OptionContract.__slots__})  # type: ignore[arg-type]
