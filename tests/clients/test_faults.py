"""Faults: what each client reports of them, and what becomes of its subscriptions and its connection."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import GENEROUS, RECORDED_OPEN, STANDING, Connect
from driver import Client, Subscription, Terms
from expected import expected
from gateway import Gateway, parquet_of

CALL = Terms("AAPL", "OPT", "20261218", 100, "C")
PUT = Terms("AAPL", "OPT", "20261218", 100, "P")
NEW_QUOTES = "2026-11-20T20:00:00Z"
SILENCE_SECONDS = 0.4


@pytest.fixture(scope="module")
def faulty_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    here = Path(__file__).parent
    day = parquet_of(here / "recorded_day.csv", tmp_path_factory.mktemp("days"))
    scenario = ("--scenario", str(here / "outages.yaml"))
    with Gateway("--replay", str(day), *scenario, "--at", RECORDED_OPEN, *STANDING, *GENEROUS) as gateway:
        yield gateway


@pytest.fixture
def outages(faulty_gateway: Gateway) -> Gateway:
    """The recorded day with the outages of outages.yaml, before the first."""
    faulty_gateway.set_clock(RECORDED_OPEN)
    return faulty_gateway


@pytest.fixture
def faulty(recorded: Gateway) -> Iterator[Gateway]:
    """The recorded day, and faults that a test adds."""
    yield recorded
    recorded.control(op="clear")


def qualified(client: Client, terms: Terms) -> Terms:
    (found,) = client.qualify([terms])
    assert found is not None
    return found


def stream(client: Client, terms: Terms = CALL) -> Subscription:
    subscription = client.subscribe(qualified(client, terms), "101")
    client.wait(lambda: subscription.quote.call_open_interest is not None)
    return subscription


def codes(client: Client) -> list[int]:
    """The codes that concern no request, in order."""
    return client.codes_of(-1)


# -- outages -----------------------------------------------------------------------------------------------------------


def test_after_1102_subscriptions_go_on(outages: Gateway, connect: Connect) -> None:
    client = connect(outages)
    subscription = stream(client)
    outages.set_clock("2026-11-20T16:00:00Z")
    client.wait(lambda: codes(client)[-1] == 1100)
    outages.set_clock("2026-11-20T16:05:00Z")
    client.wait(lambda: codes(client)[-1] == 1102)
    outages.set_clock(NEW_QUOTES)
    client.wait(lambda: subscription.quote.bid == 4.0)
    assert client.connected


def test_after_1101_one_has_to_subscribe_again(outages: Gateway, connect: Connect) -> None:
    client = connect(outages)
    lost = stream(client)
    outages.set_clock("2026-11-20T17:00:00Z")
    client.wait(lambda: codes(client)[-1] == 1100)
    outages.set_clock("2026-11-20T17:05:00Z")
    client.wait(lambda: codes(client)[-1] == 1101)
    outages.set_clock(NEW_QUOTES)
    client.pause(SILENCE_SECONDS)
    assert lost.quote.bid == 3.2
    again = connect(outages)
    assert stream(again).quote.bid == 4.0


def test_a_farm_that_is_down_is_reported_as_2103_and_2104_when_it_is_back(outages: Gateway, connect: Connect) -> None:
    client = connect(outages)
    subscription = stream(client)
    outages.set_clock("2026-11-20T18:00:00Z")
    client.wait(lambda: codes(client)[-1] == 2103)
    assert client.reports[-1].text.endswith(":usopt")
    outages.set_clock("2026-11-20T18:05:00Z")
    client.wait(lambda: codes(client)[-1] == 2104)
    outages.set_clock(NEW_QUOTES)
    client.wait(lambda: subscription.quote.bid == 4.0)


def test_an_error_on_some_contracts_for_a_time(outages: Gateway, connect: Connect) -> None:
    client = connect(outages)
    outages.set_clock("2026-11-20T19:00:00Z")
    put = client.subscribe(qualified(client, PUT))
    client.wait(lambda: client.codes_of(put.req_id) == [354])
    assert stream(client, CALL).quote.ask == 3.4
    outages.set_clock("2026-11-20T19:05:00Z")
    assert stream(client, PUT).quote.ask == 3.3


def test_a_socket_that_drops_is_noticed_and_the_client_can_come_back(faulty: Gateway, connect: Connect) -> None:
    client = connect(faulty)
    stream(client)
    faulty.fault("socket_drop")
    client.wait(lambda: not client.connected)
    faulty.control(op="clear")
    assert stream(connect(faulty)).quote.bid == 3.2


def test_a_socket_that_is_half_open_is_silent_and_reset_in_the_end(faulty: Gateway, connect: Connect) -> None:
    client = connect(faulty)
    subscription = stream(client)
    faulty.fault("half_open", **{"for": 1.0})
    faulty.set_clock(NEW_QUOTES)
    client.pause(SILENCE_SECONDS)
    assert client.connected
    assert subscription.quote.bid == 3.2
    client.wait(lambda: not client.connected, 3.0)


def test_a_notice_concerns_no_request(faulty: Gateway, connect: Connect) -> None:
    client = connect(faulty)
    faulty.fault("notice", code=1300, message="TWS socket port has been reset")
    client.wait(client.errors)
    (report,) = client.errors()
    assert (report.req_id, report.code, report.text) == (-1, 1300, "TWS socket port has been reset")


# -- permissions -------------------------------------------------------------------------------------------------------


def test_without_permission_live_data_are_refused_with_354_and_delayed_ones_announced(
    faulty: Gateway, connect: Connect
) -> None:
    client = connect(faulty)
    contract = qualified(client, CALL)
    faulty.fault("delayed_only")
    refused = client.subscribe(contract)
    client.wait(lambda: client.codes_of(refused.req_id) == [354])
    client.pause(SILENCE_SECONDS)
    assert refused.updates == 0
    client.market_data_type(3)
    delayed = client.subscribe(qualified(client, PUT))
    client.wait(lambda: delayed.quote.model is not None)
    assert client.codes_of(delayed.req_id) == [10167]
    assert (delayed.quote.bid, delayed.quote.data_type) == (3.1, 3)
    assert {66, 67, 68} <= delayed.tick_types


def test_without_any_permission_delayed_data_are_refused_with_10168(faulty: Gateway, connect: Connect) -> None:
    client = connect(faulty)
    contract = qualified(client, CALL)
    faulty.fault("no_permission")
    client.market_data_type(3)
    refused = client.subscribe(contract)
    client.wait(lambda: client.codes_of(refused.req_id) == [10168])
    assert refused.updates == 0


def test_a_competing_session_is_reported_as_10197_for_each_live_request(faulty: Gateway, connect: Connect) -> None:
    client = connect(faulty)
    running, contract = stream(client, CALL), qualified(client, PUT)
    faulty.fault("competing_session")
    client.wait(lambda: client.codes_of(running.req_id) == [10197])
    refused = client.subscribe(contract)
    client.wait(lambda: client.codes_of(refused.req_id) == [10197])
    assert refused.updates == 0


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [354, 420, 10089, 10090])
def test_an_error_is_reported_under_the_id_of_its_request(faulty: Gateway, connect: Connect, code: int) -> None:
    client = connect(faulty)
    contract = qualified(client, CALL)
    faulty.fault("error", code=code, message="as it is written", symbols=["AAPL"])
    refused = client.subscribe(contract)
    client.wait(lambda: client.codes_of(refused.req_id) == [code])
    assert client.reports_of(refused.req_id)[0].text == "as it is written"


def test_the_first_attempt_fails_and_the_second_succeeds(faulty: Gateway, connect: Connect) -> None:
    client = connect(faulty)
    contract = qualified(client, CALL)
    faulty.fault("error", code=200, times_each=1)
    refused = client.subscribe(contract)
    client.wait(lambda: client.codes_of(refused.req_id) == [200])
    client.cancel(refused)
    assert stream(client, CALL).quote.bid == 3.2


def test_history_can_fail_alone(faulty: Gateway, connect: Connect) -> None:
    client = connect(faulty)
    contract = qualified(client, CALL)
    faulty.fault("error", code=162, requests=["history"])
    answer = client.bars(contract, "MIDPOINT", duration="1 D")
    assert (answer.rows, client.codes_of(answer.req_id)) == ([], [162])
    assert stream(client, CALL).quote.bid == 3.2


# -- ticks -------------------------------------------------------------------------------------------------------------


def test_a_silent_contract(faulty: Gateway, connect: Connect) -> None:
    client = connect(faulty)
    contract = qualified(client, CALL)
    faulty.fault("silent", rights=["C"])
    silent = client.subscribe(contract, "101")
    assert stream(client, PUT).quote.bid == 3.1
    client.pause(SILENCE_SECONDS)
    assert (silent.updates, client.errors()) == (0, [])


def test_a_slow_contract(faulty: Gateway, connect: Connect) -> None:
    client = connect(faulty)
    contract = qualified(client, CALL)
    faulty.fault("slow", seconds=1.0)
    slow = client.subscribe(contract)
    assert not client.wait_if(lambda: slow.quote.bid is not None, 0.8)
    client.wait(lambda: slow.quote.bid == 3.2, 2.0)


def test_a_side_that_never_comes(faulty: Gateway, connect: Connect) -> None:
    client = connect(faulty)
    faulty.fault("one_sided", side="ask")
    quote = stream(client).quote
    assert (quote.bid, quote.ask) == (None, 3.4)


def test_a_model_without_values_before_the_true_one(faulty: Gateway, connect: Connect) -> None:
    client = connect(faulty)
    contract = qualified(client, CALL)
    faulty.fault("empty_model", seconds=0.5)
    subscription = client.subscribe(contract)
    client.wait(lambda: subscription.quote.model is not None)
    assert subscription.quote.model == expected().not_computed
    client.wait(lambda: subscription.quote.model != expected().not_computed)
    model = subscription.quote.model
    assert model is not None
    assert 0 < (model.iv or 0) < 3


def test_a_model_that_never_comes(faulty: Gateway, connect: Connect) -> None:
    client = connect(faulty)
    faulty.fault("no_model")
    subscription = stream(client)
    client.pause(SILENCE_SECONDS)
    assert (subscription.quote.bid, subscription.quote.model) == (3.2, None)


def test_a_model_that_is_not_computed(faulty: Gateway, connect: Connect) -> None:
    client = connect(faulty)
    faulty.fault("sentinels", kind="not_computed")
    assert stream(client).quote.model == expected().not_computed


def test_bid_and_ask_of_zero(faulty: Gateway, connect: Connect) -> None:
    client = connect(faulty)
    faulty.fault("sentinels", kind="zero")
    quote = stream(client).quote
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == (expected().nothing, 0, expected().nothing, 0)


@pytest.mark.parametrize(("by", "bid"), [(0.05, 3.45), (0, 3.4)], ids=["crossed", "locked"])
def test_a_crossed_market(faulty: Gateway, connect: Connect, by: float, bid: float) -> None:
    client = connect(faulty)
    faulty.fault("crossed", by=by)
    quote = stream(client).quote
    assert (quote.bid, quote.ask) == (pytest.approx(bid), 3.4)


def test_ticks_in_the_wrong_order(faulty: Gateway, connect: Connect) -> None:
    client = connect(faulty)
    contract = qualified(client, CALL)
    faulty.fault("wrong_order")
    subscription = client.subscribe(contract, "101")
    client.wait(lambda: subscription.quote.bid is not None)
    quote = subscription.quote
    assert (quote.bid, quote.ask, quote.data_type, quote.call_open_interest) == (3.2, 3.4, 1, 1200)


# -- frames ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unknown_message", "short", "binary", "endless"])
def test_a_broken_frame(faulty: Gateway, connect: Connect, kind: str) -> None:
    client = connect(faulty)
    subscription = stream(client)
    faulty.fault("garbage_frame", kind=kind)
    client.pause(SILENCE_SECONDS)
    faulty.set_clock(NEW_QUOTES)
    heard = client.wait_if(lambda: subscription.quote.bid == 4.0, 2 * SILENCE_SECONDS)
    outcome = "ends" if not client.connected else "goes on" if heard else "hears no more"
    client.misunderstood.clear()
    assert outcome == expected().after_garbage[kind]
