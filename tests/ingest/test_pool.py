"""Several connections to one gateway that enforces its limits: what they share, and what becomes of a lost one."""

import asyncio
import itertools
import json
from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.broker import BrokerPool, BrokerSession
from ingest.capture import CaptureEngine, CaptureRules, QuoteRequest, engine
from ingest.capture.outage_log import PastOutage, merged, seconds_on_all
from ingest.capture.readiness import option_ready
from ingest.contracts import OptionContract
from ingest.errors import BrokerUnreachable
from tests.ingest import storm
from tests.ingest.test_recovery import FAULTY_QUOTES, OUTAGES, name
from tws_simulator import SimulatedGateway
from tws_simulator.connections.connection import ClientConnection
from tws_simulator.connections.limits import MessageBucket
from tws_simulator.faults.scenario import load_scenario

COUNT = 160
# The first connection, and the others behind the four ids that other commands may take.
CLIENT_IDS = [17, *range(22, 40)]
# Each connection may send so little that one alone would need seven times as long as the lines allow.
SLOW_CONNECTIONS: dict[str, Any] = {"messages_per_second": 60, "lines": 40, "latency_ms": (80, 160)}


def client(gateway: SimulatedGateway, number: int) -> ClientConnection:
    """The gateway's side of connection `number`, counted from 0."""
    found = gateway._state.clients[CLIENT_IDS[number]]
    assert isinstance(found, ClientConnection)
    return found


def drop(gateway: SimulatedGateway, *numbers: int) -> None:
    for number in numbers:
        client(gateway, number).drop(reset=False)


# -- limits ------------------------------------------------------------------------------------------------------------


async def test_connections_share_the_lines_and_have_a_message_rate_each() -> None:
    async with storm.gateway(**SLOW_CONNECTIONS) as gateway:
        captured = await storm.capture(gateway, storm.contracts(gateway, 400), connections=8)
        storm.assert_each_once(captured)
        assert captured.failures == []
        storm.assert_true_quotes(gateway, captured.outcomes)
        # no error 100, 101 or any other; and the lines, not the messages, were what it was bound by
        assert (gateway.stats.violations, gateway.stats.errors, captured.pool.pacing_errors) == (0, 0, 0)
        assert gateway.lines.most_in_use == gateway.lines.limit - 2
        messages = [session.messages for session in captured.pool.sessions]
        assert len(messages) == 8
        assert min(messages) > sum(messages) / 8 / 3
        assert all(session.clock is captured.session.clock for session in captured.pool.sessions)
        await asyncio.sleep(0.1)
        assert gateway.lines.in_use == 0


async def test_one_connection_is_bound_by_its_messages_where_eight_are_bound_by_lines() -> None:
    async with storm.gateway(**SLOW_CONNECTIONS) as gateway:
        captured = await storm.capture(gateway, storm.contracts(gateway, 100), connections=1)
        assert captured.failures == []
        assert gateway.lines.most_in_use < gateway.lines.limit / 2


async def test_call_and_put_of_a_strike_go_over_one_connection_one_after_the_other(tmp_path: Path) -> None:
    log = tmp_path / "deliveries.jsonl"
    async with storm.gateway(**SLOW_CONNECTIONS, delivery_log=log) as gateway:
        asked = sorted(storm.contracts(gateway, 200), key=lambda one: (one.expiry, one.strike, one.right))
        captured = await storm.capture(gateway, asked, connections=5)
        assert captured.failures == []
    by_conid = {contract.conid: contract for contract in asked}
    sent: dict[int, list[tuple[int, OptionContract]]] = defaultdict(list)
    for answer in map(json.loads, log.read_text().splitlines()):
        if answer["conid"] in by_conid:
            sent[answer["client_id"]].append((answer["req_id"], by_conid[answer["conid"]]))
    assert set(sent) == set(CLIENT_IDS[:5])
    place = {
        (one.expiry, one.strike, one.right): (client_id, request_id)
        for client_id, requests in sent.items()
        for request_id, one in requests
    }
    assert len(place) == len(asked)
    pairs = 0
    for (expiry, strike, right), (client_id, request_id) in place.items():
        if right == "C" and (put := place.get((expiry, strike, "P"))):
            assert put == (client_id, request_id + 1)
            pairs += 1
    assert pairs > 90


