"""``chainlake serve`` as a person starts it: flows run from it, and a signal ends it and all that it has started."""

import asyncio
import signal
import stat
from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from tests.flows.prefect.conftest import until
from tests.flows.prefect.stage import SLOW, Stage, processes, staged

pytestmark = pytest.mark.timeout(900)

# Of a company: it cannot reach this host's loopback, and nobody has excepted that.
PROXY = {"HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1", "NO_PROXY": "", "no_proxy": ""}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A gateway; the server is that of `serve`, which captures slowly."""
    with staged(tmp_path_factory.mktemp("serve")) as made:
        asyncio.run(made.start_gateway())
        yield made


async def serve(stage: Stage) -> None:
    """Start the service, and return once it takes runs."""
    log = stage.folder / "serve.log"
    log.unlink(missing_ok=True)
    stage.start("serve", "-m", "chainlake.cli", "serve", **SLOW, **PROXY)

    async def taking() -> bool:
        return "serving enrichment, " in log.read_text()

    assert await until(taking, bool, 240), stage.words()


@pytest.mark.long
async def test_a_signal_while_it_starts_leaves_nothing_behind(stage: Stage) -> None:
    server = f"server start --host 127.0.0.1 --port {stage.server_port}"
    stage.start("serve", "-m", "chainlake.cli", "serve", **PROXY)

    async def starting() -> list[int]:
        return processes(server)

    assert await until(starting, bool), stage.words()
    assert stage.kill("serve", signal.SIGTERM) == 0
    assert processes(server) == []
    assert "Traceback" not in stage.words()


@pytest.mark.long
async def test_a_slot_is_captured_and_a_signal_ends_service_server_and_flow(stage: Stage) -> None:
    session = await stage.day(date(2025, 11, 4))
    slot, then = session.slots[2:4]
    await serve(stage)
    # It lies beside the key to the secrets in it.
    assert stat.S_IMODE((stage.folder / "state" / "prefect" / "prefect.db").stat().st_mode) == 0o600
    await stage.control.step(slot.sample_time + timedelta(seconds=30))
    await stage.captures_whole(session, slot)

    # A service manager ends it in the middle of the next slot.
    run = await stage.slot_half_captured(session, then)
    flow = stage.processes_of(run)
    assert stage.kill("serve", signal.SIGTERM) == 0
    assert not [pid for pid in flow if stage.is_there(pid)]
    assert set() < stage.captured(then) < stage.frozen(session)
    assert "never awaited" not in stage.words()

    # Started again it knows the run as cancelled, and the slot can go on at once.
    await serve(stage)
    assert (await stage.state(run)).state_name == "Cancelled"
    await stage.captures_whole(session, then)


@pytest.mark.slow
async def test_after_a_host_has_died_its_run_is_crashed_and_holds_nobody_up(stage: Stage) -> None:
    """Also when the service renews the automation that watches over it, as after an upgrade."""
    session = await stage.day(date(2025, 11, 5))
    slot = session.slots[2]
    if not stage.runs("serve"):
        await serve(stage)
    run = await stage.slot_half_captured(session, slot)
    stage.kill_host()
    await serve(stage)
    assert (await stage.state(run)).state_name == "Running"
    await stage.captures_whole(session, slot)
    assert (await stage.state(run)).state_name == "Crashed"
