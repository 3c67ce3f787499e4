"""What several requests are answered with: refusals, the market's time, the one instrument that a query names."""

from collections.abc import Callable
from datetime import datetime

from tws_simulator.connections.state import Client
from tws_simulator.faults.scenario import Request
from tws_simulator.protocol import codes
from tws_simulator.worlds.instruments import Instrument
from tws_simulator.worlds.lookup import ContractQuery, match

Handler = Callable[[Client, list[str]], None]


def invalid(client: Client, req_id: int, cause: str) -> None:
    """Error 321: the request is not valid, and why."""
    client.error(req_id, codes.VALIDATION_ERROR, f"Error validating request.-'sim' : cause - {cause}")


def refused(client: Client, req_id: int, request: Request, instrument: Instrument) -> bool:
    """Whether a fault takes the place of the answer; the client has been told, or is left without an answer."""
    refusal = client.state.faults.refusal(request, instrument, client.requested_type)
    if refusal is not None and refusal.code is not None:
        client.error(req_id, refusal.code, refusal.text)
    return refusal is not None


def now(client: Client) -> datetime:
    """The market's time."""
    return client.state.market.clock.now()


def unique(client: Client, req_id: int, query: ContractQuery) -> Instrument | None:
    """The one instrument that `query` describes; else the client is told and the answer is None."""
    found = {instrument.conid: instrument for instrument, _ in match(client.state.market.world, query, now(client))}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        text = f"The contract description specified for {query.symbol} is ambiguous."
        client.error(req_id, codes.NO_SECURITY_DEFINITION, text)
    else:
        client.error(req_id, codes.NO_SECURITY_DEFINITION, codes.NO_SECURITY_DEFINITION_TEXT)
    return None
