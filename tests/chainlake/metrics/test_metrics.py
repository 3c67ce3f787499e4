"""chainlake metrics on a made lake: values of plain SQL and of the hand, in text that Prometheus reads."""

import http.client
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import promql_parser as promql
import pytest
from prometheus_client.parser import text_string_to_metric_families

from chainlake.metrics.exposition import LakeCollector, as_text, write_textfile
from chainlake.metrics.families import FAMILIES
from chainlake.ops.incidents.causes import Breach
from chainlake.ops.monitoring.watchdog import Look
from flows.active_steps import active_step
from flows.loopback import is_taken
from lake.catalog.connection import open_catalog
from lake.store import Lake
from tests.chainlake.metrics.promql import Samples, Vector, evaluated
from tests.chainlake.metrics.test_shipped import rules
from tests.chainlake.ops.monitoring.conftest import DAY, WatchedLake, at, session, settings_of
from tests.commands import CLI, run_chainlake
from tests.lake.conftest import free_ports

PROJECT = Path(__file__).resolve().parents[3]
BEFORE = date(2026, 11, 19)
# Slots 0 to 6 have begun, of which 10:30 (2) was missed, and the last is open.
NOW = at(DAY, "12:40")


def made(place: Path) -> WatchedLake:
    lake = Lake.create(place / "lake", "simulated", at(BEFORE, "09:00"))
    return WatchedLake(lake, settings_of(place))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> WatchedLake:
    """A Thursday that passed, and a Friday until 12:40 with a missed slot, errors, incidents and half a slot."""
    lake = made(tmp_path_factory.mktemp("metrics"))
    lake.freeze(BEFORE)
    lake.run("discover", at(BEFORE, "09:25"))
    for number in range(14):
        lake.slot(BEFORE, number)
    lake.publish(BEFORE, at(BEFORE, "17:40"))
    lake.publish(BEFORE, at(DAY, "07:35"), status="warned")
    lake.metrics(BEFORE, slot_coverage=True, fallback=False, oi_filled=True)
    lake.run("compact", at(date(2026, 11, 15), "10:00"))
    lake.run("vacuum", at(date(2026, 11, 15), "10:30"), status="failed")
    # After midnight, about the session before.
    lake.run("enrichment", at(DAY, "04:00"), day=BEFORE, asked=24, captured=20, failed=4, messages=48)
    lake.freeze(DAY)
    lake.run("discover", at(DAY, "09:25"), messages=100)
    for number in (0, 1, 3, 4):
        lake.slot(DAY, number, messages=48, elapsed_s=12.0, latency_p50_ms=900.0, mode="streaming", gateway="a:1")
    lake.quotes(DAY, [5], share=0.75)
    half = {"captured": 18, "failed": 6, "pacing_errors": 2, "status": "partial", "messages": 50, "elapsed_s": 8.0}
    lake.run(
        "snapshot",
        session(DAY).slots[5].sample_time,
        slot_30m=5,
        view="intraday",
        mode="streaming",
        gateway="a:1",
        latency_p50_ms=1000.0,
        **half,
    )
    # Captured, and killed before it was recorded.
    lake.quotes(DAY, [6])
    lake.error("ib_error", at(DAY, "12:01"), code=200, conid=1000)
    lake.error("ib_error", at(DAY, "12:01"), code=200, conid=1001)
    lake.error("timeout", at(DAY, "12:02"), conid=1002)
    lake.error("timeout", at(BEFORE, "12:02"), conid=1002)
    breaches = (
        Breach("slot_missed", DAY, "severe", "10:30"),
        Breach("flow_late:maintain", DAY, "warning", "due"),
        Breach("flow_late:prewarm", DAY, "warning", "due"),
    )
    lake.settle(Look(breaches, frozenset()), at(DAY, "11:05"))
    return lake


def samples(text: str) -> dict[str, Vector]:
    found: dict[str, Vector] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def collected(lake: WatchedLake, now: datetime = NOW) -> dict[str, Vector]:
    return samples(as_text(LakeCollector(lake.settings, lake.lake, now)))


def one(found: Samples, name: str, **labels: str) -> float:
    return found[name][tuple(sorted(labels.items()))]


# -- form --------------------------------------------------------------------------------------------------------------


def test_the_text_is_what_prometheus_reads_with_every_metric_and_its_labels(recorded: WatchedLake) -> None:
    text = as_text(LakeCollector(recorded.settings, recorded.lake, NOW))
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for family in FAMILIES:
        read = families[family.name.removesuffix("_total")]
        assert (read.type, read.documentation) == (family.kind, family.help)
        assert read.samples, family.name
        for sample in read.samples:
            assert sample.name == family.name
            assert set(sample.labels) == set(family.labels)
    assert len(families) == len(FAMILIES)


# -- values ------------------------------------------------------------------------------------------------------------


