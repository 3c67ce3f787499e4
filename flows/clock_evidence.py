"""Whether the host's clock can be right, from what the lake has recorded: deletions are not undone, nor publications.

A clock that has jumped ahead makes every date look old. A lake that has recorded nothing for long looks the same, so
that a person may say that the clock is right.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from ingest.calendar.sessions import NEW_YORK
from ingest.errors import UsageError
from lake.catalog.as_of import ON_MARKET_CLOCK
from lake.reads import reader
from lake.store import Lake
from lake.tables import SESSIONS

# XNYS was last closed for longer in 1914.
LEAD = timedelta(days=14)


class ClockRefused(UsageError):
    """The clock contradicts what the lake has recorded."""


def newest_session(lake: Lake) -> date | None:
    """The last trade date that was recorded or published; None in an empty lake."""
    with reader(lake) as reads:
        published = reads.rows("ops/published", columns="trade_date")
        return max(filter(None, [reads.latest_date(), *(row["trade_date"] for row in published)]), default=None)


def newest_recording(lake: Lake) -> date | None:
    """The day on which the last session was recorded: of a market clock, the host's day at which it was written."""
    if lake.origin not in ON_MARKET_CLOCK:
        return newest_session(lake)
    written = lake.last_commit_at(SESSIONS.name)
    return written.astimezone(NEW_YORK).date() if written else None


def require_evidence(lake: Lake, now: datetime, newest: date | None, command: str) -> None:
    """Raise ClockRefused when `now` is more than two weeks after `newest`; `command` is what was not done."""
    today = now.astimezone(NEW_YORK).date()
    if newest is not None and today - newest > LEAD:
        raise ClockRefused(
            f"the clock says {today}, {(today - newest).days:,} days after the last that {lake.root} has recorded "
            f"({newest}), so nothing was done: set the host's clock, or, if it is right, run "
            f"`chainlake {command} --clock-is-right`"
        )


def require_publishable(lake: Lake, dates: Sequence[date], now: datetime) -> None:
    """Raise ClockRefused for a date that `now` has not reached, or that has been published later than `now`.

    A market clock is set back whenever a day is run again: there the order of publications says nothing.
    """
    today = now.astimezone(NEW_YORK).date()
    if ahead := [day for day in dates if day > today]:
        raise ClockRefused(f"{ahead[0]} lies in the future (it is {today} in New York): nothing was built")
    if not dates or lake.origin in ON_MARKET_CLOCK:
        return
    with reader(lake) as reads:
        later = reads.rows(
            "ops/published",
            "trade_date in $dates and published_at > $now order by published_at desc limit 1",
            dates=list(dates),
            now=now,
        )
    if later:
        raise ClockRefused(
            f"{later[0]['trade_date']} was published at {later[0]['published_at']:%Y-%m-%d %H:%M} UTC, and the clock "
            f"says {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC: nothing was built; set the host's clock"
        )
