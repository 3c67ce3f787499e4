"""Historical requests: daily bars and the first day of data."""

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ingest.gateway.lookup import CONTRACT_FIELDS, ContractQuery
from ingest.sessions import NEW_YORK, UTC, previous_session, session_on

BAR_KINDS = ("TRADES", "MIDPOINT")
FIRST_DAY = date(2005, 1, 3)
_INSTANT = re.compile(r"(\d{8})[ -]+(\d\d:\d\d:\d\d)(?: +(\S+))?$")
_DURATION = re.compile(r"(\d+) +([DWMY])$")
_DAYS = {"W": 7, "M": 31, "Y": 366}
_MOST_DAYS = 366 * 5


class BadRequest(ValueError):
    """A request that IB would refuse with error 321; the message says why."""


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """A request for daily bars; `first` is the first session wanted, `end` the last instant."""

    req_id: int
    query: ContractQuery
    what: str
    first: date
    end: datetime


def parse_history(fields: list[str], now: datetime) -> HistoryRequest:
    """From the fields of message 20. Raises `BadRequest` for what this gateway does not serve."""
    req_id, query = int(fields[1]), ContractQuery.parse(fields[2 : 2 + CONTRACT_FIELDS])
    _, end_text, bar_size, duration, _, what, *_ = fields[2 + CONTRACT_FIELDS :]
    keep_up_to_date = fields[-2] == "1"
    if bar_size not in ("1 day", "1D"):
        raise BadRequest(f"bar size '{bar_size}': the simulated gateway serves '1 day'")
    if what not in BAR_KINDS:
        raise BadRequest(f"'{what}' bars: the simulated gateway serves {' and '.join(BAR_KINDS)}")
    if keep_up_to_date:
        raise BadRequest("keepUpToDate: the simulated gateway serves finished requests only")
    end = min(_parse_instant(end_text), now) if end_text else now
    return HistoryRequest(req_id, query, what, _first_session(end, duration), end)


def format_first_instant(day: date, format_date: str) -> str:
    """The open of `day` as text (format 1) or seconds since 1970 (format 2)."""
    session = session_on(day)
    opened = session.open if session is not None else datetime.combine(day, time(), UTC)
    return str(int(opened.timestamp())) if format_date == "2" else f"{opened:%Y%m%d-%H:%M:%S}"


def _parse_instant(text: str) -> datetime:
    found = _INSTANT.match(text.strip())
    if found is None:
        raise BadRequest(f"end '{text}': write it as 20151224 13:00:00 US/Eastern, or 20151224-18:00:00 in UTC")
    day, clock, zone_name = found.groups()
    try:
        zone = ZoneInfo(zone_name) if zone_name else (UTC if "-" in text else NEW_YORK)
        return datetime.strptime(f"{day} {clock}", "%Y%m%d %H:%M:%S").replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, ZoneInfoNotFoundError):
        raise BadRequest(f"end '{text}' is no instant") from None


def _first_session(end: datetime, duration: str) -> date:
    """`n D` is the n last sessions; weeks, months and years count calendar days."""
    found = _DURATION.match(duration.strip())
    if found is None:
        raise BadRequest(f"duration '{duration}': write it as '5 D', '2 W', '3 M' or '1 Y'")
    count, unit = int(found[1]), found[2]
    last = end.astimezone(NEW_YORK).date()
    if count * _DAYS.get(unit, 1) > _MOST_DAYS:
        raise BadRequest(f"duration '{duration}' is longer than five years")
    if unit != "D":
        return last - timedelta(days=count * _DAYS[unit] - 1)
    started = session_on(last)
    first = last if started is not None and started.open < end else previous_session(last).trade_date
    for _ in range(count - 1):
        first = previous_session(first).trade_date
    return first
