"""One incident, one alert, one all-clear for a cause and date, whoever looks and however often."""

import json
import threading
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from chainlake.ops.incidents.alerts import Channel
from chainlake.ops.incidents.causes import Breach, breach
from chainlake.ops.incidents.incidents import (
    IncidentContext,
    acknowledge,
    close,
    history,
    open_incidents,
    report,
    settle,
)
from chainlake.ops.monitoring.watchdog import Look
from ingest.errors import UsageError
from lake.store import Lake
from lake.tables import BY_NAME
from tests.chainlake.ops.monitoring.conftest import DAY, WatchedLake, Webhook, at

NOON = at(DAY, "12:00")
DISK = breach("disk_full", DAY, "the file system is 95 % full")
SLOT = breach("slot_missed", DAY, "nothing was captured in 11:00")


@pytest.fixture
def alerted(watched: WatchedLake, webhook: Webhook) -> WatchedLake:
    """The lake, with a webhook."""
    watched.channel = Channel.of([webhook.url])
    return watched


def seen(*breaches: Breach) -> Look:
    """A look that examined both causes and found some."""
    return Look(breaches, frozenset({DISK.key, SLOT.key}))


def states(lake: Lake) -> list[tuple[str, str]]:
    """Cause and state of every change."""
    return [(row["cause"], row["state"]) for row in history(lake)]


def test_an_incident_is_opened_once_and_closed_once(alerted: WatchedLake, webhook: Webhook) -> None:
    assert [each.cause for each in alerted.settle(seen(DISK), NOON).opened] == ["disk_full"]
    assert alerted.settle(seen(DISK), at(DAY, "12:05")).opened == ()
    assert [each.cause for each in alerted.settle(seen(), at(DAY, "12:10")).closed] == ["disk_full"]
    assert alerted.settle(seen(), at(DAY, "12:15")).closed == ()
    assert states(alerted.lake) == [("disk_full", "opened"), ("disk_full", "closed")]
    assert webhook.titles == ["Chainlake: severe: disk_full of 2026-11-20", "Chainlake: over: disk_full of 2026-11-20"]


def test_what_was_not_examined_stays_open(alerted: WatchedLake) -> None:
    alerted.settle(seen(DISK, SLOT), NOON)
    settled = alerted.settle(Look((), frozenset({DISK.key})), at(DAY, "12:05"))
    assert [each.cause for each in settled.still_open] == ["slot_missed"]


def test_the_same_cause_again_on_the_same_date_is_recorded_and_not_told(alerted: WatchedLake, webhook: Webhook) -> None:
    for found in ((DISK,), (), (DISK,), ()):
        alerted.settle(seen(*found), NOON)
    assert states(alerted.lake) == [("disk_full", "opened"), ("disk_full", "closed")] * 2
    assert len({row["incident_id"] for row in history(alerted.lake)}) == 2
    assert len(webhook.posts) == 2


def test_another_date_is_another_incident(alerted: WatchedLake, webhook: Webhook) -> None:
    monday = breach("disk_full", date(2026, 11, 23), "full")
    alerted.settle(seen(DISK), NOON)
    alerted.settle(Look((DISK, monday), frozenset({DISK.key, monday.key})), at(monday.trade_date, "12:00"))
    assert len(webhook.posts) == 2


def test_looks_of_several_hosts_at_once_open_one_incident_and_tell_it_once(
    alerted: WatchedLake, webhook: Webhook, tmp_path: Path
) -> None:
    start = threading.Barrier(4)

    def host(number: int) -> None:
        start.wait()
        settle(IncidentContext(alerted.lake, tmp_path / f"state{number}", alerted.channel, NOON), [DISK], [DISK.key])

    hosts = [threading.Thread(target=host, args=(number,)) for number in range(4)]
    for each in hosts:
        each.start()
    for each in hosts:
        each.join()
    assert states(alerted.lake) == [("disk_full", "opened")]
    assert webhook.titles == ["Chainlake: severe: disk_full of 2026-11-20"]


