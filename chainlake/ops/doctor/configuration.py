"""Checks of what a person has configured: settings, universe, corporate actions, rates, calendar, capacity."""

import os
from collections.abc import Iterator
from datetime import date, datetime
from importlib.metadata import version
from pathlib import Path

from chainlake.ops.doctor.check import Check, fail, guarded, ok, one_line, warn
from flows.seeds import symbols_of_no_use
from ingest.calendar.sessions import NEW_YORK, next_session, session_on, sessions_between
from ingest.capacity.estimate import Case, Limits, Timing, slot_seconds
from ingest.capacity.probe_result import stored
from ingest.capture.modes import UNMEASURED
from ingest.corporate_actions import read_corporate_actions
from ingest.errors import UsageError
from ingest.rates import read_rates
from ingest.settings import Settings
from ingest.universe import read_universe
from lake.duck import delta_scan
from lake.location import DEFAULT_CONFIG, settings_file
from lake.reads import reader
from lake.store import Lake

LEAST_COVERED = 0.90
# XNYS has had from 247 (2001) to 254 sessions a year since 1990; a year that the calendar does not know has more.
PLAUSIBLE_SESSIONS = range(245, 256)
# Variables beside the settings.
OTHER_VARIABLES = frozenset(
    {
        "CHAINLAKE_ALERT_URLS",
        "CHAINLAKE_CONFIG",
        "CHAINLAKE_DBT_DATABASE",
        "CHAINLAKE_DBT_THREADS",
        "CHAINLAKE_SEEDS",
    }
)


def configuration_checks(settings: Settings, config: Path | None, now: datetime) -> list[Check]:
    """All checks that need no broker and no lake."""
    return [
        *guarded("settings", lambda: _settings(settings, config)),
        *guarded("universe", lambda: _universe(settings)),
        *guarded("corporate actions", lambda: _actions(settings)),
        *guarded("rates", lambda: _rates(settings, now.astimezone(NEW_YORK).date())),
        *calendar_checks(now),
    ]


def _settings(settings: Settings, config: Path | None) -> Iterator[Check]:
    file = config or settings_file()
    if file is None:
        yield warn("settings", f"no {DEFAULT_CONFIG}: defaults are used", "chainlake init writes one to be edited")
    else:
        yield ok("settings", f"{file}; lake {settings.lake.root}, state {settings.state.dir}")
    if strangers := unknown_variables(dict(os.environ)):
        yield warn("environment", f"no setting: {', '.join(strangers)}", "correct their names: they change nothing")


def unknown_variables(environment: dict[str, str]) -> list[str]:
    """Variables that look like ours and that nothing reads. Pure."""
    return sorted(
        name
        for name in environment
        if name.startswith("CHAINLAKE_") and name not in OTHER_VARIABLES and not _is_setting(name)
    )


def _is_setting(name: str) -> bool:
    section, _, key = name.removeprefix("CHAINLAKE_").lower().partition("__")
    field = Settings.model_fields.get(section)
    if field is None:
        return False
    keys = getattr(field.annotation, "model_fields", {})
    return not key or key.partition("__")[0] in keys


def _universe(settings: Settings) -> Iterator[Check]:
    try:
        universe = read_universe(settings.universe.file)
    except UsageError as error:
        yield fail("universe", one_line(error), "correct that line, or set universe.file")
        return
    without = sum(underlying.conid is None for underlying in universe)
    note = f", {without} of them without a conid (IB is asked)" if without else ""
    yield ok("universe", f"{len(universe)} underlyings in {settings.universe.file}{note}")


def _actions(settings: Settings) -> Iterator[Check]:
    file = settings.reference.corporate_actions
    try:
        actions = read_corporate_actions(file)
    except UsageError as error:
        yield fail("corporate actions", one_line(error), "correct that line: no day can be built with it")
        return
    yield ok("corporate actions", f"{len(actions)} in {file}")