async def test_a_rate_that_ib_rejects_slows_its_own_connection_only() -> None:
    async with storm.gateway(messages_per_second=120, latency_ms=(60, 90)) as gateway:

        def halve() -> None:
            client(gateway, 1)._budget._bucket = MessageBucket(50)

        captured = await storm.capture(
            gateway, storm.contracts(gateway, 400), [(0.05, halve)], connections=3, contract_timeout_s=1, retries=3
        )
        storm.assert_each_once(captured)
        assert captured.failures == []
        errors = [session.pacing_errors for session in captured.pool.sessions]
        assert (errors[0], errors[2]) == (0, 0)
        assert errors[1] >= 1
        acquisition = storm.settings_for(gateway).acquisition
        first, slowed, third = captured.pool.pace(acquisition).each
        assert slowed.rate < 0.9 * first.rate
        assert first.rate == third.rate


async def test_lines_that_others_use_slow_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PACING_BACKOFF_S", 0.2)
    async with storm.gateway(lines=20, messages_per_second=100, latency_ms=(60, 90)) as gateway:
        captured = await storm.capture(
            gateway, storm.contracts(gateway, 80), ib={"lines": 60}, connections=4, retries=5
        )
        storm.assert_each_once(captured)
        assert captured.failures == []
        assert captured.pool.pacing_errors > 0
        paces = captured.pool.pace(storm.settings_for(gateway).acquisition).each
        assert {pace.lines for pace in paces} == {paces[0].lines}
        # of the 58 that were believed in
        assert paces[0].lines < 45
        await asyncio.sleep(0.1)
        assert gateway.lines.in_use == 0


async def test_where_cancels_are_free_they_take_no_message_of_the_budget() -> None:
    rules = {"cancels_count": False}
    async with storm.gateway(messages_per_second=40, rules=rules, latency_ms=(5, 10)) as gateway:
        settings = storm.settings_for(gateway)
        async with BrokerPool.connect(settings.ib) as pool:
            await pool.grow(2, cancels_free=True)
            taken = {id(pace): 0 for pace in pool.pace(settings.acquisition).each}
            for pace in pool.pace(settings.acquisition).each:
                wait = pace.message

                async def counted(pace: Any = pace, wait: Any = wait) -> None:
                    taken[id(pace)] += 1
                    await wait()

                pace.message = counted  # type: ignore[method-assign]
            captured = CaptureEngine(pool, pool.pace(settings.acquisition), CaptureRules(timeout_s=4, retries=0))
            asks = [QuoteRequest(one, "101", option_ready(1.0)) for one in storm.contracts(gateway, 60)]
            outcomes = await captured.capture(asks)
            assert [o.failure for o in outcomes] == [None] * 60
            # cancels were sent, and only requests took a token
            assert pool.messages >= 120
            assert 60 <= sum(taken.values()) <= 64
            assert gateway.stats.violations == 0


# -- connections that are lost, or never had ---------------------------------------------------------------------------


@pytest.mark.parametrize(("connections", "survivor"), [(2, 0), (2, 1), (6, 3)])
async def test_all_but_one_connection_are_lost_for_good_and_every_contract_is_asked(
    connections: int, survivor: int
) -> None:
    async with storm.gateway(messages_per_second=150) as gateway:

        def kill() -> None:
            gateway._state.listener.pause()
            drop(gateway, *(number for number in range(connections) if number != survivor))

        captured = await storm.capture(
            gateway, storm.contracts(gateway, COUNT), [(0.2, kill)], connections=connections, ib={"reconnect_s": 600}
        )
        storm.assert_each_once(captured)
        assert captured.failures == []
        assert {outcome.tries for outcome in captured.outcomes} == {1}
        storm.assert_true_quotes(gateway, captured.outcomes)
        # none came back
        assert gateway.stats.connections == connections
        assert not captured.engine.lost
        # the others went on: nothing was out of reach for the capture as a whole
        assert captured.engine.outage_s == 0
        assert {outage.kind for outage in captured.engine.outages} == {"socket"}


async def test_a_connection_that_comes_back_takes_part_again() -> None:
    async with storm.gateway(messages_per_second=100) as gateway:
        before: list[int] = []

        def lose() -> None:
            before.append(len(gateway._state.clients))
            drop(gateway, 0, 1)

        captured = await storm.capture(gateway, storm.contracts(gateway, 300), [(0.2, lose)], connections=4)
        storm.assert_each_once(captured)
        assert captured.failures == []
        assert before == [4]
        assert gateway.stats.connections == 6
        # what came back asked more than its handshake
        assert min(session.messages for session in captured.pool.sessions) > 60


async def test_every_connection_lost_is_a_lost_capture_that_accounts_for_all() -> None:
    async with storm.gateway() as gateway:

        def kill() -> None:
            gateway._state.listener.pause()
            drop(gateway, 0, 1, 2)

        captured = await storm.capture(
            gateway, storm.contracts(gateway, COUNT), [(0.2, kill)], connections=3, ib={"reconnect_s": 0.5}
        )
        storm.assert_each_once(captured)
        assert captured.engine.lost
        assert set(captured.failures) == {"disconnected"}
        assert captured.engine.unasked


