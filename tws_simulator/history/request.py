"""What a client asks for: bar sizes, durations, instants. Pure.

Sizes, units and the table of durations against sizes: TWS API, historical bar data and historical data limitations.
"""

import calendar
import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ingest.calendar.sessions import NEW_YORK, UTC, Session, new_york, previous_session, session_on
from tws_simulator.history.bars import Size
from tws_simulator.worlds.lookup import CONTRACT_FIELDS, ContractQuery

Kind = Literal[
    "TRADES", "MIDPOINT", "BID", "ASK", "BID_ASK", "HISTORICAL_VOLATILITY", "OPTION_IMPLIED_VOLATILITY"
]  # fmt: skip
StepRule = Literal["small", "all"]

_SECONDS = {"1 secs": 1, "5 secs": 5, "10 secs": 10, "15 secs": 15, "30 secs": 30, "1 min": 60}
_SECONDS |= {f"{count} mins": count * 60 for count in (2, 3, 5, 10, 15, 20, 30)}
_SECONDS |= {"1 hour": 3600} | {f"{count} hours": count * 3600 for count in (2, 3, 4, 8)}
BAR_SIZES: dict[str, Size] = {**_SECONDS, "1 day": "day", "1 week": "week", "1 month": "month"}
_SHORT_NAMES: dict[str, Size] = {"1D": "day", "1W": "week", "1M": "month"}
_LONGER: dict[Size, int] = {"day": 86_400, "week": 7 * 86_400, "month": 28 * 86_400}

# Durations up to which bars may be this small, seconds: (duration, smallest bar). A day counts 86,400 seconds.
_STEPS = (
    (1800, 1), (3600, 5), (14_400, 10), (28_800, 30), (86_400, 60), (2 * 86_400, 120), (7 * 86_400, 180),
    (31 * 86_400, 1800),
)  # fmt: skip
_LARGEST_STEP = 86_400
# A request of a year of bars of a minute would have 98,000; IB speaks of "a few thousand".
_MOST_BARS = 20_000
_SMALLEST_KEPT = 5
_YEARS = range(1970, 2101)
_UNIT_DAYS = {"D": 1, "W": 7, "M": 31, "Y": 366}
_DURATION = re.compile(r"(\d{1,6}) *([SDWMY]?)$")
_INSTANT = re.compile(r"(\d{8})[ -]+(\d\d:\d\d:\d\d)(?: +(\S+))?$")


class BadRequest(ValueError):
    """A request that IB would refuse with error 321; the message says why."""


class NoSuchHistory(ValueError):
    """A request that IB's history service would refuse with error 162; the message says why."""


class BarType(NamedTuple):
    """Which bars: of what (trades, bids, ...), and how long each is."""

    kind: Kind
    size: Size


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """A request for bars that begin in [``start``, ``end``), made of what is known at ``end``; UTC.

    ``now``: the market's time, in whose shares prices are told. ``identity`` tells two requests apart, whatever their
    ids. ``dates_as_seconds``: format 2.
    """

    req_id: int
    query: ContractQuery
    kind: Kind
    size: Size
    start: datetime
    end: datetime
    now: datetime
    dates_as_seconds: bool
    keep_up_to_date: bool
    identity: tuple[str, ...]

    @property
    def bars(self) -> BarType:
        """Which bars are asked for."""
        return BarType(self.kind, self.size)

    @property
    def bar_seconds(self) -> int:
        """The length of a bar on the clock."""
        return seconds_of(self.size)

    @property
    def weight(self) -> int:
        """How often it counts: the history service is asked for bids and for asks."""
        return 2 if self.kind == "BID_ASK" else 1


def seconds_of(size: Size) -> int:
    """The length of a bar on the clock, a month as its shortest."""
    return size if isinstance(size, int) else _LONGER[size]


def parse_history(fields: list[str], now: datetime, steps: StepRule = "small") -> HistoryRequest:
    """From the fields of message 20; `now` is the market's time, `steps` which bars the table of step sizes is for.

    Raises `BadRequest` and `NoSuchHistory`.
    """
    req_id, query = int(fields[1]), ContractQuery.parse(fields[2 : 2 + CONTRACT_FIELDS])
    _, end_text, size_text, duration, _, kind_text, date_format, *_ = fields[2 + CONTRACT_FIELDS :]
    size = BAR_SIZES.get(size_text, _SHORT_NAMES.get(size_text))
    if size is None:
        raise BadRequest(
            f"Historical data bar size setting is invalid. Legal ones are: {', '.join(BAR_SIZES)}, not '{size_text}'"
        )
    kept = fields[-2] == "1"
    if kept and (end_text or seconds_of(size) < _SMALLEST_KEPT):
        raise BadRequest("keepUpToDate needs an empty end and bars of at least 5 secs")
    end = min(parse_instant(end_text), now) if end_text else now
    count, unit = parse_duration(duration)
    _check_steps(count, unit, size, steps)
    start = start_of(end, count, unit)
    return HistoryRequest(
        req_id, query, parse_kind(kind_text), size, start, end, now, date_format == "2", kept, tuple(fields[2:])
    )