def test_slots_are_counted_as_the_watchdog_counts_them(recorded: WatchedLake) -> None:
    found = collected(recorded)
    assert one(found, "chainlake_slots_due") == 7
    # The one that raw alone knows counts.
    assert one(found, "chainlake_slots_captured") == 6
    assert one(found, "chainlake_slots_missed") == 1
    # At 11:00 the window of 10:30 is over, and a minute later what was captured in it is committed.
    assert one(collected(recorded, at(DAY, "11:00")), "chainlake_slots_missed") == 0
    assert one(collected(recorded, at(DAY, "11:01")), "chainlake_slots_missed") == 1
    with active_step(recorded.state, "snapshot", DAY, 2):
        assert one(collected(recorded), "chainlake_slots_missed") == 0
    # A Saturday owes nothing.
    saturday = collected(recorded, at(DAY + timedelta(days=1), "12:00"))
    assert [one(saturday, f"chainlake_slots_{what}") for what in ("due", "captured", "missed")] == [0, 0, 0]


def test_the_last_slot_says_when_how_much_and_how_fast(recorded: WatchedLake) -> None:
    found = collected(recorded)
    assert one(found, "chainlake_last_slot_timestamp_seconds") == at(DAY, "12:00").timestamp()
    # 18 of 24 contracts, AAPL first, of which there are twelve: MSFT has the six that are missing.
    assert one(found, "chainlake_last_slot_coverage_ratio") == 18 / 24
    assert one(found, "chainlake_last_slot_worst_coverage_ratio") == 6 / 12
    assert one(found, "chainlake_last_slot_seconds") == 8.0
    assert one(found, "chainlake_last_slot_contracts_per_second") == 24 / 8
    # A hundred lines allow 50 messages a second, of which 98 % are used, and a contract takes two.
    bound = one(found, "chainlake_last_slot_bound_contracts_per_second", bound_by="messages")
    assert bound == pytest.approx(50 * 0.98 / 2)


def test_the_work_of_today_is_what_sql_counts(recorded: WatchedLake) -> None:
    found = collected(recorded)
    midnight = "timestamptz '2026-11-20 05:00:00+00'"
    with open_catalog(recorded.lake.root) as catalog:
        runs = catalog.execute(
            f"select step, status, count(*) from ops.runs where ended_at >= {midnight} group by all"
        ).fetchall()
        counts = catalog.execute(
            "select step, coalesce(sum(asked), 0), coalesce(sum(captured), 0), coalesce(sum(failed), 0), "
            f"coalesce(sum(messages), 0), coalesce(sum(pacing_errors), 0) from ops.runs where ended_at >= {midnight} "
            "group by all"
        ).fetchall()
        errors = catalog.execute(
            "select step, error_type, coalesce(code::varchar, ''), count(*) from ops.errors "
            f"where observed_at >= {midnight} group by all"
        ).fetchall()
    assert {(("status", status), ("step", step)): n for step, status, n in runs} == found["chainlake_runs_total"]
    for place, name in enumerate(
        ("contracts_asked", "contracts_captured", "contracts_failed", "messages", "pacing_errors")
    ):
        assert found[f"chainlake_{name}_total"] == {(("step", step),): sums[place] for step, *sums in counts}
    assert found["chainlake_errors_total"] == {
        (("code", code), ("error_type", kind), ("step", step)): n for step, kind, code, n in errors
    }
    # And by hand: five recorded slots of 24, the enrichment of the day before, and nothing of before midnight.
    assert one(found, "chainlake_contracts_asked_total", step="snapshot") == 5 * 24
    assert one(found, "chainlake_contracts_captured_total", step="enrichment") == 20
    assert one(found, "chainlake_errors_total", step="snapshot", error_type="ib_error", code="200") == 2
    assert one(found, "chainlake_errors_total", step="snapshot", error_type="timeout", code="") == 1


def test_a_step_that_ended_badly_has_a_last_run_and_no_good_one(recorded: WatchedLake) -> None:
    found = collected(recorded)
    sunday = at(date(2026, 11, 15), "10:00") + timedelta(seconds=90)
    assert one(found, "chainlake_step_last_ok_timestamp_seconds", step="compact") == sunday.timestamp()
    vacuum = sunday + timedelta(minutes=30)
    assert one(found, "chainlake_step_last_run_timestamp_seconds", step="vacuum") == vacuum.timestamp()
    assert (("step", "vacuum"),) not in found["chainlake_step_last_ok_timestamp_seconds"]