def test_looks_of_one_host_at_once_tell_once(alerted: WatchedLake, webhook: Webhook) -> None:
    looks = [threading.Thread(target=alerted.settle, args=(seen(DISK, SLOT), NOON)) for _ in range(4)]
    for each in looks:
        each.start()
    for each in looks:
        each.join()
    assert len(history(alerted.lake)) == len(webhook.posts) == 2


def test_what_is_open_stands_in_the_list_with_its_next_step(alerted: WatchedLake) -> None:
    alerted.settle(seen(), NOON)
    assert alerted.todo == "# To do now\n\nNothing to do.\n"
    alerted.settle(seen(DISK, SLOT), NOON)
    assert "**severe** `disk_full` of 2026-11-20, since 2026-11-20 12:00 New York" in alerted.todo
    assert "95 % full; next: chainlake retention" in alerted.todo
    alerted.settle(seen(breach("disk_full", DAY, "the file system is 97 % full"), SLOT), at(DAY, "12:05"))
    assert "97 % full" in alerted.todo, "the list has what is known now"
    alerted.settle(seen(SLOT), at(DAY, "12:10"))
    assert "disk_full" not in alerted.todo
    assert [path.name for path in alerted.state.glob("*.new")] == []


def test_an_acknowledged_incident_stays_in_the_list_and_its_end_is_told(alerted: WatchedLake, webhook: Webhook) -> None:
    alerted.settle(seen(DISK), NOON)
    (incident,) = open_incidents(alerted.lake)
    taken = acknowledge(alerted.lake, alerted.state, incident.incident_id[-8:], "kim", at(DAY, "12:02"))
    assert (taken.acknowledged_by, taken.acknowledged_at) == ("kim", at(DAY, "12:02"))
    assert "acknowledged by kim at 2026-11-20 12:02" in alerted.todo
    alerted.settle(seen(DISK), at(DAY, "12:05"))
    assert "- [x] **severe** `disk_full`" in alerted.todo
    assert len(webhook.posts) == 1
    alerted.settle(seen(), at(DAY, "12:10"))
    assert [state for _, state in states(alerted.lake)] == ["opened", "acknowledged", "closed"]
    assert webhook.titles[-1] == "Chainlake: over: disk_full of 2026-11-20"


def test_what_can_never_be_mended_is_closed_by_a_person_for_a_reason(alerted: WatchedLake, webhook: Webhook) -> None:
    alerted.settle(seen(SLOT), NOON)
    (incident,) = open_incidents(alerted.lake)
    close(
        IncidentContext(alerted.lake, alerted.state, alerted.channel, NOON),
        incident.incident_id,
        "kim",
        "the exchange had no data",
    )
    assert open_incidents(alerted.lake) == []
    assert "closed by kim: the exchange had no data" in webhook.posts[-1]["message"]
    alerted.settle(seen(SLOT), at(DAY, "12:05"))
    assert open_incidents(alerted.lake) == [], "a person's word stands"
    assert len(webhook.posts) == 2


class Overtaken(Lake):
    """A lake in which another host acknowledges what is open just before the first change of ours is appended."""

    others: ClassVar[list[Path]] = []

    def append(self, *arguments: Any) -> bool:  # type: ignore[override]  # its base is wrapped to retry
        if self.others:
            state = self.others.pop()
            theirs = Lake(self.root, self.origin)
            for incident in open_incidents(theirs):
                acknowledge(theirs, state, incident.incident_id, "lee", NOON)
        return super().append(*arguments)