def _rates(settings: Settings, today: date) -> Iterator[Check]:
    file = settings.reference.rates
    try:
        curves = read_rates(file)
    except UsageError as error:
        yield fail("rates", one_line(error), "correct that line, or set reference.rates")
        return
    known = f"of {len(curves)} dates, the last {curves[-1].day}, in {file}"
    if curves[-1].stale(today):
        yield warn("rates", known, "add lines of the last weeks: forwards and volatilities of today use that date's")
    else:
        yield ok("rates", known)


def symbol_checks(settings: Settings, lake: Lake | None) -> list[Check]:
    """Whether each corporate action is of a symbol that is in the universe or in `lake`."""
    return guarded("symbols of corporate actions", lambda: _symbols_of_actions(settings, lake))


def _symbols_of_actions(settings: Settings, lake: Lake | None) -> Iterator[Check]:
    try:
        of_no_use = symbols_of_no_use(settings, lake)
    except UsageError:
        # Told of by the checks of the two files.
        return
    if of_no_use:
        named = f"neither the universe nor the lake has {', '.join(of_no_use)}"
        yield warn("symbols of corporate actions", named, "correct their spelling if they should restate anything")
    else:
        yield ok("symbols of corporate actions", "each is in the universe or in the lake")


def calendar_checks(now: datetime) -> list[Check]:
    """Whether the exchange calendar knows this year and the next, and what the next session is."""
    return guarded("calendar", lambda: _calendar(now))


def _calendar(now: datetime) -> Iterator[Check]:
    today = now.astimezone(NEW_YORK).date()
    package = f"pandas-market-calendars {version('pandas-market-calendars')}"
    for year in (today.year, today.year + 1):
        count = len(sessions_between(date(year, 1, 1), date(year, 12, 31)))
        if count not in PLAUSIBLE_SESSIONS:
            yield fail("calendar", f"{package} has {count} sessions in {year}", "upgrade that package")
            return
    here = session_on(today)
    session = here if here and now < here.close else next_session(today)
    first, last = session.slots[0], session.close_slot
    slots = f"{len(session.slots)} slots, {first.label} to {last.label} New York"
    yield ok("calendar", f"next session {session.trade_date}: {slots} ({package})")


def capacity_checks(settings: Settings, lake: Lake) -> list[Check]:
    """Whether the preset captures at least 90 % of the set that was frozen last."""
    return guarded("capacity", lambda: _capacity(settings, lake))


def _capacity(settings: Settings, lake: Lake) -> Iterator[Check]:
    with reader(lake) as reads:
        rows = reads.rows(
            "raw/contracts",
            f"trade_date = (select max(trade_date) from {delta_scan(lake.uri('raw/contracts'))}) group by trade_date",
            "trade_date, count(distinct conid) as contracts",
        )
    preset = settings.acquisition.preset
    if not rows:
        yield ok("capacity", "no contract set is frozen yet: chainlake capacity --simulated tells what to expect")
        return
    fitting = _share(settings, rows[0]["contracts"])
    frozen = f"{rows[0]['contracts']:,} contracts of {rows[0]['trade_date']}"
    what = f"{preset} covers {int(1000 * fitting) / 10:g} % of the {frozen}"
    if fitting < LEAST_COVERED:
        yield warn("capacity", what, "chainlake capacity says what would make it fit")
    else:
        yield ok("capacity", what)


def _share(settings: Settings, contracts: int) -> float:
    """The share of so many contracts that a slot has time for."""
    probed = stored(Path(settings.state.dir), f"{settings.ib.host}:{settings.ib.port}")
    occupancy = probed.occupancy if probed else UNMEASURED
    timing = Timing(streaming_s=occupancy.streaming_s) if occupancy.streaming_s else Timing()
    limits = Limits.of(settings, probed)
    mode = limits.mode(settings.acquisition.mode, occupancy)
    case = Case(
        contracts, slot_seconds(settings.acquisition.slot_grace_s), limits, timing, len(settings.ib.each_gateway)
    )
    return case.fit(mode, settings.acquisition.preset).share
