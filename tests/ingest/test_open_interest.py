"""Open interest against the simulated gateway, to the end of the road: what it publishes is the answer sheet."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ingest.broker import BrokerSession
from ingest.calendar.sessions import Session, new_york, next_session, session_on
from ingest.capture.snapshot import capture_slot
from ingest.context import StepContext
from ingest.contracts import Underlying
from ingest.discovery.discover import discover
from ingest.errors import UsageError
from ingest.open_interest.enrichment import (
    attempts_at,
    enrich,
    first_attempt_at,
    is_last_attempt,
    is_missing,
    last_resort,
    superseded_at,
)
from ingest.runs import Run
from ingest.settings import Settings, load
from lake.reads import reader
from lake.store import Lake
from tws_simulator import GatewayOptions, SimulatedGateway
from tws_simulator.worlds.instruments import Option

DAY = next_session(date(2026, 11, 18))
MORNING = next_session(DAY.trade_date)
LATER = next_session(MORNING.trade_date)
BEFORE = date(2026, 11, 18)


class Place:
    """A gateway, a lake with a captured day, and enrichments."""

    def __init__(self, gateway: SimulatedGateway, session: BrokerSession, settings: Settings, symbol: str) -> None:
        self.gateway, self.session, self.settings = gateway, session, settings
        self.universe = [Underlying(symbol)]
        self.lake = Lake.create(settings.lake.root, session.origin, session.clock.now())

    async def capture(self, day: Session, slot: int) -> None:
        """Freeze the day and capture a slot."""
        await self.session.step_clock(day.at(time(9, 25)))
        await discover(StepContext(self.lake, day, self.universe, self.settings, "manual"), self.session)
        # A minute into the slot, but for the close slot, which is at the close.
        await self.session.step_clock(day.slots[slot].sample_time + timedelta(minutes=slot < 13))
        await capture_slot(
            StepContext(self.lake, day, self.universe, self.settings, "manual"),
            self.session,
            day.slots[slot],
            "intraday",
        )

    async def enrich(self, at: datetime, day: Session = DAY) -> Run:
        await self.session.step_clock(at)
        return await enrich(StepContext(self.lake, day, self.universe, self.settings, "manual"), self.session)

    def last_resort(self, day: Session = DAY) -> Run | None:
        return last_resort(StepContext(self.lake, day, self.universe, self.settings, "manual"), self.session.clock)

    def rows(self, table: str, where: str = "true") -> list[dict[str, Any]]:
        with reader(self.lake) as reads:
            return reads.rows(table, where)

    def filled(self, day: Session = DAY) -> dict[int, int]:
        rows = self.rows("raw/open_interest", f"trade_date = date '{day.trade_date}' and oi_asof_date = trade_date")
        assert len(rows) == len({row["conid"] for row in rows})
        return {row["conid"]: row["open_interest"] for row in rows}

    def published(self, day: Session = DAY) -> dict[int, int]:
        """The open interest of a session, as the gateway's world has it, of contracts that live on the next morning."""
        now, truth = next_session(day.trade_date).at(time(12)), {}
        for row in self.rows("raw/contracts", f"trade_date = date '{day.trade_date}'"):
            option = self.gateway.world.by_conid(row["conid"], now)
            if isinstance(option, Option) and (value := self.gateway.world.open_interest(option, now)) is not None:
                truth[row["conid"]] = value
        return truth


@asynccontextmanager
async def place(tmp_path: Path, turns_over: time, symbol: str = "AAPL", **more: Any) -> AsyncIterator[Place]:
    options = GatewayOptions(
        **{
            "port": 0,
            "control_port": 0,
            "symbols": ("AAPL",),
            "at": DAY.at(time(9, 25)),
            "speed": 0,
            "lines": 400,
            "messages_per_second": 4000,
            "latency_ms": (0, 2),
            "oi_published_at": turns_over,
            **more,
        }
    )
    async with SimulatedGateway(options) as gateway:
        settings = load(
            ib={"port": gateway.port, "lines": 400, "messages_per_second": 4000.0},
            lake={"root": str(tmp_path / "lake")},
            state={"dir": tmp_path / "state"},
            acquisition={"greeks_patience_s": 0.5, "contract_timeout_s": 2.0},
            enrichment={"patience_s": 1.0},
            filters={"moneyness_pct": 0.15, "expiry_months_ahead": 2},
        )
        async with BrokerSession.connect(settings.ib) as session:
            yield Place(gateway, session, settings, symbol)


