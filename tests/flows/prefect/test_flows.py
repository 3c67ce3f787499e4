"""The flows on a real Prefect server, called for made-up times of a simulated gateway: guards, failures, repair."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow, get_client
from prefect.blocks.system import Secret
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.flow_engine import run_flow_async
from prefect.states import Scheduled

from chainlake.ops.incidents.incidents import history
from flows.prefect.daily import close_snapshot_flow, daily_report_flow, enrichment_flow, rollup_flow
from flows.prefect.maintenance import maintain_flow, repair_flow
from flows.prefect.reporting import ALERT_URLS_BLOCK, BREACHED
from flows.prefect.session import discover_flow, snapshot_flow
from flows.simulated_gateway import free_port
from ingest.calendar.clock import ControlPort
from ingest.calendar.sessions import NEW_YORK, session_on
from lake.catalog.connection import open_catalog
from lake.reads import reader
from lake.store import Lake
from tests.chainlake.ops.monitoring.conftest import Webhook
from tests.commands import SMALL
from tests.flows.prefect.conftest import until
from tests.ingest import storm

DAY, HOLIDAY = date(2026, 11, 19), date(2026, 11, 26)
EVERY_FLOW: list[tuple[str, Callable[..., Any]]] = [
    ("04:00", enrichment_flow),
    ("09:25", discover_flow),
    ("10:00", snapshot_flow),
    ("17:00", close_snapshot_flow),
    ("18:00", daily_report_flow),
]


@dataclass
class Market:
    """A simulated gateway with one underlying, and the lake that the flows of this environment write."""

    control: ControlPort
    root: Path
    state: Path

    async def stand_at(self, clock: str, day: date = DAY, speed: float = 0) -> None:
        """Set the market clock to a New York time."""
        await self.control.call({"op": "speed", "speed": speed})
        await self.control.step(datetime.fromisoformat(f"{day} {clock}").replace(tzinfo=NEW_YORK))

    def runs(self, step: str) -> list[dict[str, Any]]:
        """The runs of a step that the lake knows, in order."""
        with reader(Lake.open(self.root)) as reads:
            return reads.rows("ops/runs", f"step = '{step}' order by started_at")

    def captured(self, view: str) -> dict[int, int]:
        """Contracts of the day with a row without error, by the slot."""
        with reader(Lake.open(self.root)) as reads:
            rows = reads.rows("raw/option_quotes", f"view = '{view}' and not snapshot_error", "slot_30m, conid")
        return {slot: len({row["conid"] for row in rows if row["slot_30m"] == slot}) for slot in _slots(rows)}

    def incidents(self) -> list[str]:
        """The cause of every incident ever opened."""
        return [row["cause"] for row in history(Lake.open(self.root)) if row["state"] == "opened"]


def _slots(rows: list[dict[str, Any]]) -> list[int]:
    return sorted({row["slot_30m"] for row in rows})


@pytest.fixture
async def market(api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Market]:
    """A market whose clock stands still; this process has the environment of a worker beside it."""
    universe = tmp_path / "universe.csv"
    universe.write_text("symbol,conid,sec_type,exchange,weight,group,views\nAAPL,,STK,SMART,,,both\n")
    async with storm.gateway(lines=500, messages_per_second=2000) as gateway:
        assert gateway.control_port
        own = {
            "IB_PORT": str(gateway.port),
            "CHAINLAKE_SCHEDULE__MARKET_CLOCK": f"127.0.0.1:{gateway.control_port}",
            "CHAINLAKE_UNIVERSE__FILE": str(universe),
            "CHAINLAKE_LAKE__ROOT": str(tmp_path / "lake"),
            "CHAINLAKE_STATE__DIR": str(tmp_path / "state"),
            "CHAINLAKE_IB__CONNECT_TIMEOUT_S": "30",
        }
        for name, value in {**SMALL, **own}.items():
            monkeypatch.setenv(name, value)
        yield Market(ControlPort("127.0.0.1", gateway.control_port), tmp_path / "lake", tmp_path / "state")


async def scheduled(flow: Flow[..., Any], seconds_ago: float) -> State[Any]:
    """The end of a run that was scheduled for some time of the host's clock."""
    at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    async with get_client() as client:
        run = await client.create_flow_run(flow, state=Scheduled(scheduled_time=at))
    state = await run_flow_async(flow, run, {}, return_type="state")
    assert state is not None
    return state


# -- guards ------------------------------------------------------------------------------------------------------------


