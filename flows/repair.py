"""What is missing of a recorded day, and what can still be captured: there is no backfill, but windows stay open."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from flows.steps import PipelineContext
from ingest.calendar.sessions import Session, Slot, next_session
from ingest.capture.slot import window_of
from ingest.open_interest.enrichment import first_attempt_at, is_missing, superseded_at
from ingest.settings import Settings
from lake.reads import Reader, reader
from lake.store import Lake

What = Literal["contracts", "slot", "close snapshot", "daily views", "open interest"]


@dataclass(frozen=True, slots=True)
class MissingItem:
    """One thing that is missing of a day: how many contracts, and until when (UTC) it can be had; None: gone for good.

    `slot` is set for a slot.
    """

    what: What
    label: str
    missing: int
    until: datetime | None
    slot: Slot | None = None

    @property
    def gone(self) -> bool:
        """Whether nothing can be done any more."""
        return self.until is None

    def __str__(self) -> str:
        counted = f"{self.missing:,} contracts" if self.missing else "all of it"
        return f"{self.label}: {counted}, {'gone for good' if self.until is None else 'can still be had'}"


def missing_items(context: PipelineContext, lake: Lake, session: Session, now: datetime) -> list[MissingItem]:
    """What is missing of `session` by `now` (UTC, pipeline time), in the order of repair. Empty for a whole day."""
    with reader(lake) as reads:
        return list(_found(context, lake, reads, session, now))


def _found(
    context: PipelineContext, lake: Lake, reads: Reader, session: Session, now: datetime
) -> Iterator[MissingItem]:
    settings, day = context.settings, session.trade_date
    symbols = {underlying.symbol for underlying in context.universe}
    frozen = {row["conid"] for row in reads.contracts(day) if row["underlying"] in symbols}
    if now < session.at(settings.schedule.freeze_at):
        return
    if not frozen:
        yield MissingItem("contracts", "contract set", 0, session.close if now < session.close else None)
    for slot in session.slots:
        if slot.sample_time > now:
            break
        good = reads.captured_options(day, "intraday", slot.slot_30m, window_of(session, slot, "intraday", settings))
        if missing := _missing(frozen, good):
            until = slot.window_end if now < slot.window_end else None
            yield MissingItem("slot", f"slot {slot.label}", missing, until, slot)
    closing = window_of(session, session.close_slot, "close", settings)
    if now >= session.at(settings.schedule.close_snapshot_at):
        good = reads.captured_options(day, "close", session.close_slot.slot_30m, closing)
        if missing := _missing(frozen, good):
            yield MissingItem("close snapshot", "close snapshot", missing, closing[1] if now < closing[1] else None)
        if frozen and not reads.rows("ops/published", f"trade_date = date '{day}' limit 1", "trade_date"):
            yield MissingItem("daily views", "daily views", 0, superseded_at(day, settings))
    if now >= first_attempt_at(day, settings) and is_missing(lake, day, context.universe):
        # After the next publication the next session's own snapshots may still show it.
        yield MissingItem("open interest", "open interest", 0, _last_call(session, settings, now))


def _missing(frozen: set[int], good: set[int]) -> int:
    # Nothing frozen and nothing captured is a slot that was missed as a whole.
    return len(frozen - good) if frozen else int(not good)


def _last_call(session: Session, settings: Settings, now: datetime) -> datetime | None:
    until = superseded_at(next_session(session.trade_date).trade_date, settings)
    return until if now < until else None
