"""Dates of bars as clients read them. Pure.

Protocol version 174 brought the time zone into the texts of instants, 175 volumes of stocks in shares; before, they
were lots of 100 (names of the versions in IB's published clients).
"""

from datetime import datetime

from ingest.calendar.sessions import NEW_YORK
from tws_simulator.history.bars import NO_VOLUME, Bar

_ZONES_FROM, _SHARES_FROM = 174, 175
_LOT = 100


def format_instant(instant: datetime, version: int) -> str:
    """On New York clocks: ``20151224 09:30:00 US/Eastern``; below version 174 two blanks and no zone."""
    local = instant.astimezone(NEW_YORK)
    return f"{local:%Y%m%d %H:%M:%S} US/Eastern" if version >= _ZONES_FROM else f"{local:%Y%m%d  %H:%M:%S}"


def format_start(bar: Bar, *, as_seconds: bool, version: int) -> str:
    """The date of a bar, in format 2 as seconds since 1970. Daily and longer bars have a date in either format."""
    if not isinstance(bar.start, datetime):
        return f"{bar.start:%Y%m%d}"
    return str(int(bar.start.timestamp())) if as_seconds else format_instant(bar.start, version)


def format_head(instant: datetime, *, as_seconds: bool) -> str:
    """A head time stamp: seconds since 1970 in format 2, else UTC as ``20050103-14:30:00``."""
    return str(int(instant.timestamp())) if as_seconds else f"{instant:%Y%m%d-%H:%M:%S}"


def in_units_of(bar: Bar, version: int, *, stock: bool) -> Bar:
    """The bar with its volume in shares, or in lots where the version has them so."""
    if not stock or version >= _SHARES_FROM or bar.volume == NO_VOLUME:
        return bar
    return bar._replace(volume=bar.volume // _LOT)
