"""The Prefect flows on a real (ephemeral) Prefect server: guards, and the slot of the scheduled time."""

import asyncio
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from flows.orchestration.capture import discover_flow, snapshot_flow
from lake.catalog import open_catalog


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def lake(prefect: None, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a lake that the flows will make; the environment is that of a worker."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CHAINLAKE_LAKE__ROOT", str(tmp_path / "lake"))
    monkeypatch.setenv("CHAINLAKE_STATE__DIR", str(tmp_path / "state"))
    return tmp_path / "lake"


async def test_a_holiday_is_skipped_before_anything_is_connected(lake: Path) -> None:
    state = await discover_flow(trade_date=date(2026, 11, 26), symbols=["AAPL"], return_state=True)
    assert (state.name, state.message) == ("Skipped", "no session of XNYS")
    assert not lake.exists()  # noqa: ASYNC240 - nothing else runs


async def test_a_days_set_is_frozen_and_a_stale_slot_is_not_captured(lake: Path) -> None:
    await discover_flow(trade_date=date(2026, 11, 19), symbols=["AAPL"])
    frozen = await asyncio.to_thread(
        lambda: open_catalog(lake).execute("select count(*) from raw.contracts").fetchone()
    )
    assert frozen is not None
    assert frozen[0] > 10
    # The run is scheduled for now, and no slot of that day is open now, whatever the gateway's clock shows.
    state = await snapshot_flow(trade_date=date(2026, 11, 19), symbols=["AAPL"], return_state=True)
    assert state.name == "Skipped"
    assert state.message.startswith("no slot of an XNYS session at ")