async def test_a_holiday_is_skipped_by_every_flow_before_anything_is_connected(market: Market) -> None:
    for clock, flow in EVERY_FLOW:
        await market.stand_at(clock, HOLIDAY)
        state = await flow(return_state=True)
        assert (state.type.value, state.name, state.message) == ("COMPLETED", "Skipped", "no session of XNYS"), clock
    assert not market.root.exists()


async def test_a_slot_of_an_early_closes_afternoon_is_skipped(market: Market) -> None:
    await market.stand_at("14:00", date(2026, 11, 27))
    state = await snapshot_flow(return_state=True)
    assert (state.name, state.message) == ("Skipped", "no slot of 2026-11-27 is open at 14:00 New York")


async def test_a_prewarm_after_the_freeze_is_too_late(market: Market) -> None:
    await market.stand_at("09:26")
    state = await discover_flow(mode="prewarm", return_state=True)
    assert (state.name, state.message) == ("Skipped", f"stale: it is too late to prewarm {DAY}")
    await market.stand_at("16:00")
    state = await discover_flow(return_state=True)
    assert (state.name, state.message) == ("Skipped", f"stale: it is too late to freeze {DAY}")


async def test_a_run_that_starts_after_its_slots_window_is_refused_and_captures_nothing(market: Market) -> None:
    await market.stand_at("10:31", speed=60)
    # An hour of the market ago: the slot is that of the scheduled time, not the one that is open now.
    state = await scheduled(snapshot_flow, seconds_ago=60)
    assert (state.name, state.message) == ("Skipped", "stale: the window of slot 09:30 is over")
    assert not market.root.exists()


async def test_a_run_that_starts_early_waits_for_the_slot_that_it_was_scheduled_for(market: Market) -> None:
    await market.stand_at("09:25")
    await discover_flow()
    # 09:58 and a little: a run that took its slot from this clock would capture that of 09:30.
    await market.stand_at("09:58", speed=20)
    state = await scheduled(snapshot_flow, seconds_ago=-6)
    assert state.is_completed(), state
    assert [(run["slot_30m"], run["status"]) for run in market.runs("snapshot")] == [(1, "ok")]
    session = session_on(DAY)
    assert session is not None
    assert market.runs("snapshot")[0]["started_at"] >= session.slots[1].sample_time
    assert list(market.captured("intraday")) == [1]


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[Webhook]:
    """A real HTTP listener."""
    receiver = Webhook()
    receiver.start()
    yield receiver
    receiver.stop()


