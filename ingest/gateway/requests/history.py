"""Requests for history: bars, and the first day of data."""

from typing import TYPE_CHECKING

from ingest.gateway import codes, messages
from ingest.gateway.history import FIRST_DAY, BadRequest, format_first_instant, parse_history
from ingest.gateway.lookup import CONTRACT_FIELDS, ContractQuery
from ingest.gateway.messages import message
from ingest.gateway.requests.replies import invalid, now, unique
from ingest.sessions import NEW_YORK

if TYPE_CHECKING:
    from ingest.gateway.connection import ClientConnection


def historical_data(client: "ClientConnection", fields: list[str]) -> None:
    req_id = int(fields[1])
    try:
        request = parse_history(fields, now(client))
    except BadRequest as reason:
        invalid(client, req_id, str(reason))
        return
    instrument = unique(client, req_id, request.query)
    if instrument is None:
        return
    bars = client.state.market.world.daily_bars(instrument, request.what, request.first, request.end)
    if not bars:
        text = f"Historical Market Data Service error message:HMDS query returned no data: {request.query.symbol}"
        client.error(req_id, codes.HISTORICAL_ERROR, text)
        return
    end = request.end.astimezone(NEW_YORK)
    client.send(
        messages.historical_bars(
            req_id,
            f"{request.first:%Y%m%d}  00:00:00",
            f"{end:%Y%m%d  %H:%M:%S}",
            ((f"{bar.day:%Y%m%d}", bar) for bar in bars),
        )
    )


def head_timestamp(client: "ClientConnection", fields: list[str]) -> None:
    req_id = int(fields[1])
    instrument = unique(client, req_id, ContractQuery.parse(fields[2 : 2 + CONTRACT_FIELDS]))
    if instrument is None:
        return
    market_time = now(client)
    bars = client.state.market.world.daily_bars(instrument, "MIDPOINT", FIRST_DAY, market_time)
    if not bars:
        client.error(req_id, codes.HISTORICAL_ERROR, "Historical Market Data Service error message:No head time stamp")
        return
    client.send(message(88, req_id, format_first_instant(bars[0].day, fields[-1])))