# -- when it is asked --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "due"),
    [("next_session", new_york(date(2014, 6, 9), time(4))), ("next_day", new_york(date(2014, 6, 7), time(4)))],
)
def test_a_friday_is_due_on_monday_or_on_saturday(on: str, due: datetime) -> None:
    settings = load(enrichment={"on": on})
    assert first_attempt_at(date(2014, 6, 6), settings) == due
    # The repeats are on the next session's morning in any case: only then is it sure to be published.
    assert attempts_at(date(2014, 6, 6), settings) == [
        due,
        new_york(date(2014, 6, 9), time(7, 30)),
        new_york(date(2014, 6, 9), time(9)),
    ]
    assert superseded_at(date(2014, 6, 6), settings) == new_york(date(2014, 6, 10), time(4))


def test_on_the_next_day_the_last_attempt_is_still_the_next_sessions() -> None:
    settings = load(enrichment={"on": "next_day", "repeat_at": (time(9), time(7, 30))})
    friday = date(2014, 6, 6)
    assert not is_last_attempt(friday, new_york(date(2014, 6, 7), time(23)), settings)
    assert not is_last_attempt(friday, new_york(date(2014, 6, 9), time(8, 58)), settings)
    assert is_last_attempt(friday, new_york(date(2014, 6, 9), time(9)), settings)


async def test_it_is_refused_before_it_is_due_and_without_a_frozen_set(tmp_path: Path) -> None:
    async with place(tmp_path, time(4)) as here:
        with pytest.raises(UsageError, match="is due from 2026-11-20 04:00"):
            await here.enrich(DAY.close)
        with pytest.raises(UsageError, match="no contracts of 2026-11-19"):
            await here.enrich(MORNING.at(time(4)))


# -- what is fresh -----------------------------------------------------------------------------------------------------


async def test_what_has_turned_over_by_four_is_filled_at_once_zeros_included(tmp_path: Path) -> None:
    async with place(tmp_path, time(4)) as here:
        await here.capture(DAY, 13)
        run = await here.enrich(MORNING.at(time(4)))
        assert run.message is not None
        assert here.filled().items() < here.published().items()
        assert 0 in here.filled().values()
        # Open is what traded and shows no change: that can be the new value, as here, or still the old one.
        kept = {row["conid"]: row for row in here.rows("raw/open_interest") if row["oi_asof_date"] == BEFORE}
        assert kept.keys() == here.published().keys() - here.filled().keys()
        assert all(row["open_interest"] == here.published()[conid] for conid, row in kept.items())
        assert f"{len(kept)} may still show the session before" in run.message
        assert (await here.enrich(MORNING.at(time(7, 30)))).asked == len(kept) < 0.2 * run.asked
        # The last attempt settles it: unchanged open interest is as good as any.
        last = await here.enrich(MORNING.at(time(9)))
        assert (last.asked, last.status) == (len(kept), "ok")
        assert here.filled() == here.published()
        # Another run has nothing to ask, and changes nothing.
        assert not is_missing(here.lake, DAY.trade_date, here.universe)
        assert (await here.enrich(MORNING.at(time(9, 30)))).asked == 0
        assert here.filled() == here.published()