def parse_kind(text: str) -> Kind:
    """The kind of bars. Raises `BadRequest`."""
    for kind in get_args(Kind):
        if kind == text:
            return kind  # type: ignore[no-any-return]
    raise BadRequest(f"'{text}' is not served by the simulated gateway; use one of {', '.join(get_args(Kind))}")


def parse_instant(text: str) -> datetime:
    """``20151224 13:00:00 US/Eastern``, ``20151224-18:00:00`` in UTC, or without a zone New York's. `BadRequest`."""
    found = _INSTANT.match(text.strip())
    if found is None:
        raise BadRequest(
            f"Historical data query end date/time string [{text}] is invalid; write it as "
            "20151224 13:00:00 US/Eastern, or as 20151224-18:00:00 in UTC"
        )
    day, clock, zone_name = found.groups()
    try:
        zone = ZoneInfo(zone_name) if zone_name else (UTC if "-" in text else NEW_YORK)
        instant = datetime.strptime(f"{day} {clock}", "%Y%m%d %H:%M:%S").replace(tzinfo=zone)
        if instant.year not in _YEARS:
            raise ValueError(day)
        return instant.astimezone(UTC)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise BadRequest(f"Historical data query end date/time string [{text}] is no instant") from None


def parse_duration(text: str) -> tuple[int, str]:
    """Count and unit (S, D, W, M, Y) of a duration. Raises `BadRequest`."""
    found = _DURATION.match(text.strip())
    if found is None or not int(found[1]):
        raise BadRequest(f"duration '{text}': write it as '3600 S', '5 D', '2 W', '3 M' or '1 Y'")
    count, unit = int(found[1]), found[2] or "S"
    if unit == "S" and count > 86_400:
        raise BadRequest("Historical data requests for durations longer than 86400 seconds must be made in days.")
    for days, most, name in (("D", 365, "365 days"), ("W", 52, "52 weeks"), ("M", 12, "12 months")):
        if unit == days and count > most:
            raise BadRequest(f"Historical data requests for durations longer than {name} must be made in years.")
    if unit == "Y" and count > 100:
        raise BadRequest(f"duration '{text}' is longer than any history")
    return count, unit


def _check_steps(count: int, unit: str, size: Size, steps: StepRule) -> None:
    seconds = count if unit == "S" else count * _UNIT_DAYS[unit] * 86_400
    bar = seconds_of(size)
    smallest = next((bar for longest, bar in _STEPS if seconds <= longest), _LARGEST_STEP)
    if bar > seconds or (bar < smallest and (steps == "all" or bar < 60)):
        raise NoSuchHistory(f"invalid step: {bar}")
    sessions = max(seconds / 86_400 * 252 / 366, 1)
    if bar < 86_400 and min(seconds, 23_400) / bar * sessions > _MOST_BARS:
        raise NoSuchHistory("Time length exceed max.")


def start_of(end: datetime, count: int, unit: str) -> datetime:
    """Where a duration up to `end` begins.

    `S` counts seconds in which the market is open, `D` sessions, `W`, `M` and `Y` the calendar.
    """
    if unit in "WMY":
        last = end.astimezone(NEW_YORK).date()
        months = count * (12 if unit == "Y" else 1)
        before = last - timedelta(days=7 * count) if unit == "W" else _months_before(last, months)
        return new_york(before + timedelta(days=1), time())
    session = _session_at(end)
    if unit == "D":
        for _ in range(count - 1):
            session = previous_session(session.trade_date)
        return session.open
    left = timedelta(seconds=count)
    until = min(end, session.close)
    while until - session.open < left:
        left -= until - session.open
        session = previous_session(session.trade_date)
        until = session.close
    return until - left


def _session_at(end: datetime) -> Session:
    """The latest session that has begun before `end`."""
    day = end.astimezone(NEW_YORK).date()
    today = session_on(day)
    return today if today is not None and today.open < end else previous_session(day)


def _months_before(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))
