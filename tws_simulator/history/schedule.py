"""Sessions instead of bars: historical data of SCHEDULE. Pure.

Stocks trade from 04:00 to 20:00 New York, on days of an early close to 17:00 (NYSE Arca, hours and calendars); options
and indexes within the session.
"""

from dataclasses import dataclass
from datetime import datetime, time

from ingest.calendar.sessions import NEW_YORK, Session, new_york, sessions_between
from tws_simulator.history.request import BadRequest, parse_duration, parse_instant, start_of
from tws_simulator.worlds.instruments import Instrument, Option
from tws_simulator.worlds.lookup import CONTRACT_FIELDS, ContractQuery

KIND = "SCHEDULE"
_FIRST, _LAST, _LAST_EARLY = time(4), time(20), time(17)
_FULL_CLOSE = time(16)
# Fields after the contract's: what stands there is the kind of bars.
_KIND_AT = 2 + CONTRACT_FIELDS + 5


@dataclass(frozen=True, slots=True)
class ScheduleRequest:
    """A request for the sessions that begin in [``start``, ``end``), UTC; ``regular``: within regular hours only."""

    req_id: int
    query: ContractQuery
    start: datetime
    end: datetime
    regular: bool


def is_schedule(fields: list[str]) -> bool:
    """Whether message 20 asks for sessions."""
    return fields[_KIND_AT] == KIND


def parse_schedule(fields: list[str], now: datetime) -> ScheduleRequest:
    """From the fields of message 20; `now` is the market's time. Raises `BadRequest`."""
    query = ContractQuery.parse(fields[2 : 2 + CONTRACT_FIELDS])
    _, end_text, size, duration, regular, *_ = fields[2 + CONTRACT_FIELDS :]
    if size not in ("1 day", "1D"):
        raise BadRequest(f"{KIND} needs a bar size of 1 day, not '{size}'")
    end = min(parse_instant(end_text), now) if end_text else now
    return ScheduleRequest(int(fields[1]), query, start_of(end, *parse_duration(duration)), end, regular == "1")


def sessions_of(request: ScheduleRequest, instrument: Instrument) -> list[tuple[datetime, datetime]]:
    """Open and close of every session, in order."""
    first, last = (instant.astimezone(NEW_YORK).date() for instant in (request.start, request.end))
    regular = request.regular or isinstance(instrument, Option) or instrument.is_index
    found = [(one.open, one.close) if regular else extended(one) for one in sessions_between(first, last)]
    return [hours for hours in found if hours[0] < request.end]


def extended(session: Session) -> tuple[datetime, datetime]:
    """First and last instant at which stocks trade on the date of `session`."""
    early = session.close.astimezone(NEW_YORK).time() < _FULL_CLOSE
    day = session.trade_date
    return new_york(day, _FIRST), new_york(day, _LAST_EARLY if early else _LAST)