async def test_a_chain_that_turns_over_in_parts_is_filled_without_one_value_of_the_session_before(
    tmp_path: Path,
) -> None:
    async with place(tmp_path, time(4)) as here:
        world, open_interest = here.gateway.world, here.gateway.world.open_interest
        still_old = MORNING.at(time(7))

        def shown(option: Option, now: datetime) -> int | None:
            behind = option.conid % 2 and MORNING.at(time(4)) <= now < still_old
            return open_interest(option, MORNING.at(time(3)) if behind else now)

        world.open_interest = shown  # type: ignore[method-assign]
        await here.capture(DAY, 13)
        await here.enrich(MORNING.at(time(4)))
        assert here.filled().items() < here.published().items()
        assert len(here.filled()) > 0.5 * len(here.published())
        await here.enrich(MORNING.at(time(7, 30)))
        assert here.filled().items() < here.published().items()
        await here.enrich(MORNING.at(time(9)))
        assert here.filled() == here.published()


async def test_a_day_of_which_only_a_morning_slot_was_captured_is_filled_as_well(tmp_path: Path) -> None:
    async with place(tmp_path, time(4)) as here:
        await here.capture(DAY, 1)
        await here.enrich(MORNING.at(time(4)))
        # What shows no change may have traded in the afternoon.
        assert here.filled().items() < here.published().items()
        await here.enrich(MORNING.at(time(9)))
        assert here.filled() == here.published()


async def test_what_turns_over_later_is_kept_as_the_older_session_and_asked_again(tmp_path: Path) -> None:
    """At 04:00 IB still shows the session before: the chain says so."""
    async with place(tmp_path, time(6, 30)) as here:
        await here.capture(DAY, 12)
        first = await here.enrich(MORNING.at(time(4)))
        assert here.filled() == {}
        assert first.status == "partial"
        assert first.message is not None
        assert first.message.startswith("0 of ")
        kept = here.rows("raw/open_interest")
        assert {row["oi_asof_date"] for row in kept} == {BEFORE}
        assert not any(row["snapshot_error"] for row in kept)
        assert is_missing(here.lake, DAY.trade_date, here.universe)
        second = await here.enrich(MORNING.at(time(7, 30)))
        assert second.asked == first.asked
        assert here.filled().items() < here.published().items()
        settled_before = len(here.filled())
        # Scheduled for 09:00, and started a moment early.
        third = await here.enrich(MORNING.at(time(8, 59, 59)))
        assert third.asked == first.asked - settled_before
        assert here.filled() == here.published()
        assert (await here.enrich(MORNING.at(time(9)))).asked == 0


async def test_only_what_failed_is_asked_again(tmp_path: Path) -> None:
    async with place(tmp_path, time(4)) as here:
        await here.capture(DAY, 13)
        assert here.session.control is not None
        silent = {"fault": "silent", "share": 0.3, "instruments": ["option"]}
        await here.session.control.call({"op": "fault", "fault": silent})
        # By hand, after the last of the morning's attempts.
        first = await here.enrich(MORNING.at(time(9, 10)))
        assert 0 < first.failed < first.asked
        assert first.captured == len(here.filled()) == first.asked - first.failed
        await here.session.control.call({"op": "clear"})
        second = await here.enrich(MORNING.at(time(9, 30)))
        assert (second.asked, second.failed) == (first.failed, 0)
        assert here.filled() == here.published()


# -- the end of the road -----------------------------------------------------------------------------------------------