@pytest.mark.parametrize("change", ["acknowledged", "closed"])
def test_a_change_by_a_person_that_another_host_overtakes_is_made_all_the_same(
    alerted: WatchedLake, webhook: Webhook, tmp_path: Path, change: str
) -> None:
    alerted.settle(seen(SLOT), NOON)
    (incident,) = open_incidents(alerted.lake)
    lake = Overtaken(alerted.lake.root, alerted.lake.origin)
    Overtaken.others.append(tmp_path / "other")
    if change == "acknowledged":
        taken = acknowledge(lake, alerted.state, incident.incident_id, "kim", NOON)
        assert taken.acknowledged_by == "lee"
        assert [state for _, state in states(lake)] == ["opened", "acknowledged"]
    else:
        context = IncidentContext(lake, alerted.state, alerted.channel, NOON)
        close(context, incident.incident_id, "kim", "the exchange had no data")
        assert [state for _, state in states(lake)] == ["opened", "acknowledged", "closed"]
        assert open_incidents(lake) == []
        assert "closed by kim: the exchange had no data" in webhook.posts[-1]["message"]


@pytest.mark.parametrize("named", ["", "nothing-like-it"])
def test_an_incident_that_is_not_open_cannot_be_acknowledged(alerted: WatchedLake, named: str) -> None:
    alerted.settle(seen(DISK, SLOT), NOON)
    with pytest.raises(UsageError, match="chainlake ops incidents"):
        acknowledge(alerted.lake, alerted.state, named, "kim", NOON)


# -- a lake that is not there, or cannot be written --------------------------------------------------------------------


def test_a_failure_is_told_before_there_is_a_lake_and_recorded_once_there_is_one(
    tmp_path: Path, webhook: Webhook
) -> None:
    channel, state = Channel.of([webhook.url]), tmp_path / "state"
    failed = Breach("flow_failed:discover", DAY, "severe", "run a: the gateway refuses")
    for _ in range(2):
        report(tmp_path / "lake", state, failed, NOON, channel)
    assert webhook.titles == ["Chainlake: severe: flow_failed:discover of 2026-11-20"]
    assert "flow_failed:discover" in (state / "TODO.now.md").read_text()

    lake = Lake.create(tmp_path / "lake", "simulated", NOON)
    settle(IncidentContext(lake, state, channel, at(DAY, "12:05")), [], [])
    assert [each.cause for each in open_incidents(lake)] == ["flow_failed:discover"]
    settle(IncidentContext(lake, state, channel, at(DAY, "12:10")), [], [failed.key])
    assert webhook.titles[1:] == ["Chainlake: over: flow_failed:discover of 2026-11-20"]
    assert "Nothing to do" in (state / "TODO.now.md").read_text()


def test_a_failure_is_told_when_the_table_of_incidents_is_broken(alerted: WatchedLake, webhook: Webhook) -> None:
    for commit in (Path(alerted.lake.root) / "ops" / "incidents" / "_delta_log").glob("*.json"):
        commit.write_text("not json\n")
    settled = report(alerted.lake.root, alerted.state, DISK, NOON, alerted.channel)
    assert [each.cause for each in settled.opened] == ["disk_full"]
    assert len(webhook.posts) == 1
    assert "disk_full" in alerted.todo


def test_a_lake_that_does_not_know_who_closed_an_incident_takes_the_first_change(alerted: WatchedLake) -> None:
    table = DeltaTable(alerted.lake.uri("ops/incidents"))
    before = pa.schema(field for field in BY_NAME["ops/incidents"].schema if field.name != "changed_by")
    write_deltalake(table, before.empty_table(), mode="overwrite", schema_mode="overwrite")
    manifest = Path(alerted.lake.root) / "lake.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema_version": 2}))
    alerted.settle(seen(SLOT), NOON)
    (incident,) = open_incidents(alerted.lake)
    context = IncidentContext(alerted.lake, alerted.state, alerted.channel, NOON)
    close(context, incident.incident_id, "kim", "the exchange had no data")
    assert [row["changed_by"] for row in history(alerted.lake)] == [None, "kim"]
    alerted.settle(seen(SLOT), at(DAY, "12:05"))
    assert open_incidents(alerted.lake) == []