async def test_what_the_gateway_does_not_let_in_is_done_by_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """TWS takes 32 clients; here five, one of which is somebody else's."""
    monkeypatch.setattr("tws_simulator.connections.connection.MOST_CLIENTS", 5)
    async with storm.gateway() as gateway:
        other = storm.settings_for(gateway, {"client_id": 3}).ib
        async with BrokerSession.connect(other):
            captured = await storm.capture(gateway, storm.contracts(gateway, COUNT), connections=9)
            storm.assert_each_once(captured)
            assert captured.failures == []
            assert len(captured.pool.sessions) == 4


async def test_client_ids_that_others_use_are_passed_over() -> None:
    async with storm.gateway() as gateway:
        other = storm.settings_for(gateway, {"client_id": CLIENT_IDS[1]}).ib
        async with BrokerSession.connect(other):
            captured = await storm.capture(gateway, storm.contracts(gateway, 60), connections=4)
            assert captured.failures == []
            ids = [session.client_id for session in captured.pool.sessions]
            assert len(set(ids)) == 4
            assert CLIENT_IDS[1] not in ids


async def test_another_command_finds_a_client_id_and_connections_of_its_own() -> None:
    async with storm.gateway() as gateway:
        ib = storm.settings_for(gateway).ib
        async with storm.pool_of(ib, 10) as first, storm.pool_of(ib, 10) as second:
            ids = [session.client_id for pool in (first, second) for session in pool.sessions]
            assert len(set(ids)) == 20
            assert first.first.client_id == 17
            assert second.first.client_id == 18
            async with BrokerSession.connect(ib) as third:
                assert third.client_id == 19


async def test_a_gateway_that_lets_in_none_says_why() -> None:
    async with storm.gateway() as gateway:
        ib = storm.settings_for(gateway, {"client_id_pool": 0}).ib
        async with BrokerSession.connect(ib):
            with pytest.raises(BrokerUnreachable, match="client id 17 is in use"):
                async with BrokerPool.connect(ib, 3):
                    pass


async def test_a_half_open_connection_gives_back_what_it_had_asked() -> None:
    async with storm.gateway() as gateway:
        captured = await storm.capture(
            gateway, storm.contracts(gateway, COUNT), [(0.2, lambda: client(gateway, 1).freeze())], connections=3
        )
        storm.assert_each_once(captured)
        assert captured.failures == []
        assert {outcome.tries for outcome in captured.outcomes} == {1}


async def test_a_cancelled_capture_gives_the_lines_of_all_connections_back() -> None:
    async with storm.gateway(**SLOW_CONNECTIONS | {"latency_ms": (500, 600)}) as gateway:
        task = asyncio.create_task(storm.capture(gateway, storm.contracts(gateway, COUNT), connections=5))
        while gateway.lines.in_use < 30:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.1)
        assert gateway.lines.in_use == 0
        assert gateway.stats.violations == 0


# -- faults of the whole gateway ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", OUTAGES, ids=name)
async def test_what_passes_costs_no_contract_of_a_pool_its_quote(case: tuple[dict[str, Any], set[str]]) -> None:
    fault, outages = case
    async with storm.gateway(messages_per_second=150) as gateway:
        captured = await storm.capture(gateway, storm.contracts(gateway, COUNT), [(0.3, fault)], connections=3)
        storm.assert_each_once(captured)
        assert captured.failures == []
        assert {outage.kind for outage in captured.engine.outages} == outages
        storm.assert_true_quotes(gateway, captured.outcomes)
        assert gateway.stats.violations == 0
        if fault["fault"] != "error":
            assert {outcome.tries for outcome in captured.outcomes} == {1}


OTHER_FAULTS: list[dict[str, Any]] = [
    *({"share": 0.5} | fault for fault in FAULTY_QUOTES),
    {"fault": "silent", "share": 0.1},
    {"fault": "no_permission", "instruments": ["option"]},
    {"fault": "partial_permission", "instruments": ["option"]},
    {"fault": "error", "code": 100, "probability": 0.02, "times": 2},
    {"fault": "error", "code": 101, "probability": 0.05, "times": 3},
    {"fault": "error", "code": 420, "probability": 0.05, "times_each": 1},
    {"fault": "error", "code": 200, "share": 0.2},
    {"fault": "fractional_sizes"},
    {"fault": "odd_lots"},
    {"fault": "advisory"},
    {"fault": "news"},
    {"fault": "unended_download"},
    {"fault": "client_id_stuck", "client_ids": [CLIENT_IDS[1]]},
]


