"""Requests that calculate: a volatility out of an option's price, a price out of a volatility."""

from tws_simulator.connections.state import Client
from tws_simulator.protocol.messages import tick_option_computation
from tws_simulator.protocol.wire import frame
from tws_simulator.requests.replies import invalid, now, unique
from tws_simulator.worlds.calculator import Valued, at_price, at_volatility
from tws_simulator.worlds.instruments import Option
from tws_simulator.worlds.lookup import CONTRACT_FIELDS, ContractQuery
from tws_simulator.worlds.world import Model, ModelSettings

# The tick type of a calculation that was asked for (CUST_OPTION_COMPUTATION).
_CALCULATED = 53


def implied_volatility(client: Client, fields: list[str]) -> None:
    req_id, price, spot = _arguments(fields)
    if (valued := _valued(client, req_id, fields, spot)) is not None:
        _send(client, req_id, at_price(valued, price))


def option_price(client: Client, fields: list[str]) -> None:
    req_id, volatility, spot = _arguments(fields)
    if (valued := _valued(client, req_id, fields, spot)) is not None:
        _send(client, req_id, at_volatility(valued, volatility))


def _arguments(fields: list[str]) -> tuple[int, float, float]:
    """The id, what to calculate from, and the price of the underlying."""
    return int(fields[2]), float(fields[3 + CONTRACT_FIELDS]), float(fields[4 + CONTRACT_FIELDS])


def _valued(client: Client, req_id: int, fields: list[str], spot: float) -> Valued | None:
    """The option that is meant, as it stands now; None when the client has been told why there is none."""
    instrument = unique(client, req_id, ContractQuery.parse(fields[3 : 3 + CONTRACT_FIELDS]))
    if instrument is None:
        return None
    if not isinstance(instrument, Option):
        invalid(client, req_id, "only options are calculated")
        return None
    options, world = client.state.options, client.state.market.world
    settings = ModelSettings(options.rate, options.dividend_yield)
    return Valued(instrument, spot, world.years_left(instrument, now(client)), settings)


def _send(client: Client, req_id: int, model: Model) -> None:
    client.send(frame(tick_option_computation(req_id, _CALCULATED, model)))