def test_the_latest_publication_counts_and_a_recorded_day_is_owed_after_its_deadline(recorded: WatchedLake) -> None:
    found = collected(recorded)
    assert found["chainlake_publication_status"] == {
        (("status", "passed"),): 0,
        (("status", "warned"),): 1,
        (("status", "failed"),): 0,
    }
    assert one(found, "chainlake_last_publication_timestamp_seconds") == at(DAY, "07:35").timestamp()
    assert one(found, "chainlake_published_date_timestamp_seconds") == datetime(2026, 11, 19, tzinfo=UTC).timestamp()
    assert one(found, "chainlake_unpublished_dates") == 0
    assert one(collected(recorded, at(DAY, "23:44")), "chainlake_unpublished_dates") == 0
    assert one(collected(recorded, at(DAY, "23:46")), "chainlake_unpublished_dates") == 1
    # As it was before the morning.
    assert one(collected(recorded, at(BEFORE, "18:00")), "chainlake_publication_status", status="passed") == 1


def test_quality_is_that_of_the_latest_published_date(recorded: WatchedLake) -> None:
    found = collected(recorded)
    assert found["chainlake_quality_breached"] == {
        (("metric", "fallback"),): 1,
        (("metric", "oi_filled"),): 0,
        (("metric", "slot_coverage"),): 0,
    }
    assert one(found, "chainlake_quality_value", metric="fallback") == 0.5
    assert one(found, "chainlake_quality_threshold", metric="fallback") == 0.9
    assert one(found, "chainlake_open_interest_filled_ratio") == 0.5


def test_open_incidents_are_counted_by_cause_without_the_names_of_flows(recorded: WatchedLake) -> None:
    found = collected(recorded)
    assert found["chainlake_open_incidents"] == {
        (("acknowledged", "false"), ("cause", "slot_missed"), ("severity", "severe")): 1,
        (("acknowledged", "false"), ("cause", "flow_late"), ("severity", "warning")): 2,
    }
    assert one(found, "chainlake_oldest_open_incident_timestamp_seconds") == at(DAY, "11:05").timestamp()


def test_tables_are_as_large_as_their_files_on_the_disk(recorded: WatchedLake) -> None:
    found = collected(recorded)
    for name in recorded.lake.table_names():
        # Nothing was rewritten yet: each file that lies there is live.
        files = list(Path(recorded.lake.uri(name)).rglob("*.parquet"))
        files = [file for file in files if "_delta_log" not in file.parts]
        assert one(found, "chainlake_table_files", table=name) == len(files)
        assert one(found, "chainlake_table_bytes", table=name) == sum(file.stat().st_size for file in files)
        assert one(found, "chainlake_table_version", table=name) == recorded.lake.version(name)
    assert len(found["chainlake_table_bytes"]) == len(recorded.lake.table_names())
    free = shutil.disk_usage(recorded.lake.root).free
    assert one(found, "chainlake_disk_free_bytes", place="lake") == pytest.approx(free, rel=0.05)
    assert 0 < one(found, "chainlake_disk_used_ratio", place="state") <= 1


def test_a_lake_in_which_nothing_is_recorded_has_its_zeros(watched: WatchedLake) -> None:
    found = collected(watched, at(DAY, "09:00"))
    assert one(found, "chainlake_slots_due") == 0
    assert one(found, "chainlake_unpublished_dates") == 0
    assert set(found["chainlake_collection_failed"].values()) == {0}
    assert "chainlake_last_slot_timestamp_seconds" not in found


def test_a_part_that_cannot_be_read_is_told_of_and_keeps_no_other_back(watched: WatchedLake) -> None:
    watched.freeze(DAY)
    watched.slot(DAY, 0)
    watched.error("timeout", at(DAY, "09:31"), conid=1000)
    (file,) = Path(watched.lake.uri("ops/errors")).rglob("*.parquet")
    file.write_bytes(b"no Parquet at all")
    found = collected(watched, at(DAY, "09:40"))
    failed = {dict(labels)["part"] for labels, value in found["chainlake_collection_failed"].items() if value}
    assert failed == {"errors", "last_slot"}
    assert one(found, "chainlake_slots_captured") == 1
    assert one(found, "chainlake_runs_total", step="snapshot", status="ok") == 1


# -- rules -------------------------------------------------------------------------------------------------------------

# Over a time that one collection does not span.
OVER_TIME = {"ChainlakePacingErrors", "ChainlakeDiskFillsUp"}


def fired(found: Samples, now: datetime) -> set[str]:
    return {
        rule["alert"]
        for rule in rules()
        if rule["alert"] not in OVER_TIME and evaluated(promql.parse(rule["expr"]), found, now.timestamp())
    }