@pytest.mark.parametrize("fault", OTHER_FAULTS, ids=lambda fault: "-".join(map(str, fault.values())))
async def test_every_contract_of_a_pool_ends_once_whatever_happens(
    fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PACING_BACKOFF_S", 0.2)
    async with storm.gateway(messages_per_second=150) as gateway:
        captured = await storm.capture(
            gateway, storm.contracts(gateway, 60), [(0.2, fault)], connections=3, contract_timeout_s=2
        )
        storm.assert_each_once(captured)
        assert captured.engine.unasked == []
        if fault["fault"] not in {
            "partial_permission",
            "stale",
            "crossed",
            "sentinels",
            "one_sided",
            "empty_model",
            "no_model",
        }:
            storm.assert_true_quotes(gateway, captured.outcomes)


async def test_all_connections_go_on_delayed_after_one_refusal() -> None:
    async with storm.gateway(messages_per_second=150) as gateway:
        fault = {"fault": "delayed_only"}
        captured = await storm.capture(gateway, storm.contracts(gateway, COUNT), [(0.1, fault)], connections=4)
        storm.assert_each_once(captured)
        assert captured.failures == []
        kinds = [outcome.quote.market_data_type for outcome in captured.outcomes if outcome.quote]
        assert set(kinds) == {1, 3}
        assert {outcome.tries for outcome in captured.outcomes} == {1}
        assert captured.pool.delayed
        assert all(session.asks_for_delayed for session in captured.pool.sessions)
        storm.assert_true_quotes(gateway, captured.outcomes)


@pytest.mark.parametrize("scenario", sorted(Path("config/scenarios").glob("*.yaml")), ids=lambda path: path.stem)
async def test_a_scenario_costs_no_contract_its_row(scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection faults strike here in the middle of a capture, one after another, for a moment each."""
    monkeypatch.setattr(engine, "PACING_BACKOFF_S", 0.2)
    faults = [
        fault.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"from_", "until", "for_"})
        for fault in load_scenario(scenario).faults
    ]
    lasting = {"connection_lost", "nightly_reset", "farm_down", "socket_drop", "competing_session"}
    always = {"from": "09:00", "until": "16:00"}
    script: list[tuple[float, Any]] = [
        (0.15 * number, fault | always | ({"for": 0.4} if fault["fault"] in lasting else {}))
        for number, fault in enumerate(sorted(faults, key=lambda fault: fault["fault"] in lasting))
    ]
    spread = [(min(share, 0.05 * number), fault) for number, (share, fault) in enumerate(script)]
    async with storm.gateway(messages_per_second=150) as gateway:
        captured = await storm.capture(
            gateway, storm.contracts(gateway, COUNT), spread, connections=4, contract_timeout_s=1
        )
        storm.assert_each_once(captured)
        assert captured.engine.unasked == []
        assert gateway.stats.violations == 0


async def test_the_end_of_the_window_ends_all_connections() -> None:
    async with storm.gateway(messages_per_second=20, latency_ms=(100, 200)) as gateway:
        ends_at = storm.BELL + timedelta(seconds=90)
        captured = await storm.capture(gateway, storm.contracts(gateway, 400), connections=3, ends_at=ends_at, speed=60)
        storm.assert_each_once(captured)
        assert captured.engine.unasked
        assert all(outcome.asof is None or outcome.asof < ends_at for outcome in captured.outcomes)


# -- outages of several connections ------------------------------------------------------------------------------------


def outage(since: float, until: float, kind: Any = "socket") -> PastOutage:
    return PastOutage(kind, storm.BELL + timedelta(seconds=since), since, until)


def test_an_outage_that_several_connections_meet_is_one() -> None:
    first, second = [outage(0, 4), outage(10, 12)], [outage(3, 6), outage(3, 5, "option_farm")]
    assert merged([first, second]) == [
        outage(0, 6),
        outage(3, 5, "option_farm"),
        outage(10, 12),
    ]
    assert merged([first]) == first


def test_what_is_out_of_reach_on_all_connections_counts() -> None:
    assert seconds_on_all([[outage(0, 4), outage(2, 6, "option_farm"), outage(10, 12)]]) == 8
    assert seconds_on_all([[outage(0, 4), outage(10, 12)], [outage(3, 11)]]) == 2
    assert seconds_on_all([[outage(0, 4)], []]) == 0
    for pair in itertools.permutations([[outage(0, 4)], [outage(4, 8)]]):
        assert seconds_on_all(pair) == 0
