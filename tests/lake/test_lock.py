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
from deltalake import DeltaTable

from lake.files import live_files
from lake.maintenance.compaction import candidates, compact
from lake.maintenance.lock import Hold, LeaseLost, MaintainerBusy, maintainer
from lake.maintenance.retention import Cutoffs, expired, remove_expired
from lake.maintenance.vacuum import vacuum
from lake.storage import delta_options
from lake.store import Lake
from lake.tables import PUBLISHED
from tests.lake.conftest import ObjectStore
from tests.lake.maintained import HOT_FROM, NOW, OLD, RECENT, TABLE, TODAY, append, bare_lake, content, new_lake

# A lease that is short enough to wait for, and long enough for a busy host.
LEASE_S = 3.0
YEAR_S = 365 * 86_400.0
processes = multiprocessing.get_context("spawn")


def be_host(name: str, ahead_s: float) -> None:
    """Make this process one of another host, whose clock differs."""
    socket.gethostname = lambda: name
    true_time = time.time
    time.time = lambda: true_time() + ahead_s


def hold_until_killed(lake: Lake, has_it: Event, host: str | None = None, ahead_s: float = 0) -> None:
    if host:
        be_host(host, ahead_s)
    with maintainer(lake, "compact", LEASE_S):
        has_it.set()
        time.sleep(600)


@contextmanager
def held_elsewhere(lake: Lake, host: str | None = None, ahead_s: float = 0) -> Iterator[int]:
    """Another process that has the lock, of another host whose clock stands `ahead_s` seconds ahead; its id."""
    has_it = processes.Event()
    process = processes.Process(target=hold_until_killed, args=(lake, has_it, host, ahead_s), daemon=True)
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

    @pytest.mark.parametrize("ahead_s", [YEAR_S, -YEAR_S, 3 * LEASE_S, -3 * LEASE_S])
    def test_a_host_whose_clock_jumped_keeps_its_lease_while_it_lives_and_no_longer(
        self, lake: Lake, ahead_s: float
    ) -> None:
        with held_elsewhere(lake, "other-host", ahead_s) as pid:
            with pytest.raises(MaintainerBusy, match=rf"compact on other-host \(PID {pid}, since"):
                take(lake)
            os.kill(pid, signal.SIGKILL)
            take_within(lake, 6 * LEASE_S)

    def test_a_process_id_that_another_host_has_too_is_not_ours(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with held_elsewhere(lake, "other-host") as pid, monkeypatch.context() as patch:
            patch.setattr("os.getpid", lambda: pid)
            with pytest.raises(MaintainerBusy, match=rf"compact on other-host \(PID {pid},"):
                take(lake)

    def test_a_holder_whose_clock_is_set_back_stops_when_its_lease_has_run_out(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lake.maintenance.lock._Lease.keep", lambda lease: None)
        with maintainer(lake, "compact", 0.5) as hold:
            hold.require()
            now = time.time()
            monkeypatch.setattr("lake.maintenance.lock.time.time", lambda: now - YEAR_S)
            time.sleep(0.6)
            with pytest.raises(LeaseLost):
                hold.require()

    def test_two_hosts_maintain_in_turns_and_no_row_is_lost_or_doubled(self, lake: Lake, tmp_path: Path) -> None:
        lake = bare_lake(lake.root)
        lake._ensure(PUBLISHED)
        for number in range(8):
            append(lake, OLD if number % 2 else RECENT, range(10 * number, 10 * number + 10))
        rows = content(lake)
        hosts = [
            processes.Process(target=maintain, args=(lake, name, ahead_s, tmp_path))
            for name, ahead_s in (("host-a", 0.0), ("host-b", 5 * LEASE_S))
        ]
        for host in hosts:
            host.start()
        for host in hosts:
            host.join(120)
        assert [host.exitcode for host in hosts] == [0, 0]
        assert content(lake) == rows
        assert len(live_files(DeltaTable(lake.uri(TABLE), storage_options=delta_options(lake.root)))) == 2


def maintain(lake: Lake, host: str, ahead_s: float, folder: Path) -> None:
    """Compact, retire and vacuum as one of two hosts, once each has had its turn; alone at any time."""
    be_host(host, ahead_s)
    for step in (compact_all, retire_nothing, vacuum_all):
        while True:
            try:
                with maintainer(lake, step.__name__, LEASE_S) as hold:
                    alone = folder / "at-work"
                    alone.touch(exist_ok=False)
                    step(lake, hold)
                    alone.unlink()
                    break
            except MaintainerBusy:
                time.sleep(0.05)


def compact_all(lake: Lake, hold: Hold) -> None:
    list(compact(lake, candidates(lake, TODAY, HOT_FROM), hold))


def retire_nothing(lake: Lake, hold: Hold) -> None:
    cutoffs = Cutoffs(OLD, OLD, OLD)
    list(remove_expired(lake, expired(lake, cutoffs), hold))


def vacuum_all(lake: Lake, hold: Hold) -> None:
    list(vacuum(lake, NOW, hold))


def rush(lake: Lake, go: Event, got: "multiprocessing.SimpleQueue[str]") -> None:
    got.put("ready")
    go.wait()
    try:
        with maintainer(lake, "compact", 60):
            got.put("held")
            time.sleep(2)
    except MaintainerBusy:
        got.put("busy")
