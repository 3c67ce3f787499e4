"""A gateway, a Prefect server and a worker whose processes are killed and started again; and a slow capture."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType

from flows.prefect.deployments import POOL
from flows.prefect_environment import prefect_environment
from flows.prefect_password import password_variables
from flows.repair import MissingItem, missing_items
from flows.simulated_gateway import free_port, listening
from flows.steps import PipelineContext, connect_broker
from ingest.calendar.clock import ControlPort
from ingest.calendar.sessions import Session, Slot, session_on
from ingest.settings import load
from lake.catalog.connection import open_catalog
from lake.store import Lake
from tests.commands import SMALL
from tests.flows.prefect.conftest import client_of, until

# Of a capture by the worker: some thirty contracts take half a minute.
SLOW = {"CHAINLAKE_IB__MESSAGES_PER_SECOND": "2", "CHAINLAKE_ACQUISITION__BATCH_SIZE": "1"}
UNDERLYINGS = ("AAPL", "MSFT")
UNDER_WAY = (StateType.RUNNING, StateType.PENDING)


@dataclass
class Stage:
    """Processes by name, and the folder with everything that they write."""

    folder: Path
    gateway_port: int = field(default_factory=free_port)
    control_port: int = field(default_factory=free_port)
    server_port: int = field(default_factory=free_port)
    processes: dict[str, "subprocess.Popen[Any]"] = field(default_factory=dict)

    @property
    def api(self) -> str:
        """The URL of the server."""
        return f"http://127.0.0.1:{self.server_port}/api"

    @property
    def control(self) -> ControlPort:
        """The gateway's control port."""
        return ControlPort("127.0.0.1", self.control_port)

    @property
    def lake(self) -> Lake:
        """The lake of the stage."""
        return Lake.open(self.folder / "lake")

    def environment(self) -> dict[str, str]:
        """The environment of all processes, and of this one: a quick one, where a worker adds `SLOW`."""
        universe = self.folder / "universe.csv"
        rows = "".join(f"{symbol},,STK,SMART,,,both\n" for symbol in UNDERLYINGS)
        universe.write_text(f"symbol,conid,sec_type,exchange,weight,group,views\n{rows}")
        return {
            **SMALL,
            **prefect_environment(self.folder / "state", self.api),
            **password_variables(self.folder / "state", {}, self.api),
            "CHAINLAKE_LAKE__ROOT": str(self.folder / "lake"),
            "CHAINLAKE_STATE__DIR": str(self.folder / "state"),
            "CHAINLAKE_UNIVERSE__FILE": str(universe),
            "CHAINLAKE_SCHEDULE__MARKET_CLOCK": f"127.0.0.1:{self.control_port}",
            "IB_PORT": str(self.gateway_port),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_WORKER_PREFETCH_SECONDS": "5",
        }

    # -- processes -----------------------------------------------------------------------------------------------------

    def start(self, name: str, *arguments: str, **more: str) -> "subprocess.Popen[Any]":
        """Start Python with `arguments`; its output goes to a file of the folder."""
        with (self.folder / f"{name}.log").open("a") as output:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *arguments], stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **more}
            )
        return self.processes[name]

    async def start_gateway(self) -> None:
        """Serve a market whose clock stands still."""
        process = self.start(
            "gateway",
            *("-m", "chainlake.cli", "gateway", "--port", str(self.gateway_port), "--speed", "0", "--latency", "5-20"),
            *("--control-port", str(self.control_port), "--at", "2025-11-03 09:00", "--symbols", ",".join(UNDERLYINGS)),
            *("--lines", "500", "--messages-per-second", "2000"),
        )
        await listening(self.gateway_port, process, self.folder / "gateway.log")

    async def start_server(self) -> None:
        """Start the server, also a second time, and return once it answers."""
        self.start(
            "server", *("-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port"), str(self.server_port)
        )

        async def answers() -> bool:
            try:
                async with httpx.AsyncClient(timeout=5) as http:
                    return (await http.get(f"{self.api}/health")).is_success
            except httpx.HTTPError:
                return False

        assert await until(answers, bool), (self.folder / "server.log").read_text()[-2000:]

    def start_worker(self, **more: str) -> None:
        """Start a worker whose captures are slow."""
        arguments = ("-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process")
        self.start("worker", *arguments, **{**SLOW, **more})

    def kill(self, name: str, how: signal.Signals) -> int:
        """Send a signal to one process, wait until it is gone, and give its exit code."""
        process = self.processes.pop(name)
        process.send_signal(how)
        return process.wait(60)

    def is_there(self, pid: int) -> bool:
        """Whether a process has not ended."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    def runs(self, name: str) -> bool:
        """Whether a process is there."""
        return name in self.processes and self.processes[name].poll() is None

    def processes_of(self, run: FlowRun) -> list[int]:
        """The processes of a flow run, the one with the flow itself last."""
        return self._processes_with(f"FLOW_RUN_ID={run.id}")

    def kill_host(self) -> None:
        """Kill all at once but the gateway: services, server and flows."""
        for pid in self._processes_with(f"PREFECT_API_URL={self.api}"):
            # The list has its own maker.
            if pid not in (os.getpid(), self.processes["gateway"].pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for name in set(self.processes) - {"gateway"}:
            self.processes.pop(name).wait(60)

    @staticmethod
    def _processes_with(variable: str) -> list[int]:
        """The processes that have a variable in their environment, in the order of their numbers."""
        found = processes(variable)
        assert found, variable
        return found

    def stop(self) -> None:
        """End everything."""
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()

    # -- the market and the lake ---------------------------------------------------------------------------------------

    async def day(self, trade_date: date) -> Session:
        """Freeze the contracts of a session, quickly and by hand; the clock stands at 09:25 then."""
        session = session_on(trade_date)
        assert session is not None
        await self.control.call({"op": "speed", "speed": 0})
        await self.control.step(session.slots[0].sample_time - timedelta(minutes=5))
        async with connect_broker(PipelineContext.prepare(load())) as broker:
            assert (await broker.discover(session)).status == "ok"
        return session

    def frozen(self, session: Session) -> set[int]:
        """The contracts of a session."""
        return self._conids("raw.contracts", session.trade_date)

    def captured(self, slot: Slot) -> set[int]:
        """The contracts with a row without error in a slot."""
        where = f"view = 'intraday' and slot_30m = {slot.slot_30m} and not snapshot_error"
        return self._conids("raw.option_quotes", slot.trade_date, where)

    def _conids(self, table: str, day: date, where: str = "true") -> set[int]:
        return {conid for (conid,) in self.ask(f"select conid from {table} where trade_date = '{day}' and {where}")}

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """The answer of the lake's catalog."""
        if self.lake.version("raw/option_quotes") is None and "option_quotes" in sql:
            return []
        with open_catalog(self.folder / "lake") as catalog:
            return catalog.execute(sql).fetchall()

    async def missing_items(self, session: Session) -> list[MissingItem]:
        """What a session lacks as of the market's clock."""
        now = (await self.control.read_clock()).now()
        return missing_items(PipelineContext.prepare(load()), self.lake, session, now)

    # -- runs ----------------------------------------------------------------------------------------------------------

    async def run(self, name: str, state: State[Any] | None = None) -> FlowRun:
        """Have a deployment run now, or begin in another state."""
        async with get_client() as client:
            deployment = await client.read_deployment_by_name(name)
            return await client.create_flow_run_from_deployment(deployment.id, state=state)

    async def state(self, run: FlowRun) -> FlowRun:
        """The run as the server knows it now."""
        async with get_client() as client:
            return await client.read_flow_run(run.id)

    async def ended(self, run: FlowRun, patience_s: float = 240) -> FlowRun:
        """The run once it has ended."""
        found = await until(lambda: self.state(run), lambda now: now.state and now.state.is_final(), patience_s)
        assert found.state, found
        assert found.state.is_final(), (found.state, self.words())
        return found

    async def under_way(self, but: FlowRun) -> list[str]:
        """Runs that are running or about to, apart from one."""
        async with get_client() as client:
            runs = await client.read_flow_runs(
                flow_run_filter=FlowRunFilter(
                    state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(UNDER_WAY)))
                )
            )
        return [f"{run.name} {run.state_name} {run.id}" for run in runs if run.id != but.id]

    async def slot_half_captured(self, session: Session, slot: Slot) -> FlowRun:
        """A run of the deployment snapshot in the middle of a slot: one batch of two is in the lake."""
        await self.control.step(slot.sample_time + timedelta(seconds=90))
        run = await self.run("snapshot/snapshot")
        whole = len(self.frozen(session))

        async def rows() -> int:
            return len(await asyncio.to_thread(self.captured, slot))

        assert 0 < await until(rows, bool, 240) < whole, (self.words(), await self.state(run))
        return run

    async def captures_whole(self, session: Session, slot: Slot) -> None:
        """A run of the deployment snapshot captures what the slot lacks: all of it is there then, and no row twice."""
        run = await self.ended(await self.run("snapshot/snapshot"))
        assert run.state_name == "Completed", (run.state, self.words())
        assert self.captured(slot) == self.frozen(session)
        assert self.doubled() == []

    def doubled(self) -> list[tuple[Any, ...]]:
        """Rows that one run has written twice."""
        return self.ask("select count(*) from raw.option_quotes group by conid, ingest_id having count(*) > 1")

    def words(self) -> str:
        """The end of every process's output."""
        return "\n".join(f"-- {log.name}\n{log.read_text()[-3000:]}" for log in sorted(self.folder.glob("*.log")))


def processes(text: str) -> list[int]:
    """The processes that have a text in their command or environment, in the order of their numbers."""
    listed = subprocess.run(["ps", "axeww", "-o", "pid=,command="], capture_output=True, text=True, check=True)
    return sorted(int(line.split()[0]) for line in listed.stdout.splitlines() if text in line)


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """A stage without any process; this process has its environment, and is a client of its server."""
    stage = Stage(folder)
    # A shell's background job ignores it, and so would a worker, which takes SIGTERM for SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.delenv("CHAINLAKE_ALERT_URLS", raising=False)
        for name, value in stage.environment().items():
            patch.setenv(name, value)
        stack.enter_context(client_of(stage.api))
        stack.callback(stage.stop)
        yield stage
