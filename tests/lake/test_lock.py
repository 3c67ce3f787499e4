"""One maintainer at a time, by a lock that dies with its process, on disk and in an object store."""

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from lake.maintenance.lock import LeaseLost, MaintainerBusy, maintainer
from lake.store import Lake
from tests.lake.conftest import ObjectStore
from tests.lake.maintained import new_lake

# A lease that is short enough to wait for, and long enough for a busy host.
LEASE_S = 3.0
processes = multiprocessing.get_context("spawn")


def hold_until_killed(lake: Lake, has_it: Event) -> None:
    with maintainer(lake, "compact", LEASE_S):
        has_it.set()
        time.sleep(600)


@contextmanager
def held_elsewhere(lake: Lake) -> Iterator[int]:
    """Another process that has the lock; its id."""
    has_it = processes.Event()
    process = processes.Process(target=hold_until_killed, args=(lake, has_it), daemon=True)
    process.start()
    try:
        assert has_it.wait(60)
        assert process.pid is not None
        yield process.pid
    finally:
        process.kill()
        process.join()


def take(lake: Lake) -> None:
    with maintainer(lake, "vacuum", LEASE_S) as hold:
        hold.require()


def take_within(lake: Lake, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return take(lake)
        except MaintainerBusy:
            assert time.monotonic() < deadline, "the lock of a dead process is still held"
            time.sleep(0.1)


def test_a_second_maintainer_is_told_in_one_line_who_the_first_is_and_follows_it_when_it_is_killed(
    tmp_path: Path,
) -> None:
    lake = new_lake(tmp_path)
    with held_elsewhere(lake) as pid:
        with pytest.raises(MaintainerBusy) as refused, maintainer(lake, "vacuum"):
            pytest.fail("two maintainers at once")
        message = str(refused.value)
        assert f"compact on {socket.gethostname()} (PID {pid}, since 20" in message
        assert "\n" not in message
        os.kill(pid, signal.SIGKILL)
        take_within(lake, 5)
    take(lake)


def test_the_lock_is_free_after_work_that_failed(tmp_path: Path) -> None:
    lake = new_lake(tmp_path)
    with pytest.raises(ZeroDivisionError), maintainer(lake, "compact"):
        raise ZeroDivisionError
    take(lake)


@pytest.mark.usefixtures("in_store")
class TestInAnObjectStore:
    @pytest.fixture
    def lake(self, in_store: ObjectStore) -> Lake:
        # The lease needs no table: making them all takes seconds here.
        return Lake(in_store.new_root(), "simulated")

    def test_the_lease_is_renewed_while_its_holder_lives_and_runs_out_when_it_is_killed(self, lake: Lake) -> None:
        with held_elsewhere(lake) as pid:
            for _ in range(5):
                with pytest.raises(MaintainerBusy, match=rf"compact on \S+ \(PID {pid}, since 20"):
                    take(lake)
                time.sleep(LEASE_S / 3)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(MaintainerBusy):
                take(lake)
            take_within(lake, 3 * LEASE_S)
        take(lake)

    def test_of_many_that_want_it_at_once_one_gets_it(self, lake: Lake) -> None:
        take(lake)
        go, got = processes.Event(), processes.SimpleQueue()
        each = [processes.Process(target=rush, args=(lake, go, got), daemon=True) for _ in range(4)]
        for process in each:
            process.start()
        assert [got.get() for _ in each] == ["ready"] * 4
        go.set()
        answers = [got.get() for _ in each]
        for process in each:
            process.join()
        assert sorted(answers) == ["busy", "busy", "busy", "held"]

    def test_whoever_was_taken_over_from_stops_before_its_next_commit(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A host that stood still, for a minute: its renewals come too late.
        monkeypatch.setattr("lake.maintenance.lock._Lease.keep", lambda lease: None)
        with maintainer(lake, "compact", 0.5) as slow:
            slow.require()
            time.sleep(0.6)
            with maintainer(lake, "vacuum", 60) as quick:
                quick.require()
                with pytest.raises(LeaseLost):
                    slow.require()


def rush(lake: Lake, go: Event, got: "multiprocessing.SimpleQueue[str]") -> None:
    got.put("ready")
    go.wait()
    try:
        with maintainer(lake, "compact", 60):
            got.put("held")
            time.sleep(2)
    except MaintainerBusy:
        got.put("busy")