async def test_what_was_never_asked_is_taken_from_the_next_session_and_the_rest_given_up(tmp_path: Path) -> None:
    async with place(tmp_path, time(4)) as here:
        await here.capture(DAY, 12)
        frozen = {row["conid"]: row for row in here.rows("raw/contracts", f"trade_date = date '{DAY.trade_date}'")}
        # No enrichment on the morning; the next session is captured, and one contract never shows anything.
        assert here.session.control is not None
        mute = min(here.published())
        await here.session.control.call({"op": "fault", "fault": {"fault": "silent", "conids": [mute]}})
        await here.capture(MORNING, 3)
        assert here.last_resort() is None, "IB may still show it"
        await here.session.step_clock(LATER.at(time(4)))
        run = here.last_resort()
        assert run is not None
        carried = {row["conid"] for row in here.rows("raw/option_quotes", f"trade_date = date '{MORNING.trade_date}'")}
        truth = {conid: value for conid, value in here.published().items() if conid in carried - {mute}}
        assert here.filled() == truth
        assert {row["method"] for row in here.rows("raw/open_interest")} == {"next_session_snapshot"}
        given_up = {row["conid"] for row in here.rows("raw/open_interest", "snapshot_error")}
        assert mute in given_up == frozen.keys() - truth.keys()
        assert (run.asked, run.captured, run.failed) == (len(frozen), len(truth), len(given_up))
        # For good: neither the last resort nor another enrichment goes on about it.
        assert here.last_resort() is None
        assert (await here.enrich(LATER.at(time(7, 30)))).asked == 0
        assert len(here.rows("raw/open_interest")) == len(frozen)


async def test_an_enrichment_that_comes_too_late_does_not_take_the_next_sessions_for_it(tmp_path: Path) -> None:
    async with place(tmp_path, time(4)) as here:
        await here.capture(DAY, 12)
        messages = here.session.messages
        run = await here.enrich(LATER.at(time(5)))
        assert here.session.messages == messages, "IB shows another session's"
        assert (run.captured, run.status) == (0, "partial")
        assert here.filled() == {}
        assert all(row["snapshot_error"] for row in here.rows("raw/open_interest"))


async def test_snapshots_that_still_showed_the_session_before_fill_nothing(tmp_path: Path) -> None:
    """IB turns over in the evening only: the next session's rows carry the values of the session before."""
    async with place(tmp_path, time(20)) as here:
        await here.capture(DAY, 13)
        await here.capture(MORNING, 3)
        await here.session.step_clock(LATER.at(time(4)))
        run = here.last_resort()
        assert run is not None
        assert run.captured == 0
        assert here.filled() == {}
        messages = {row["error_message"] for row in here.rows("raw/open_interest")}
        assert f"the snapshots of the next session still showed that of {BEFORE}" in messages


# -- real days ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("turns_over", "filled_at"), [(time(4), time(4)), (time(6, 30), time(7, 30))])
async def test_a_real_chain_is_filled_with_the_stamp_of_the_next_morning(
    tmp_path: Path, shared_data: Path, turns_over: time, filled_at: time
) -> None:
    """TWX 2014-06-05: the file of 06-06 has, for each contract, the open interest at the end of 06-05."""
    first, second = session_on(date(2014, 6, 5)), session_on(date(2014, 6, 6))
    assert first is not None
    assert second is not None
    files = tuple(shared_data / "replay" / f"TWX_{day.trade_date}.parquet" for day in (first, second))
    world = {"world": "replay", "replay": files, "symbols": (), "at": first.at(time(9, 25))}
    async with place(tmp_path, turns_over, "TWX", **world) as here:
        here.settings = here.settings.model_copy(
            update={
                "filters": here.settings.filters.model_copy(
                    update={"expiry_types": ("all",), "moneyness_pct": 0, "expiry_months_ahead": 0}
                )
            }
        )
        await here.capture(first, 12)
        for clock_time in (time(4), time(7, 30), time(9)):
            await here.enrich(second.at(clock_time), first)
            assert bool(here.filled(first)) == (clock_time >= filled_at)

        stamps = duckdb.execute(
            'select expiry, strike, "right", max(open_interest) from read_parquet($f) group by all',
            {"f": str(files[1])},
        ).fetchall()
        truth = {(expiry, strike, right): value for expiry, strike, right, value in stamps}
        frozen = {row["conid"]: row for row in here.rows("raw/contracts")}
        found = {
            (frozen[conid]["expiry"], frozen[conid]["strike"], frozen[conid]["right"]): value
            for conid, value in here.filled(first).items()
        }
        assert len(found) > 100
        assert found == {terms: truth[terms] for terms in found}
