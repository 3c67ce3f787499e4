"""Requests about contracts: details, option parameters, matching symbols, the exchanges behind letters."""

from datetime import datetime, timedelta
from functools import lru_cache

from ingest.calendar.sessions import NEW_YORK, session_on
from tws_simulator.connections.state import Client
from tws_simulator.history.schedule import extended
from tws_simulator.protocol import codes, messages
from tws_simulator.protocol.details import Hours
from tws_simulator.protocol.messages import message
from tws_simulator.requests.replies import invalid, now, refused
from tws_simulator.worlds.exchanges import SMART_COMPONENTS
from tws_simulator.worlds.instruments import OptionSeries
from tws_simulator.worlds.lookup import CONTRACT_FIELDS, ContractQuery, match

# Exchanges named in answers to reqSecDefOptParams.
_PARAMETER_EXCHANGES = ("SMART", "CBOE", "AMEX")
_MOST_SYMBOL_SAMPLES = 16


def contract_details(client: Client, fields: list[str]) -> None:
    req_id = int(fields[2])
    market_time = now(client)
    terms, identifier = fields[3 : 3 + CONTRACT_FIELDS], fields[4 + CONTRACT_FIELDS : 6 + CONTRACT_FIELDS]
    found = match(client.state.market.world, ContractQuery.parse(terms + identifier), market_time)
    if not found:
        client.error(req_id, codes.NO_SECURITY_DEFINITION, codes.NO_SECURITY_DEFINITION_TEXT)
        return
    if refused(client, req_id, "contract_details", found[0][0]):
        return
    hours = _hours(market_time.astimezone(NEW_YORK).date().toordinal())
    encode = client.encoder.contract_details
    client.send(b"".join([encode(req_id, instrument, exchange, hours) for instrument, exchange in found]))
    client.send(message(52, 1, req_id))


@lru_cache(maxsize=8)
def _hours(ordinal: int) -> Hours:
    """Hours of six days from `ordinal` on, as IB writes them: ``20151224:0930-20151224:1300;20151225:CLOSED``."""
    trading, liquid = [], []
    for day in (datetime.fromordinal(ordinal).date() + timedelta(days=k) for k in range(6)):
        session = session_on(day)
        if session is None:
            trading.append(f"{day:%Y%m%d}:CLOSED")
            liquid.append(f"{day:%Y%m%d}:CLOSED")
        else:
            trading.append(_span(*extended(session)))
            liquid.append(_span(session.open, session.close))
    return Hours(";".join(trading), ";".join(liquid))


def _span(opened: datetime, closed: datetime) -> str:
    return f"{opened.astimezone(NEW_YORK):%Y%m%d:%H%M}-{closed.astimezone(NEW_YORK):%Y%m%d:%H%M}"


def option_parameters(client: Client, fields: list[str]) -> None:
    req_id, symbol, _, sec_type, conid = int(fields[1]), *fields[2:5], int(fields[5] or 0)
    world = client.state.market.world
    underlying = world.underlying(symbol, now(client))
    if underlying is None or underlying.sec_type != sec_type or conid not in (0, underlying.conid):
        client.error(req_id, codes.NO_SECURITY_DEFINITION, codes.NO_SECURITY_DEFINITION_TEXT)
        return
    if refused(client, req_id, "option_parameters", underlying):
        return
    classes: dict[tuple[str, float], list[OptionSeries]] = {}
    for series in world.series(underlying, now(client)):
        classes.setdefault((series.trading_class, series.multiplier), []).append(series)
    for exchange in (one for one in _PARAMETER_EXCHANGES if one in underlying.option_exchanges):
        for listed in classes.values():
            client.send(messages.option_parameters(req_id, exchange, listed))
    client.send(message(76, req_id))


def matching_symbols(client: Client, fields: list[str]) -> None:
    req_id, pattern = int(fields[1]), fields[2].upper()
    found = [one for one in client.state.market.world.underlyings(now(client)) if one.symbol.startswith(pattern)]
    client.send(client.encoder.symbol_samples(req_id, found[:_MOST_SYMBOL_SAMPLES]))


def smart_components(client: Client, fields: list[str]) -> None:
    req_id, key = int(fields[1]), fields[2]
    if key in SMART_COMPONENTS:
        client.send(messages.smart_components(req_id, SMART_COMPONENTS[key]))
    else:
        invalid(
            client, req_id, f"exchange map '{key}' is not known; tick parameters name {', '.join(SMART_COMPONENTS)}"
        )
