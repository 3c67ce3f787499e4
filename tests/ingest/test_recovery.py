"""Every fault of the simulated gateway in the middle of a capture: each contract ends once, with a true quote."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.broker import BrokerSession
from ingest.capture import CaptureEngine, CaptureRules, Pace, QuoteRequest
from ingest.capture.readiness import option_ready
from ingest.errors import BrokerUnreachable
from ingest.settings import load
from tests.ingest import storm
from tws_simulator.protocol.messages import Encoder, server_greeting

COUNT = 70


def with_faults(folder: Path, *faults: dict[str, Any]) -> Path:
    """A scenario file with these faults in force from the start."""
    path = folder / "scenario.yaml"
    path.write_text(json.dumps({"faults": faults}))
    return path


OPEN_HOURS = {"from": "09:00", "until": "16:00"}
# By fault: the outages that a capture must have met.
OUTAGES: list[tuple[dict[str, Any], set[str]]] = [
    ({"fault": "connection_lost", "data": "kept", "for": 0.5}, {"ib_connection"}),
    ({"fault": "connection_lost", "data": "lost", "for": 0.5}, {"ib_connection"}),
    (
        {"fault": "nightly_reset", "data": "kept", "for": 0.5} | OPEN_HOURS,
        {"ib_connection", "option_farm", "stock_farm"},
    ),
    (
        {"fault": "nightly_reset", "data": "lost", "for": 0.5} | OPEN_HOURS,
        {"ib_connection", "option_farm", "stock_farm"},
    ),
    ({"fault": "farm_down", "farm": "usopt", "for": 0.5}, {"option_farm"}),
    ({"fault": "farm_down", "farm": "usfarm", "for": 0.2}, {"stock_farm"}),
    ({"fault": "farm_down", "farm": "ushmds", "for": 0.2}, set()),
    ({"fault": "farm_down", "farm": "secdefnj", "for": 0.2}, set()),
    ({"fault": "competing_session", "for": 0.5}, {"competing_session"}),
    ({"fault": "socket_drop"}, {"socket"}),
    ({"fault": "socket_drop", "reset": True}, {"socket"}),
    ({"fault": "socket_drop", "for": 0.7}, {"socket"}),
    ({"fault": "half_open", "for": 1.2}, {"socket"}),
    ({"fault": "garbage_frame", "kind": "unknown_message"}, set()),
    ({"fault": "garbage_frame", "kind": "short"}, set()),
    ({"fault": "garbage_frame", "kind": "binary"}, set()),
    ({"fault": "garbage_frame", "kind": "endless"}, {"socket"}),
    ({"fault": "notice", "code": 2119, "message": "Market data farm is connecting:usopt"}, set()),
    ({"fault": "error", "code": 322, "times_each": 1}, set()),
    ({"fault": "wrong_order"}, set()),
    ({"fault": "empty_model", "seconds": 0.1}, set()),
    ({"fault": "slow", "seconds": 0.5}, set()),
]


def name(case: tuple[dict[str, Any], set[str]]) -> str:
    return "-".join(str(value) for value in case[0].values())


@pytest.mark.parametrize("case", OUTAGES, ids=name)
async def test_what_passes_costs_no_contract_its_quote(case: tuple[dict[str, Any], set[str]]) -> None:
    fault, outages = case
    async with storm.gateway() as gateway:
        captured = await storm.capture(gateway, storm.contracts(gateway, COUNT), [(0.3, fault)])
        storm.assert_each_once(captured)
        assert captured.failures == []
        assert {outage.kind for outage in captured.engine.outages} == outages
        storm.assert_true_quotes(gateway, captured.outcomes)
        assert gateway.stats.violations == 0
        if fault["fault"] != "error":
            assert {outcome.tries for outcome in captured.outcomes} == {1}


FAULTY_QUOTES: list[dict[str, Any]] = [
    {"fault": "one_sided", "side": "ask"},
    {"fault": "one_sided", "side": "bid"},
    {"fault": "no_model"},
    {"fault": "empty_model", "seconds": None},
    {"fault": "sentinels", "kind": "minus_one"},
    {"fault": "sentinels", "kind": "zero"},
    {"fault": "sentinels", "kind": "not_computed"},
    {"fault": "sentinels", "kind": "unset"},
    {"fault": "crossed"},
    {"fault": "stale"},
]


@pytest.mark.parametrize("fault", FAULTY_QUOTES, ids=lambda fault: "-".join(map(str, fault.values())))
async def test_a_faulty_quote_ends_once_and_without_sentinels(fault: dict[str, Any]) -> None:
    async with storm.gateway() as gateway:
        captured = await storm.capture(
            gateway, storm.contracts(gateway, 30), [(0.3, fault | {"share": 0.5})], contract_timeout_s=2
        )
        storm.assert_each_once(captured)
        assert captured.failures == []
        for outcome in captured.outcomes:
            quote = outcome.quote
            assert quote is not None
            assert all(price is None or 0 < price < 1e6 for price in (quote.bid, quote.ask, quote.last, quote.iv))
            assert all(greek is None or -2 < greek < 1e6 for greek in (quote.delta, quote.theta, quote.vega))


async def test_silent_contracts_are_tried_again_and_end_as_timeouts() -> None:
    async with storm.gateway() as gateway:
        asked = storm.contracts(gateway, 50)
        mute = {contract.conid for contract in asked[5::6]}
        captured = await storm.capture(
            gateway, asked, [(0, {"fault": "silent", "conids": sorted(mute)})], contract_timeout_s=0.6
        )
        storm.assert_each_once(captured)
        silent = [outcome for outcome in captured.outcomes if outcome.failure]
        assert {outcome.request.conid for outcome in silent} == mute
        assert {(outcome.failure.kind, outcome.tries) for outcome in silent if outcome.failure} == {("timeout", 2)}
        # they did not keep the others waiting
        assert captured.outcomes[-len(silent) :] == silent


@pytest.mark.parametrize("code", [354, 10089])
async def test_without_live_permission_the_session_goes_on_delayed(code: int) -> None:
    async with storm.gateway() as gateway:
        fault = {"fault": "delayed_only", "code": code}
        captured = await storm.capture(gateway, storm.contracts(gateway, 120), [(0.1, fault)])
        storm.assert_each_once(captured)
        assert captured.failures == []
        kinds = [outcome.quote.market_data_type for outcome in captured.outcomes if outcome.quote]
        assert set(kinds) == {1, 3}
        assert kinds.count(3) > 5
        assert {outcome.tries for outcome in captured.outcomes} == {1}
        # 10167 is an advisory; what was refused was refused once, and no generic tick is refused afterwards
        storm.assert_true_quotes(gateway, captured.outcomes)
        assert {o.quote.open_interest is not None for o in captured.outcomes if o.quote and o.request.is_option} == {
            True
        }


async def test_delayed_data_can_be_refused_and_then_rows_say_so() -> None:
    async with storm.gateway() as gateway:
        fault = {"fault": "delayed_only", "instruments": ["option"]}
        captured = await storm.capture(gateway, storm.contracts(gateway, 20), [(0, fault)], delayed_fallback="off")
        storm.assert_each_once(captured)
        assert set(captured.failures) == {"ib_error"}
        assert {o.failure.code for o in captured.outcomes if o.failure} == {354}


async def test_no_permission_at_all_is_final() -> None:
    async with storm.gateway() as gateway:
        fault = {"fault": "no_permission", "instruments": ["option"]}
        captured = await storm.capture(gateway, storm.contracts(gateway, 20), [(0, fault)])
        storm.assert_each_once(captured)
        assert {o.failure.code for o in captured.outcomes if o.failure} == {10168}
        # each was asked live and then delayed, or delayed at once; never again
        assert all(o.tries == 1 for o in captured.outcomes)


@pytest.mark.parametrize(("delayed", "allowed"), [(True, "auto"), (True, "off"), (False, "auto")])
async def test_permission_for_a_part_costs_no_tries_and_is_named(delayed: bool, allowed: str) -> None:
    """10091 and the model only: delayed data is taken where IB offers it and it is allowed, else the model is kept."""
    async with storm.gateway() as gateway:
        fault = {"fault": "partial_permission", "delayed": delayed, "instruments": ["option"]}
        captured = await storm.capture(
            gateway, storm.contracts(gateway, 20), [(0, fault)], delayed_fallback=allowed, contract_timeout_s=20
        )
        storm.assert_each_once(captured)
        options = [outcome for outcome in captured.outcomes if outcome.request.is_option]
        assert {outcome.tries for outcome in options} == {1}
        if delayed and allowed == "auto":
            assert captured.failures == []
            assert {outcome.quote.market_data_type for outcome in options if outcome.quote} == {3}
            storm.assert_true_quotes(gateway, captured.outcomes)
            return
        assert {(o.failure.kind, o.failure.code) for o in options if o.failure} == {("ib_error", 10091)}
        assert len(captured.failures) == 20
        assert all("requires additional subscription" in o.failure.message for o in options if o.failure)
        for outcome in options:
            assert outcome.quote is not None
            assert outcome.quote.has_model
            assert (outcome.quote.bid, outcome.quote.ask) == (None, None)
            assert outcome.asof is not None


async def test_frozen_data_falls_back_to_delayed_frozen_after_the_close() -> None:
    async with storm.gateway(at=storm.DAY.close + timedelta(hours=1)) as gateway:
        asked = storm.contracts(gateway, 1)
        settings_ = storm.settings_for(gateway)
        async with BrokerSession.connect(settings_.ib) as session:
            session.use_market_data_type(2)
            assert session.control is not None
            await session.control.call({"op": "fault", "fault": {"fault": "delayed_only"}})
            engine = CaptureEngine(
                session, Pace(settings_.ib, settings_.acquisition), CaptureRules(timeout_s=2, retries=0)
            )
            (outcome,) = await engine.capture([QuoteRequest(asked[0], "101", option_ready(storm.PATIENCE_S))])
            assert outcome.quote is not None
            assert outcome.quote.market_data_type == 4


async def test_another_client_id_is_taken_when_the_old_one_is_still_held() -> None:
    async with storm.gateway(rules={"client_id_lingers": 30}) as gateway:
        captured = await storm.capture(gateway, storm.contracts(gateway, 40), [(0.3, {"fault": "socket_drop"})])
        storm.assert_each_once(captured)
        assert captured.failures == []


async def test_a_taken_client_id_is_left_for_the_next_of_the_pool_and_an_empty_pool_says_so() -> None:
    async with storm.gateway() as gateway:
        pool = storm.settings_for(gateway, {"client_id": 40, "client_id_pool": 1}).ib
        async with BrokerSession.connect(pool) as first, BrokerSession.connect(pool) as second:
            assert first.connected
            assert second.connected
            with pytest.raises(BrokerUnreachable, match="client ids 40 to 41 are in use"):
                async with BrokerSession.connect(pool):
                    pass


@pytest.mark.parametrize("how", ["silent", "closed"])
async def test_a_stuck_client_id_is_named_and_the_next_one_taken(how: str, tmp_path: Path) -> None:
    scenario = with_faults(tmp_path, {"fault": "client_id_stuck", "client_ids": [40, 41], "how": how})
    async with storm.gateway(scenario=scenario) as gateway:
        pool = storm.settings_for(gateway, {"client_id": 40, "client_id_pool": 2}).ib
        with structlog.testing.capture_logs() as logs:
            async with BrokerSession.connect(pool) as session:
                assert session.client_id == 42
        said = {"silent": "was left without an answer", "closed": "was turned away without a word"}[how]
        stuck = [(line["client_id"], line["reason"]) for line in logs if line["event"] == "client_id_stuck"]
        assert stuck == [(40, said), (41, said)]
        narrow = pool.model_copy(update={"client_id_pool": 1})
        with pytest.raises(BrokerUnreachable, match=f"client id 40 {said}, client id 41 {said}: restart it"):
            async with BrokerSession.connect(narrow):
                pass


async def test_a_gateway_that_hangs_up_with_a_reason_is_quoted() -> None:
    async def turn_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(server_greeting(176, storm.BELL) + Encoder(176).error(-1, 507, "Bad message length"))
        writer.close()

    server = await asyncio.start_server(turn_away, "127.0.0.1", 0)
    async with server:
        ib = load(ib={"port": server.sockets[0].getsockname()[1], "connect_timeout_s": 5}).ib
        with pytest.raises(BrokerUnreachable, match=r"ended the connection with error 507 \(Bad message length\)"):
            async with BrokerSession.connect(ib):
                pass


async def test_downloads_that_never_end_keep_nobody_from_connecting(tmp_path: Path) -> None:
    scenario = with_faults(tmp_path, {"fault": "unended_download"})
    async with storm.gateway(scenario=scenario) as gateway:
        captured = await storm.capture(gateway, storm.contracts(gateway, 5))
        storm.assert_each_once(captured)
        assert captured.failures == []


async def test_an_idle_session_notices_a_dead_socket_and_comes_back() -> None:
    async with storm.gateway() as gateway:
        settings_ = storm.settings_for(gateway)
        async with BrokerSession.connect(settings_.ib) as session:
            session.use_market_data_type(2)
            assert session.control is not None
            await session.control.call({"op": "fault", "fault": {"fault": "half_open"}})
            async with asyncio.timeout(5):
                while session.connected:
                    await asyncio.sleep(0.05)
            await session.control.call({"op": "clear"})
            await session.reconnect(5)
            assert session.connected
            assert not session.outages
            # the market data type is asked for again: a new connection begins with type 1
            await asyncio.sleep(0.1)
            assert {client.requested_type for client in gateway._state.connections} == {2}


async def test_a_gateway_that_stays_away_ends_the_capture_and_loses_nothing() -> None:
    async with storm.gateway() as gateway:
        fault = {"fault": "socket_drop", "for": 60}
        captured = await storm.capture(
            gateway, storm.contracts(gateway, COUNT), [(0.3, fault)], ib={"reconnect_s": 0.5}
        )
        assert captured.engine.lost
        storm.assert_each_once(captured)
        assert set(captured.failures) <= {"disconnected"}
        assert captured.engine.unasked
        storm.assert_true_quotes(gateway, captured.outcomes)


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "connection_lost"},
        {"fault": "competing_session"},
        {"fault": "farm_down", "farm": "usopt"},
        {"fault": "socket_drop", "for": 60},
        {"fault": "half_open"},
    ],
    ids=lambda fault: str(fault["fault"]),
)
async def test_an_outage_to_the_end_of_the_window_ends_the_slot_within_it(fault: dict[str, Any]) -> None:
    """A clock of 1,200 times real time: the slot has 29 minutes, 1.45 s of wall-clock time."""
    end = storm.DAY.slots[0].window_end
    async with storm.gateway() as gateway:
        asked = storm.contracts(gateway, 600)
        captured = await storm.capture(gateway, asked, [(0.05, fault)], ends_at=end, speed=1200)
        assert not captured.engine.lost
        storm.assert_each_once(captured)
        assert captured.engine.unasked
        assert set(captured.failures) <= {"outage", "window_over"}
        assert all(outcome.requested_at < end for outcome in captured.outcomes)
        assert all(outcome.asof < end for outcome in captured.outcomes if outcome.asof)
        # within a second of wall-clock time: 20 minutes of this clock
        assert gateway.clock.now() < end + timedelta(minutes=20)


async def test_the_market_moves_while_ib_has_forgotten_the_subscriptions() -> None:
    """What was open is asked again and shows the market of then, never the quotes from before the outage."""
    async with storm.gateway() as gateway:
        later = storm.BELL + timedelta(minutes=10)
        asked = storm.contracts(gateway, 150)
        settings_ = storm.settings_for(gateway)
        async with BrokerSession.connect(settings_.ib) as session:
            control = session.control
            assert control is not None
            begun = asyncio.Event()
            engine = CaptureEngine(
                session,
                Pace(settings_.ib, settings_.acquisition),
                CaptureRules(timeout_s=4, retries=0),
                on_outcome=lambda outcome: begun.set(),
            )
            ready = option_ready(storm.PATIENCE_S)
            task = asyncio.create_task(engine.capture([QuoteRequest(one, "101", ready) for one in asked]))
            await begun.wait()
            await control.call({"op": "fault", "fault": {"fault": "connection_lost", "data": "lost", "for": 0.4}})
            await asyncio.sleep(0.1)
            assert engine.state == "suspended"
            await session.step_clock(later)
            outcomes = await task
        assert sorted(outcome.request.conid for outcome in outcomes) == sorted(one.conid for one in asked)
        storm.assert_true_quotes(gateway, outcomes)
        assert {outcome.requested_at for outcome in outcomes} == {storm.BELL, later}
        shown = [(o.request.conid, storm.shown(o.quote)) for o in outcomes if o.quote]
        assert sum(values != storm.standing(gateway, conid, storm.BELL) for conid, values in shown) > 10


PASSING = st.sampled_from([fault for fault, _ in OUTAGES if fault.get("for", 1) <= 1])
SCRIPT = st.lists(st.tuples(st.floats(0, 0.9), PASSING), min_size=1, max_size=4)


async def weather(script: list[tuple[float, dict[str, Any]]]) -> None:
    async with storm.gateway(messages_per_second=600) as gateway:
        captured = await storm.capture(gateway, storm.contracts(gateway, COUNT), script, retries=5)
        storm.assert_each_once(captured)
        assert captured.failures == []
        storm.assert_true_quotes(gateway, captured.outcomes)


# Answers that take longer than the time between probes: found by the long run.
@example([(0.3, {"fault": "competing_session", "for": 0.5}), (0.0, {"fault": "slow", "seconds": 0.5})])
@given(SCRIPT)
@settings(max_examples=4, deadline=None)
def test_a_few_storms(script: list[tuple[float, dict[str, Any]]]) -> None:
    asyncio.run(weather(script))


@pytest.mark.slow
@given(SCRIPT)
@settings(max_examples=60, deadline=None)
def test_many_storms(script: list[tuple[float, dict[str, Any]]]) -> None:
    asyncio.run(weather(script))
