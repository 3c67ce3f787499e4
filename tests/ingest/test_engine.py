"""The engine's own rules against the simulated gateway: lines, cancels, snapshots, fresh ticks, pacing errors."""

import asyncio
import time
from datetime import timedelta

import pytest

from ingest.broker import BrokerSession
from ingest.broker import session as session_module
from ingest.broker.lookup import Lookup
from ingest.broker.outages import farm_of
from ingest.capture import CaptureEngine, CaptureRules, Pace, QuoteRequest, engine
from ingest.capture.modes import LineOccupancy, contracts_per_second, faster_mode, mode_of
from ingest.capture.readiness import option_ready
from ingest.contracts import Underlying
from tests.ingest import storm


async def test_a_contract_subscribed_again_shows_the_market_of_then() -> None:
    """The library serves the old ticker's quotes at once; a slot's rows would be those of the slot before."""
    async with storm.gateway() as gateway:
        asked = storm.contracts(gateway, 40)
        settings = storm.settings_for(gateway)
        async with BrokerSession.connect(settings.ib) as session:
            seen = []
            for minutes in (0, 30, 60):
                await session.step_clock(storm.BELL + timedelta(minutes=minutes))
                capture = CaptureEngine(
                    session, Pace(settings.ib, settings.acquisition), CaptureRules(timeout_s=2, retries=0)
                )
                seen.append(
                    await capture.capture([QuoteRequest(c, "101", option_ready(storm.PATIENCE_S)) for c in asked])
                )
                storm.assert_true_quotes(gateway, seen[-1])
        first, second, third = ({o.request.conid: storm.shown(o.quote) for o in slot if o.quote} for slot in seen)
        assert sum(first[conid] != second[conid] != third[conid] for conid in first) > 30


async def test_every_line_is_given_back_and_never_more_are_held_than_the_budget() -> None:
    async with storm.gateway(lines=20, messages_per_second=300, latency_ms=(100, 150)) as gateway:
        captured = await storm.capture(gateway, storm.contracts(gateway, 80))
        storm.assert_each_once(captured)
        assert captured.failures == []
        assert gateway.lines.most_in_use <= 18
        assert captured.session.pacing_errors == 0
        assert captured.session.lines_in_use == 0


async def test_lines_that_others_use_are_found_out_and_cost_nothing_but_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PACING_BACKOFF_S", 0.2)
    async with storm.gateway(lines=20, messages_per_second=300, latency_ms=(60, 90)) as gateway:
        ib = {"lines": 60}
        captured = await storm.capture(gateway, storm.contracts(gateway, 60), ib=ib, retries=5)
        storm.assert_each_once(captured)
        assert captured.failures == []
        assert 0 < captured.session.pacing_errors <= 30
        await asyncio.sleep(0.1)  # the last cancel, and the end of the connection, are on their way
        assert gateway.lines.in_use == 0


async def test_a_rate_that_ib_rejects_is_found_out_and_no_cancel_is_lost() -> None:
    """The client believes in twice the rate: error 100 drops requests and cancels, and the third would end it."""
    async with storm.gateway(lines=100, messages_per_second=60) as gateway:
        asked = storm.contracts(gateway, 120)
        settings = storm.settings_for(gateway, {"messages_per_second": 120.0}, contract_timeout_s=1.0, retries=3)
        async with BrokerSession.connect(settings.ib) as session:
            pace = Pace(settings.ib, settings.acquisition)
            capture = CaptureEngine(session, pace, CaptureRules(timeout_s=1.0, retries=3))
            outcomes = await capture.capture([QuoteRequest(c, "101", option_ready(0.5)) for c in asked])
            assert sorted(o.request.conid for o in outcomes) == sorted(c.conid for c in asked)
            assert all(o.failure is None for o in outcomes)
            assert session.pacing_errors >= 1
            assert gateway.stats.violations <= 2
            assert pace.rate < 120 * 0.8
            await asyncio.sleep(0.1)
            assert gateway.lines.in_use == 0


async def test_snapshots_take_one_message_each_and_no_cancel() -> None:
    async with storm.gateway() as gateway:
        asked = storm.contracts(gateway, 50)
        captured = await storm.capture(gateway, asked, snapshot=True)
        storm.assert_each_once(captured)
        assert captured.failures == []
        storm.assert_true_quotes(gateway, captured.outcomes)
        options = [o for o in captured.outcomes if o.request.is_option]
        assert all(o.quote is not None and o.quote.open_interest is None for o in options)
        assert gateway.stats.snapshots == len(asked)
        # the type of data, the underlying's two, and one for each option
        assert captured.session.messages <= len(asked) + 4
        assert captured.session.lines_in_use == 0
        assert gateway.stats.errors == 0