def test_the_rules_fire_for_what_is_wrong_and_for_nothing_else(recorded: WatchedLake, tmp_path: Path) -> None:
    on_this_host = {"ChainlakeDiskFull"}
    assert fired(collected(recorded), NOW) - on_this_host == {
        # The made metrics have the value of 0.5.
        *("ChainlakeSlotMissed", "ChainlakeSevereIncident", "ChainlakeOpenInterestMissing"),
    }
    late = at(DAY, "23:46")
    assert "ChainlakeNotPublished" in fired(collected(recorded, late), late)
    weeks_later = at(date(2026, 12, 1), "08:00")
    assert "ChainlakeMaintenanceOverdue" in fired(collected(recorded, weeks_later), weeks_later)
    assert "ChainlakeMetricsStale" in fired(collected(recorded), NOW + timedelta(minutes=16))
    assert fired({}, NOW) == {"ChainlakeMetricsAbsent"}

    good = made(tmp_path)
    good.freeze(DAY)
    good.slot(DAY, 0)
    good.slot(DAY, 1)
    assert fired(collected(good, at(DAY, "10:20")), at(DAY, "10:20")) - on_this_host == set()
    assert fired(collected(good, at(DAY, "10:40")), at(DAY, "10:40")) - on_this_host == {"ChainlakeSlotLate"}
    good.publish(DAY, at(DAY, "10:41"), status="failed")
    assert "ChainlakePublicationFailed" in fired(collected(good, at(DAY, "10:45")), at(DAY, "10:45"))


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_file_is_replaced_as_a_whole_while_others_read_it(recorded: WatchedLake, tmp_path: Path) -> None:
    file = tmp_path / "chainlake.prom"
    collector = LakeCollector(recorded.settings, recorded.lake, NOW)
    write_textfile(collector, file)
    whole = len(samples(file.read_text()))
    stop, seen = threading.Event(), set[int]()

    def read() -> None:
        while not stop.is_set():
            seen.add(len(samples(file.read_text())))

    reading = threading.Thread(target=read)
    reading.start()

    def write() -> None:
        for _ in range(20):
            write_textfile(collector, file)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stop.set()
    reading.join()
    assert seen == {whole}
    assert [each.name for each in tmp_path.iterdir()] == ["chainlake.prom"]


def test_the_command_writes_or_prints_the_same_text(recorded: WatchedLake, tmp_path: Path) -> None:
    given = ("--lake", recorded.lake.root, "--at", f"{DAY} 12:40")
    printed = run_chainlake("metrics", *given, place=tmp_path)
    written = run_chainlake("metrics", *given, "--output", "lake.prom", place=tmp_path)
    assert (printed.returncode, written.returncode, written.stdout) == (0, 0, "")
    texts = [samples(text) for text in (printed.stdout, (tmp_path / "lake.prom").read_text())]
    for found in texts:
        found.pop("chainlake_collection_seconds")
        found.pop("chainlake_disk_free_bytes")
        found.pop("chainlake_disk_used_ratio")
    assert texts[0] == texts[1]
    assert one(texts[0], "chainlake_slots_due") == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output", "lake.txt"), "ending .prom"),
        (("--output", "no/where/lake.prom"), "there is no folder"),
        (("--output", "lake.prom", "--serve"), "choose one"),
        (("--print", "everything"), "use board or alerts"),
        (("--at", "noon"), "is no instant"),
    ],
)
def test_what_is_wrong_is_one_line(
    recorded: WatchedLake, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = run_chainlake("metrics", "--lake", recorded.lake.root, *arguments, place=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@contextmanager
def served(lake: WatchedLake, place: Path) -> Iterator[int]:
    (port,) = free_ports(1)
    command = [*CLI, "metrics", "--lake", lake.lake.root, "--at", f"{DAY} 12:40", "--serve", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert f"http://127.0.0.1:{port}/metrics" in server.stdout.readline()
            yield port
        finally:
            server.terminate()


def asked(port: int, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics", headers=headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def test_it_is_served_to_this_host_and_to_no_page_of_others(recorded: WatchedLake, tmp_path: Path) -> None:
    with served(recorded, tmp_path) as port:
        answers: list[tuple[int, str]] = []
        asking = [threading.Thread(target=lambda: answers.append(asked(port))) for _ in range(3)]
        for each in asking:
            each.start()
        for each in asking:
            each.join()
        # Who asks at once is given the same collection.
        assert [status for status, _ in answers] == [200, 200, 200]
        assert len({text for _, text in answers}) == 1
        assert one(samples(answers[0][1]), "chainlake_slots_missed") == 1
        assert asked(port, Host=f"rebound.example:{port}")[0] == 403
        assert asked(port, Origin="http://evil.example")[0] == 403
        assert asked(port, Origin="null")[0] == 403
        assert asked(port, Host="[")[0] == 403
        with pytest.raises(OSError, match="refused"):
            http.client.HTTPConnection("127.0.0.2", port, timeout=5).connect()
        taken = run_chainlake("metrics", "--lake", recorded.lake.root, "--serve", "--port", str(port), place=tmp_path)
        assert taken.returncode == 2
        assert "is taken by" in taken.stderr
        assert is_taken(port)