async def test_a_flow_that_fails_opens_one_incident_and_alerts_once(
    market: Market, listener: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await market.stand_at("09:25")
    await discover_flow()
    await market.stand_at("10:00")
    monkeypatch.setenv("CHAINLAKE_ALERT_URLS", listener.url)
    monkeypatch.setenv("CHAINLAKE_REFERENCE__CORPORATE_ACTIONS", str(tmp_path / "nowhere.csv"))
    for _ in range(2):
        state = await rollup_flow(return_state=True)
        assert state.is_failed()
    assert market.incidents() == ["flow_failed:rollup"]
    assert len(listener.posts) == 1
    assert "flow_failed:rollup" in listener.titles[0]
    assert "nowhere.csv" in listener.posts[0]["message"]
    assert "flow_failed:rollup" in (market.state / "TODO.now.md").read_text()
    assert listener.url.rpartition("/")[2] not in "".join(
        file.read_text() for file in market.state.rglob("*") if file.is_file()
    )


async def test_a_flow_that_fails_before_there_is_a_lake_alerts_too_by_the_urls_of_the_server(
    market: Market, listener: Webhook
) -> None:
    await Secret(value=listener.url).asave(ALERT_URLS_BLOCK, overwrite=True)
    try:
        for _ in range(2):
            assert (await maintain_flow(return_state=True)).is_failed()
    finally:
        await Secret.adelete(ALERT_URLS_BLOCK)
    assert ["flow_failed:maintain" in title for title in listener.titles] == [True]


async def test_a_flow_that_cannot_read_its_settings_alerts_once(
    market: Market, listener: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAINLAKE_ALERT_URLS", listener.url)
    monkeypatch.setenv("CHAINLAKE_IB__LINES", "many")
    for _ in range(2):
        assert (await snapshot_flow(return_state=True)).is_failed()
    assert ["flow_failed:snapshot" in title for title in listener.titles] == [True]
    assert "ib.lines = 'many'" in listener.posts[0]["message"]


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_day_whose_broker_never_comes_back_for_the_close_is_told_and_made_from_its_slots(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    await market.stand_at("15:30")
    await snapshot_flow()
    captured = market.captured("intraday")[12]
    monkeypatch.setenv("IB_PORT", str(free_port()))
    # It is sought until the deadline, a quarter of an hour ahead.
    await market.stand_at("23:30", speed=120)
    state = await close_snapshot_flow(return_state=True)
    assert (state.is_failed(), state.name) == (True, "Failed")
    assert market.incidents() == ["flow_failed:close-snapshot"]
    assert market.runs("close-snapshot") == []
    with open_catalog(market.root) as catalog:
        made = catalog.execute("SELECT rollup_strategy, count(*) FROM clean.daily_clean GROUP BY 1").fetchall()
        published = catalog.execute("SELECT trade_date, status FROM ops.published").fetchall()
    assert made == [("last_good", captured)]
    assert published == [(DAY, "failed")]


# -- a day -------------------------------------------------------------------------------------------------------------


async def shown(key: str) -> str:
    """What an artifact holds now."""
    async with get_client() as client:
        (found,) = await client.read_latest_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    return str(found.data)


async def completed_tasks() -> set[str]:
    """Names of the task runs that have completed."""
    async with get_client() as client:
        found = await client.read_task_runs(
            task_run_filter=TaskRunFilter(
                state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.COMPLETED]))
            ),
            limit=200,
        )
    return {run.name for run in found}


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_day_with_holes_is_repaired_rolled_up_and_filled_and_says_what_it_lacks(
    market: Market, listener: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One day, in the order of its times; the first slots and the close snapshot are missed."""
    monkeypatch.setenv("CHAINLAKE_ALERT_URLS", listener.url)
    # Nobody has frozen the day's contracts when its first run comes.
    await market.stand_at("10:30")
    assert (await snapshot_flow(return_state=True)).name == "Completed"
    frozen = market.captured("intraday")[2]
    assert frozen > 10
    assert f"{frozen} of {frozen} (100 %)" in await shown("slot-1030")

    # Repair gets the slot that is open, and says that the first two are gone.
    await market.stand_at("11:05")
    said = await repair_flow()
    assert said == [f"slot {label}: {frozen} contracts, gone for good" for label in ("09:30", "10:00")]
    assert market.captured("intraday") == {2: frozen, 3: frozen}
    assert "gone for good" in await shown("repair")
    assert await repair_flow() == said
    assert [run["trigger"] for run in market.runs("snapshot")] == ["schedule", "repair"]

    # Past its deadline the close snapshot is not taken, and the day is rolled up all the same: it ends as breached.
    await market.stand_at("23:50")
    state = await close_snapshot_flow(return_state=True)
    assert (state.is_failed(), state.name) == (True, BREACHED)
    assert state.message is not None
    assert state.message.startswith(f"{DAY} published as failed: ")
    assert "slot_coverage" in state.message
    assert market.runs("close-snapshot") == []
    assert f"{DAY}" in await shown("day-report")

    # The next morning the open interest is filled once: the last attempt settles what shows no change.
    for clock_time, status in (("04:00", "partial"), ("09:00", "ok")):
        await market.stand_at(clock_time, date(2026, 11, 20))
        assert (await enrichment_flow(return_state=True)).name == BREACHED
        assert market.runs("enrichment")[-1]["status"] == status
    await market.stand_at("09:20", date(2026, 11, 20))
    state = await enrichment_flow(return_state=True)
    assert (state.name, state.message) == ("Skipped", f"no open interest of {DAY} is missing")

    # Each model of a rollup can be a task run of it.
    monkeypatch.setenv("CHAINLAKE_SCHEDULE__DBT_TASKS", "true")
    assert (await rollup_flow(trade_date=DAY, return_state=True)).name == BREACHED
    wanted = {f"model {name}" for name in ("intraday", "daily_clean", "daily_metrics")}
    assert wanted <= await until(completed_tasks, wanted.issubset)

    # Once retention has taken its quotes there is nothing to build, and nothing is published.
    lake = Lake.open(market.root)
    quotes = lake.table("raw/option_quotes")
    assert quotes is not None
    quotes.delete(f"trade_date = '{DAY}'")
    published = lake.version("ops/published")
    state = await rollup_flow(trade_date=DAY, return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Skipped")
    assert state.message is not None
    assert f"{DAY} stays failed" in state.message
    assert lake.version("ops/published") == published

    # What is only bad in numbers is the watchdog's to tell, and no failure of a flow.
    assert market.incidents() == []
    assert listener.posts == []
