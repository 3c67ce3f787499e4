"""Open interest describes the session before the morning it is stamped with: TWX and GOOG on real days.

The stamps, volumes and the answers they are held to come from the recorded files. What one day of GOOG cannot show is
that the chain of the day before had exactly these values at its own close: that day is not recorded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ingest.calendar.sessions import next_session
from ingest.open_interest.freshness import Evidence, described_sessions
from tests.models.conftest import SmallLake
from tests.models.rows import Row, contract

TWX_DAYS = (date(2014, 6, 5), date(2014, 6, 6))
GOOG_DAY, GOOG_BEFORE = date(2015, 12, 24), date(2015, 12, 23)
# Expiry, right, strike.
Terms = tuple[date, str, float]


@dataclass(frozen=True)
class Recorded:
    """A chain on a real day: the morning's stamp (None: the file has none) and the day's volume by contract."""

    stamps: dict[Terms, int | None]
    volumes: dict[Terms, int]


def recorded(shared_data: Path, symbol: str, day: date) -> Recorded:
    rows = duckdb.sql(
        f"""select expiry, "right", strike, max(open_interest), coalesce(max(volume), 0)::bigint
        from '{shared_data}/replay/{symbol}_{day}.parquet' where expiry > date '{day}' group by all"""
    ).fetchall()
    return Recorded({row[:3]: row[3] for row in rows}, {row[:3]: row[4] for row in rows})


def listed(symbol: str, found: Recorded, first_conid: int) -> dict[Terms, Row]:
    return {
        terms: contract(first_conid + number, terms[2], terms[1], underlying=symbol, expiry=terms[0])
        for number, terms in enumerate(sorted(found.stamps))
    }


def record(lake: SmallLake, day: date, contracts: dict[Terms, Row], volumes: dict[Terms, int]) -> None:
    opened = lake.day(day)
    opened.open(*contracts.values())
    opened.write(
        "raw/option_quotes", [opened.close_quote(row, volume=volumes.get(t, 0)) for t, row in contracts.items()]
    )


def observe(
    lake: SmallLake, day: date, contracts: dict[Terms, Row], stamps: dict[Terms, int | None], asof: date, hour: int
) -> None:
    """The observations of a morning (`hour` UTC) after a session."""
    opened = lake.day(day)
    at = next_session(day).open.replace(hour=hour, minute=0)
    rows = [
        opened.open_interest(contracts[terms], value, oi_asof_date=asof, observed_at=at, ingest_id=f"0190-{at}")
        for terms, value in stamps.items()
        if value is not None and terms in contracts
    ]
    opened.write("raw/open_interest", rows)


def daily(lake: SmallLake, symbol: str, day: date) -> dict[Terms, tuple[Any, ...]]:
    rows = lake.rows(
        "select expiry, \"right\", strike, open_interest, oi_asof_date, list_contains(data_quality_flag, 'missing_oi') "
        f"from clean.daily_clean where underlying = '{symbol}' and trade_date = '{day}'"
    )
    return {row[:3]: row[3:] for row in rows}


@dataclass(frozen=True)
class Real:
    """The lake, the recorded days, and what daily_clean said of TWX's first day before IB had turned over."""

    lake: SmallLake
    twx: tuple[Recorded, Recorded]
    goog: Recorded
    before_fresh: dict[Terms, tuple[Any, ...]]


@pytest.fixture(scope="module")
def real(small_lake: Callable[[str], SmallLake], shared_data: Path) -> Real:
    lake = small_lake("open_interest")
    lake.reference(universe=["TWX", "GOOG"])
    first, second = (recorded(shared_data, "TWX", day) for day in TWX_DAYS)
    goog = recorded(shared_data, "GOOG", GOOG_DAY)
    twx = listed("TWX", first, 1)
    options = listed("GOOG", goog, 1000)
    for day, found in zip(TWX_DAYS, (first, second), strict=True):
        record(lake, day, twx, found.volumes)
    for day in (GOOG_BEFORE, GOOG_DAY):
        record(lake, day, options, goog.volumes)

    # What was shown on the morning of 06-05 and still at 04:00 on 06-06, and what from 07:30 on: dated as capture does.
    for hour, shown in ((8, first), (11, second)):
        evidence = {n: Evidence(first.stamps[t], shown.stamps[t] or 0, first.volumes[t]) for n, t in enumerate(twx)}
        dated = set(described_sessions(TWX_DAYS[0], {"TWX": evidence}, last=True).values())
        assert len(dated) == 1
        observe(lake, TWX_DAYS[0], twx, shown.stamps, dated.pop(), hour)
        if hour == 8:
            lake.build([TWX_DAYS[0]])
            before_fresh = daily(lake, "TWX", TWX_DAYS[0])
    observe(lake, GOOG_BEFORE, options, goog.stamps, GOOG_BEFORE, 11)
    lake.build([*TWX_DAYS, GOOG_BEFORE, GOOG_DAY])
    return Real(lake, (first, second), goog, before_fresh)


def test_open_interest_is_missing_until_it_describes_the_session(real: Real) -> None:
    assert len(real.before_fresh) == 184
    assert set(real.before_fresh.values()) == {(None, None, True)}


def test_twx_has_the_stamps_of_the_next_morning(real: Real) -> None:
    """All 184 contracts of 06-05 have the stamps of 06-06, whose own open interest no file has."""
    first, second = TWX_DAYS
    assert len(real.twx[1].stamps) == 184
    assert daily(real.lake, "TWX", first) == {
        terms: (stamp, first, False) for terms, stamp in real.twx[1].stamps.items()
    }
    assert set(daily(real.lake, "TWX", second).values()) == {(None, None, True)}


def test_changes_fit_the_volume_of_the_session_they_are_dated_to_better_than_any_other(real: Real) -> None:
    """|change| cannot exceed what was traded. Counted in the files: 29 contracts changed, 11 by more than the vendor's
    minutes saw traded on 06-05, and 21 by more than on 06-06."""
    before = real.twx[0].stamps
    volumes = {
        row[:4]: row[4]
        for row in real.lake.rows(
            "select trade_date, expiry, \"right\", strike, volume from clean.daily_clean where underlying = 'TWX'"
        )
    }
    changes = {terms: row[0] - before[terms] for terms, row in daily(real.lake, "TWX", TWX_DAYS[0]).items()}
    assert sum(change != 0 for change in changes.values()) == 29
    beyond = [sum(abs(change) > volumes[day, *terms] for terms, change in changes.items()) for day in TWX_DAYS]
    assert beyond == [11, 21]


def test_goog_has_the_stamp_of_its_morning_on_the_session_before(real: Real) -> None:
    """The stamp of 12-24 is the open interest of 12-23; what 12-24 ended with was stamped on a morning not recorded."""
    known = {terms: stamp for terms, stamp in real.goog.stamps.items() if stamp is not None}
    assert len(known) > 1300
    found = daily(real.lake, "GOOG", GOOG_BEFORE)
    assert {terms: row[0] for terms, row in found.items() if row[0] is not None} == known
    assert {row[1:] for terms, row in found.items() if terms in known} == {(GOOG_BEFORE, False)}
    assert {row for terms, row in found.items() if terms not in known} <= {(None, None, True)}
    assert set(daily(real.lake, "GOOG", GOOG_DAY).values()) == {(None, None, True)}
