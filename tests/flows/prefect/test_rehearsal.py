"""A holiday and an early close, run by a real Prefect server and worker: the scheduler's own runs, hours in minutes."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from pathlib import Path

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL

from flows.prefect.rehearsal import Rehearsal, RehearsalContext, environment, rehearsal_services, run_days
from flows.prefect_environment import prefect_environment
from flows.simulated_gateway import free_port
from ingest.calendar.sessions import NEW_YORK, session_on
from ingest.settings import Settings, load
from lake.catalog.connection import open_catalog
from tests.commands import CLI, SMALL
from tests.flows.prefect.conftest import client_of

pytestmark = [pytest.mark.rehearsal, pytest.mark.timeout(2700)]

SYMBOLS = ("AAPL", "MSFT")
# Thanksgiving, the early close after it, and the Monday on whose morning that session's open interest is filled.
HOLIDAY, DAY, MORNING = date(2025, 11, 27), date(2025, 11, 28), date(2025, 12, 1)
# Market seconds a second: a slot's window is 30 s of the host, of which a run needs a third. On a busy host take 20.
SPEED = float(os.environ.get("CHAINLAKE_REHEARSAL_SPEED", "60"))
# On the holiday nothing is captured, and so nothing can be late; but Prefect's SQLite answers 503 to too many at once.
FAST = 2 * SPEED


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The settings of everything that the rehearsal starts, which are in this process's environment too."""
    folder = tmp_path_factory.mktemp("rehearsal")
    universe = folder / "universe.csv"
    rows = "".join(f"{symbol},,STK,SMART,,,both\n" for symbol in SYMBOLS)
    universe.write_text(f"symbol,conid,sec_type,exchange,weight,group,views\n{rows}")
    api = f"http://127.0.0.1:{free_port()}/api"
    own = {
        "CHAINLAKE_LAKE__ROOT": str(folder / "lake"),
        "CHAINLAKE_STATE__DIR": str(folder / "state"),
        "CHAINLAKE_UNIVERSE__FILE": str(universe),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CHAINLAKE_ALERT_URLS", raising=False)
        for name, value in {**SMALL, **own, **prefect_environment(folder / "state", api)}.items():
            patch.setenv(name, value)
        # As the processes of the rehearsal have it.
        for name, value in environment(load(), RehearsalContext(1, 2, api, SPEED)).items():
            patch.setenv(name, value)
        (folder / "state" / "prefect").mkdir(parents=True)
        with client_of(api):
            yield load()


Runs = dict[str, list[FlowRun]]


@pytest.fixture(scope="module")
def runs(settings: Settings) -> Runs:
    """Every run of the rehearsal, by the day that was played."""

    def at(day: date, clock: str) -> datetime:
        return datetime.combine(day, time.fromisoformat(clock), NEW_YORK)

    async def rehearse() -> Runs:
        async with rehearsal_services(
            settings, Rehearsal([HOLIDAY], SYMBOLS, SPEED), str(PREFECT_API_URL.value())
        ) as context:

            async def between(day: date, first: str, last: str, speed: float = SPEED) -> list[FlowRun]:
                part = replace(context, speed=speed)
                return await run_days(part, settings, [day], until=at(day, last), since=at(day, first))

            return {
                "holiday": await between(HOLIDAY, "08:50", "13:00", FAST),
                "day": [*await between(DAY, "08:50", "13:30"), *await between(DAY, "17:00", "18:00")],
                # What traded and shows no change is settled by the last attempt only.
                "morning": [
                    *await between(MORNING, "04:00", "04:00"),
                    *await between(MORNING, "09:00", "09:00"),
                ],
            }

    return asyncio.run(rehearse())


def ends(runs: Sequence[FlowRun]) -> dict[str, list[str | None]]:
    """How the runs of each deployment ended, in order; a run is named for its deployment and scheduled time."""
    found: dict[str, list[str | None]] = {}
    for run in runs:
        found.setdefault(run.name.split()[0], []).append(run.state_name)
    return found


def test_on_a_holiday_every_run_skips(runs: Runs) -> None:
    assert len(runs["holiday"]) >= 12
    for name, states in ends([run for run in runs["holiday"] if not run.name.startswith("watchdog")]).items():
        assert set(states) == {"Skipped"}, name
    assert {run.state_type.value for run in runs["holiday"] if run.state_type} == {"COMPLETED"}


def test_an_early_close_has_every_step_done_by_the_schedulers_own_runs(runs: Runs) -> None:
    session = session_on(DAY)
    assert session is not None
    found = ends(runs["day"])
    assert all(run.auto_scheduled for run in runs["day"])
    assert found["discover"] == ["Completed"]
    # Eight slots to 13:00, and 13:30, which is none.
    assert found["snapshot"] == ["Completed"] * len(session.slots) + ["Skipped"]
    assert found["close-snapshot"] == ["Completed"], [
        run.state for run in runs["day"] if run.name.startswith("close-snapshot")
    ]
    assert found["daily-report"] == ["Completed"]
    assert ends(runs["morning"])["enrichment"] == ["Completed"] * 2, [run.state for run in runs["morning"]]


def test_every_slot_has_every_contract_captured_in_its_window(runs: Runs, settings: Settings) -> None:
    session = session_on(DAY)
    assert session is not None
    with open_catalog(settings.lake.root) as catalog:
        frozen = catalog.execute(f"select count(*) from raw.contracts where trade_date = '{DAY}'").fetchall()[0][0]
        rows = catalog.execute(
            "select slot_30m, count(distinct conid), min(asof_ts), max(asof_ts), count(*) "
            f"from raw.option_quotes where trade_date = '{DAY}' and view = 'intraday' and not snapshot_error "
            "group by slot_30m order by slot_30m"
        ).fetchall()
    assert frozen > 20
    assert [(slot, contracts) for slot, contracts, *_ in rows] == [(k, frozen) for k in range(len(session.slots))]
    for slot, (_, _, first, last, _) in zip(session.slots, rows, strict=True):
        assert slot.sample_time <= first <= last < slot.window_end


@pytest.fixture(scope="module")
def command(runs: Runs) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs a chainlake command against the lake of the rehearsal, whose gateway is gone."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*CLI, *arguments], capture_output=True, text=True, timeout=300)

    return run


def test_the_day_passes_its_selfcheck_and_lacks_nothing(
    command: Callable[..., "subprocess.CompletedProcess[str]"],
) -> None:
    checked = command("selfcheck", "--date", str(DAY))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{DAY} passed" in checked.stdout
    missing = command("ops", "missing", "--date", str(DAY))
    assert (missing.returncode, missing.stdout.strip()) == (0, f"nothing of {DAY} is missing"), (
        missing.stdout + missing.stderr
    )
    assert command("ops", "incidents").stdout.strip() == "nothing to do"


def test_the_day_is_told_in_a_report_that_lies_in_the_state_folder(runs: Runs, settings: Settings) -> None:
    report = Path(settings.state.dir) / "reports" / f"daily_{DAY:%Y%m%d}.md"
    assert str(DAY) in report.read_text()
