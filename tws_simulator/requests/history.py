"""Requests for history: bars, and the first instant of data."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, time

from ingest.calendar.sessions import new_york
from tws_simulator.connections.state import Client
from tws_simulator.history.bars import Bar
from tws_simulator.history.collect import NAMES, check_kind, collect, first_instant
from tws_simulator.history.dates import format_head, format_instant, format_start, in_units_of
from tws_simulator.history.pacing import MOST_OPEN
from tws_simulator.history.request import BadRequest, HistoryRequest, Kind, NoSuchHistory, parse_history, parse_kind
from tws_simulator.history.schedule import ScheduleRequest, is_schedule, parse_schedule, sessions_of
from tws_simulator.protocol import codes, messages
from tws_simulator.protocol.messages import message
from tws_simulator.requests.replies import invalid, now, refused, unique
from tws_simulator.worlds.instruments import Instrument, Option
from tws_simulator.worlds.lookup import CONTRACT_FIELDS, ContractQuery

# Wall-clock seconds between two looks at a bar that is kept up to date.
_UPDATE_SECONDS = 0.5


def historical_data(client: Client, fields: list[str]) -> None:
    if is_schedule(fields):
        _historical_schedule(client, fields)
        return
    req_id, state = int(fields[1]), client.state
    with _as_errors(client, req_id):
        request = parse_history(fields, now(client), state.options.history_steps)
        instrument = unique(client, req_id, request.query)
        if instrument is None or refused(client, req_id, "history", instrument):
            return
        check_kind(instrument, request.kind)
        if not _has_room(client, req_id):
            return
        series = instrument.conid, request.query.exchange, request.kind
        if not state.history.pacing.admit(
            request.identity, series, weight=request.weight, bar_seconds=request.bar_seconds
        ):
            raise NoSuchHistory("Historical data request pacing violation")
        _start(client, req_id, _serve_bars(client, request, instrument))


def _historical_schedule(client: Client, fields: list[str]) -> None:
    req_id = int(fields[1])
    with _as_errors(client, req_id):
        request = parse_schedule(fields, now(client))
        instrument = unique(client, req_id, request.query)
        if instrument is None or refused(client, req_id, "history", instrument):
            return
        if _has_room(client, req_id):
            _start(client, req_id, _serve_schedule(client, request, instrument))


def cancel_historical_data(client: Client, fields: list[str]) -> None:
    req_id = int(fields[2])
    if client.history.cancel(req_id):
        _refuse(client, req_id, f"API historical data query cancelled: {req_id}")
    else:
        client.error(req_id, codes.UNKNOWN_HISTORY, f"No historical data query found for ticker id:{req_id}")


def head_timestamp(client: Client, fields: list[str]) -> None:
    req_id, (kind_text, date_format) = int(fields[1]), fields[-2:]
    with _as_errors(client, req_id):
        instrument = unique(client, req_id, ContractQuery.parse(fields[2 : 2 + CONTRACT_FIELDS]))
        if instrument is None or refused(client, req_id, "history", instrument):
            return
        kind = parse_kind(kind_text)
        check_kind(instrument, kind)
        if _has_room(client, req_id):
            _start(client, req_id, _serve_head(client, req_id, instrument, kind, date_format == "2"))


def cancel_head_timestamp(client: Client, fields: list[str]) -> None:
    """Clients cancel also what has been answered, so there is nothing to complain of."""
    client.history.cancel(int(fields[1]))


@contextmanager
def _as_errors(client: Client, req_id: int) -> Iterator[None]:
    """Send what IB would refuse as its error."""
    try:
        yield
    except BadRequest as reason:
        invalid(client, req_id, str(reason))
    except NoSuchHistory as reason:
        _refuse(client, req_id, str(reason))


def _start(client: Client, req_id: int, work: Coroutine[None, None, None]) -> None:
    client.history.start(req_id, work, lambda: _refuse(client, req_id, "the query failed in the simulated gateway"))


async def _serve_bars(client: Client, request: HistoryRequest, instrument: Instrument) -> None:
    """Answer after a while; what is kept up to date goes on until it is cancelled."""
    await _wait(client)
    version = client.encoder.version
    bars = await collect(client.state.market.world, instrument, request)
    if not bars:
        _refuse(client, request.req_id, _no_data(request, instrument))
        return
    rows = [_row(client, request, instrument, bar) for bar in bars]
    start, end = format_instant(request.start, version), format_instant(request.end, version)
    client.send(messages.historical_bars(request.req_id, start, end, rows))
    while request.keep_up_to_date:
        await asyncio.sleep(_UPDATE_SECONDS)
        bars = await _send_updates(client, request, instrument, bars[-1])


async def _send_updates(client: Client, request: HistoryRequest, instrument: Instrument, last: Bar) -> list[Bar]:
    """Send the bars from `last` on that have changed since; answers with those bars, `last` when nothing is new."""
    begun = last.start if isinstance(last.start, datetime) else new_york(last.start, time())
    market_time = now(client)
    if market_time <= request.end:
        return [last]
    recent = replace(request, start=min(begun, market_time), end=market_time, now=market_time)
    bars = await collect(client.state.market.world, instrument, recent)
    for bar in bars:
        if bar != last:
            client.send(messages.historical_update(request.req_id, *_row(client, request, instrument, bar)))
    return bars or [last]


async def _serve_schedule(client: Client, request: ScheduleRequest, instrument: Instrument) -> None:
    await _wait(client)
    client.send(messages.historical_schedule(request.req_id, sessions_of(request, instrument)))


async def _serve_head(client: Client, req_id: int, instrument: Instrument, kind: Kind, as_seconds: bool) -> None:
    await _wait(client)
    first = await first_instant(client.state.market.world, instrument, kind, now(client))
    if first is None:
        _refuse(client, req_id, "No head time stamp")
    else:
        client.send(message(88, req_id, format_head(first, as_seconds=as_seconds)))


def _row(client: Client, request: HistoryRequest, instrument: Instrument, bar: Bar) -> tuple[str, Bar]:
    version = client.encoder.version
    label = format_start(bar, as_seconds=request.dates_as_seconds, version=version)
    return label, in_units_of(bar, version, stock=not isinstance(instrument, Option))


def _has_room(client: Client, req_id: int) -> bool:
    """Whether one more query may be open, under this id; else the client is told."""
    cause = None
    if req_id in client.history:
        cause = "Duplicate ticker ID for API historical data query"
    elif client.state.history.full:
        cause = f"Only {MOST_OPEN} simultaneous API historical data requests allowed."
    if cause is not None:
        client.error(req_id, codes.PROCESSING_ERROR, f"Error processing request.-'sim' : cause - {cause}")
    return cause is None


def _refuse(client: Client, req_id: int, cause: str) -> None:
    client.error(req_id, codes.HISTORICAL_ERROR, f"Historical Market Data Service error message:{cause}")


def _no_data(request: HistoryRequest, instrument: Instrument) -> str:
    symbol = instrument.local_symbol if isinstance(instrument, Option) else instrument.symbol
    return f"HMDS query returned no data: {symbol}@{request.query.exchange or 'SMART'} {NAMES[request.kind]}"


async def _wait(client: Client) -> None:
    low, high = client.state.options.history_latency_ms
    await asyncio.sleep(client.state.random.uniform(low, high) / 1000)
