"""What users of today's servers report, sent by the simulated gateway: capture goes on, and rows stay true."""

from typing import Any

import pytest

from ingest.broker import BrokerSession
from ingest.errors import BrokerUnreachable
from tests.ingest import storm

ADVISORIES = (2187, 2188, 10349)


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "odd_lots"},
        {"fault": "news"},
        {"fault": "garbage_frame", "kind": "unknown_message"},
        *({"fault": "advisory", "code": code} for code in ADVISORIES),
        *({"fault": "notice", "code": code} for code in ADVISORIES),
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
async def test_what_concerns_no_quote_changes_none(fault: dict[str, Any]) -> None:
    async with storm.gateway() as gateway:
        captured = await storm.capture(gateway, storm.contracts(gateway, 20), [(0, fault)])
        storm.assert_each_once(captured)
        assert captured.failures == []
        storm.assert_true_quotes(gateway, captured.outcomes)


async def test_sizes_with_fractions_cost_no_row() -> None:
    async with storm.gateway() as gateway:
        captured = await storm.capture(gateway, storm.contracts(gateway, 20), [(0, {"fault": "fractional_sizes"})])
        storm.assert_each_once(captured)
        assert captured.failures == []
        quotes = [outcome.quote for outcome in captured.outcomes if outcome.quote is not None]
        assert len(quotes) == len(captured.outcomes)
        for quote in quotes:
            # columns of the lake hold whole contracts
            assert {type(size) for size in (quote.bid_size, quote.ask_size, quote.last_size)} <= {int, type(None)}


async def test_a_time_zone_that_python_does_not_know_is_no_reason_not_to_connect() -> None:
    async with storm.gateway(greeting_zone="China Standard Time") as gateway:
        captured = await storm.capture(gateway, storm.contracts(gateway, 5))
        assert captured.failures == []


async def test_a_server_above_the_client_negotiates_down() -> None:
    """As a Gateway 10.41 does, which speaks up to 226 and answers every client with what that speaks."""
    async with storm.gateway(protocol_versions=(157, 226)) as gateway:
        captured = await storm.capture(gateway, storm.contracts(gateway, 5))
        assert captured.failures == []


async def test_a_server_that_speaks_protobuf_only_is_refused_in_one_line() -> None:
    async with storm.gateway(protocol_versions=(201, 226)) as gateway:
        settings = storm.settings_for(gateway)
        with pytest.raises(BrokerUnreachable) as refused:
            async with BrokerSession.connect(settings.ib.model_copy(update={"connect_timeout_s": 2.0})):
                pass
        assert "\n" not in str(refused.value)