async def test_a_snapshot_without_a_market_ends_with_it_and_is_tried_again() -> None:
    async with storm.gateway(snapshot_seconds=0.3) as gateway:
        asked = storm.contracts(gateway, 10)
        mute = asked[3].conid
        captured = await storm.capture(gateway, asked, [(0, {"fault": "silent", "conids": [mute]})], snapshot=True)
        storm.assert_each_once(captured)
        (failed,) = [o for o in captured.outcomes if o.failure]
        assert (failed.request.conid, failed.tries) == (mute, 2)
        assert failed.failure is not None
        assert failed.failure.kind == "timeout"


async def test_silent_contracts_in_a_row_do_not_stop_the_window() -> None:
    """Thirty that never answer, at the front: the others go on at the rate that messages allow."""
    async with storm.gateway(lines=100, messages_per_second=100, latency_ms=(20, 60)) as gateway:
        asked = storm.contracts(gateway, 130)
        mute = sorted(contract.conid for contract in asked[:30])
        began = time.monotonic()
        answered_at: list[float] = []
        settings = storm.settings_for(gateway)
        async with BrokerSession.connect(settings.ib) as session:
            assert session.control is not None
            await session.control.call({"op": "fault", "fault": {"fault": "silent", "conids": mute}})
            capture = CaptureEngine(
                session,
                Pace(settings.ib, settings.acquisition),
                CaptureRules(timeout_s=4.0, retries=0),
                on_outcome=lambda o: None if o.failure else answered_at.append(time.monotonic() - began),
            )
            outcomes = await capture.capture([QuoteRequest(c, "101", option_ready(1.0)) for c in asked])
        assert sum(o.failure is not None for o in outcomes) == 30
        # 30 + 2 x 100 messages at 98 a second are 2.4 s, well before the silent ones are given up
        assert max(answered_at) < 4.0


async def test_a_cancelled_capture_gives_all_lines_back_within_the_rate() -> None:
    async with storm.gateway(latency_ms=(500, 600), lines=100, messages_per_second=100) as gateway:
        settings = storm.settings_for(gateway)
        async with BrokerSession.connect(settings.ib) as session:
            capture = CaptureEngine(
                session, Pace(settings.ib, settings.acquisition), CaptureRules(timeout_s=4, retries=0)
            )
            asks = [QuoteRequest(c, "101", option_ready(1.0)) for c in storm.contracts(gateway, 90)]
            task = asyncio.create_task(capture.capture(asks))
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.05)
            assert gateway.lines.in_use == 0
            assert gateway.stats.violations == 0


def test_the_faster_mode_follows_from_lines_messages_and_latency() -> None:
    """100 lines, 50 messages a second: 25 a second streaming; snapshots of 11 s give 9, of half a second 50."""
    assert contracts_per_second("streaming", 100, 50, 0.5) == 25
    assert contracts_per_second("streaming", 100, 50, 8) == 12.5
    assert contracts_per_second("snapshot", 100, 50, 10) == 10
    assert contracts_per_second("snapshot", 100, 50, 0) == 50
    assert faster_mode(100, 50, LineOccupancy(0.5, 11)) == "streaming"
    assert faster_mode(100, 50, LineOccupancy(0.5, 0.5)) == "snapshot"
    assert faster_mode(100, 50, LineOccupancy(0.5, None)) == "streaming"
    assert mode_of("auto", 100, 50, LineOccupancy(0.5, 0.5), interest_needed=True) == "streaming"
    assert mode_of("snapshot", 100, 50, LineOccupancy(), interest_needed=True) == "snapshot"


async def test_an_answer_ends_a_lost_connection_to_ib_that_nobody_says_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "REACHABLE_S", 0.1)
    async with storm.gateway() as gateway, BrokerSession.connect(storm.settings_for(gateway).ib) as session:
        await Lookup(session).underlyings([Underlying("AAPL")], 5)
        session._error_arrived(-1, 1100, "Connectivity between IB and TWS has been lost", None)
        assert [outage.kind for outage in session.outages] == ["ib_connection"]
        async with asyncio.timeout(5):
            while session.outages:
                await asyncio.sleep(0.02)


async def test_an_outage_of_two_farms_lasts_until_both_are_back() -> None:
    async with storm.gateway() as gateway, BrokerSession.connect(storm.settings_for(gateway).ib) as session:
        told = [(2103, "usopt"), (2104, "usopt.nj"), (2103, "usopt.nj"), (2104, "usopt"), (2104, "usopt.nj")]
        seen = []
        for code, farm in told:
            session._error_arrived(-1, code, f"Market data farm connection is whatever:{farm}", None)
            seen.append([outage.kind for outage in session.outages])
        assert seen == [["option_farm"]] * 4 + [[]]


@pytest.mark.parametrize(
    ("message", "farm"),
    [
        ("Market data farm connection is broken:usopt", "option_farm"),
        ("Market data farm connection is broken:usfarm.nj", "stock_farm"),
        ("Market data farm connection is broken:usfarm", "stock_farm"),
        ("Market data farm connection is broken:cashfarm", None),
        ("Market data farm connection is broken:eufarm", None),
    ],
)
def test_farms_are_told_apart_by_the_name_in_the_message(message: str, farm: str | None) -> None:
    assert farm_of(message) == farm
