"""What a setting says, the models do: times that live in the settings, at values that nobody has by default."""

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import duckdb
import jinja2
import pytest
import yaml

from flows.models import clock_variables
from flows.steps import PipelineContext, rollup
from ingest.calendar.sessions import new_york, session_on
from ingest.capture.slot import window_of
from ingest.open_interest.enrichment import attempts_at
from ingest.settings import PROJECT, CloseSettings, EnrichmentSettings, ScheduleSettings, Settings, load
from lake.reads import reader
from tests.models.conftest import SmallLake
from tests.models.rows import contract

DAY, NEXT = date(2014, 6, 5), date(2014, 6, 6)
EARLY, LATE = contract(1), contract(2, 105.0)


def shipped() -> dict[str, Any]:
    """The variables of a dbt that is started from the shell."""
    project = yaml.safe_load((PROJECT / "dbt_project" / "dbt_project.yml").read_text(encoding="utf-8"))
    found: dict[str, Any] = project["vars"]
    return found


def test_the_project_states_the_defaults_of_the_settings() -> None:
    defaults = Settings.model_construct(
        close=CloseSettings(), enrichment=EnrichmentSettings(), schedule=ScheduleSettings()
    )
    given = clock_variables(defaults)
    assert {name: time.fromisoformat(clock) for name, clock in given.items()} == {
        name: time.fromisoformat(shipped()[name]) for name in given
    }


@pytest.mark.parametrize(
    ("enrichment", "due"),
    [
        ({"repeat_at": ["07:00", "11:15"]}, "11:45:00"),
        ({"repeat_at": ["11:15", "07:00"]}, "11:45:00"),
        ({"repeat_at": []}, "04:30:00"),
        ({"repeat_at": [], "on": "next_day"}, "04:30:00"),
        ({"repeat_at": ["03:00"]}, "04:30:00"),
        ({"repeat_at": ["03:00"], "on": "next_day"}, "04:30:00"),
        ({"repeat_at": ["23:45"]}, "23:59:59"),
    ],
)
def test_open_interest_is_due_after_the_last_attempt(enrichment: dict[str, Any], due: str) -> None:
    settings = load(enrichment=enrichment)
    assert clock_variables(settings)["open_interest_due"] == due
    assert max(attempts_at(DAY, settings)) < new_york(NEXT, time.fromisoformat(due))


@pytest.mark.parametrize("deadline", ["22:00", "23:45", "21:30:15"])
@pytest.mark.parametrize("day", [DAY, date(2014, 11, 28), date(2014, 1, 6)])
def test_the_close_window_ends_for_the_models_when_it_ends_for_capture(deadline: str, day: date) -> None:
    settings, session = load(close={"deadline": deadline}), session_on(day)
    assert session is not None
    text = (PROJECT / "dbt_project" / "macros" / "dialect.sql").read_text(encoding="utf-8")
    macros: Any = jinja2.Environment(autoescape=False).from_string(text).module
    in_sql = macros.default__new_york_instant(f"date '{day}'", clock_variables(settings)["close_deadline"])
    ((instant,),) = duckdb.sql(f"select {in_sql}").fetchall()
    opens, closes = window_of(session, session.close_slot, "close", settings)
    assert (opens, closes) == (session.close_slot.sample_time, instant)


@pytest.fixture
def kept(small_lake: Callable[[str], SmallLake]) -> SmallLake:
    """A session with one contract captured before 22:00 in the close snapshot, and one half an hour after."""
    made = small_lake("clocks")
    day = made.day(DAY)
    day.open(EARLY, LATE)
    day.write("raw/option_quotes", [day.quote(each, slot) for each in (EARLY, LATE) for slot in range(14)])
    at = {EARLY["conid"]: new_york(DAY, time(21, 59, 59)), LATE["conid"]: new_york(DAY, time(22, 30))}
    day.write(
        "raw/option_quotes",
        [day.close_quote(each, requested_at=at[each["conid"]], asof_ts=at[each["conid"]]) for each in (EARLY, LATE)],
    )
    day.write("raw/underlying_quotes", [day.underlying("AAPL", slot) for slot in range(14)])
    return made


def settings_of(lake: SmallLake, folder: Path, **sections: Any) -> Settings:
    return load(
        lake={"root": lake.lake.root},
        state={"dir": folder},
        universe={"file": lake.seeds / "universe.csv"},
        reference={"corporate_actions": lake.seeds / "corporate_actions.csv"},
        **sections,
    )


@pytest.mark.parametrize(
    ("sections", "good", "pending"),
    [
        ({}, {EARLY["conid"], LATE["conid"]}, True),
        ({"close": {"deadline": "22:00"}, "enrichment": {"repeat_at": ["08:00"]}}, {EARLY["conid"]}, False),
    ],
)
async def test_a_rollup_judges_by_the_times_that_capture_keeps(
    kept: SmallLake, tmp_path: Path, sections: dict[str, Any], good: set[int], pending: bool
) -> None:
    settings, session = settings_of(kept, tmp_path, **sections), session_on(DAY)
    assert session is not None
    slot = session.close_slot
    with reader(kept.lake) as reads:
        window = window_of(session, slot, "close", settings)
        assert reads.captured_options(DAY, "close", slot.slot_30m, window) == good
    as_of: datetime = new_york(NEXT, time(8, 30)) + timedelta(minutes=15)
    await rollup(PipelineContext.prepare(settings), kept.lake, [DAY], as_of)
    from_close = kept.rows("select conid from clean.daily_clean where rollup_source_view = 'close'")
    assert {conid for (conid,) in from_close} == good
    assert kept.one("select pending from quality.daily_metrics where metric = 'oi_filled'") == pending
