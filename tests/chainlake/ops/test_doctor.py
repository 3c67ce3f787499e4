"""``chainlake doctor`` against the real simulated gateway, real lakes and the host that runs the tests."""

import base64
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainlake.ops.doctor.broker import broker_checks, ib_hours, skew_s
from chainlake.ops.doctor.check import Check, exit_code, fail, guarded, ok, warn
from chainlake.ops.doctor.configuration import (
    calendar_checks,
    capacity_checks,
    configuration_checks,
    symbol_checks,
    unknown_variables,
)
from chainlake.ops.doctor.host import host_checks, linux_sleep, mac_sleep, place_checks, prefect_check
from chainlake.ops.doctor.permissions import MEANINGS, Answer, judge
from chainlake.ops.doctor.tables import open_lake, table_checks
from flows.prefect_environment import QUIET
from flows.prefect_password import CLIENT
from ingest.broker import BrokerSession, Quote, RequestError
from ingest.calendar.sessions import new_york
from ingest.contracts import Underlying
from ingest.settings import PROJECT, Settings, load
from lake.store import Lake
from tests.commands import run_chainlake
from tests.ingest import storm
from tests.small_lake import CONTRACTS_A_DAY, small_lake

NOW = datetime(2026, 11, 20, 16, tzinfo=UTC)
AAPL = (Underlying("AAPL"),)


def by_name(checks: Sequence[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


async def examined(settings: Settings, lake: Lake | None = None) -> dict[str, Check]:
    return by_name(await broker_checks(settings, AAPL, lake, NOW))


def scenario(folder: Path, **fault: Any) -> Path:
    """A scenario file with one fault."""
    file = folder / "scenario.yaml"
    file.write_text(json.dumps({"faults": [fault]}))
    return file


# -- the gateway -------------------------------------------------------------------------------------------------------


async def test_a_gateway_with_live_data_passes_every_check(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake", "simulated", NOW)
    async with storm.gateway() as gateway:
        checks = await examined(storm.settings_for(gateway), lake)
    assert {check.status for check in checks.values()} == {"ok"}
    assert set(checks) == {
        "connection",
        "clock",
        "origin",
        "market data, underlying",
        "market data, option",
        "data farms",
    }
    assert "live (type 1)" in checks["market data, option"].found
    assert "AAPL 26" in checks["market data, option"].found


async def test_after_the_close_the_frozen_quote_is_taken() -> None:
    async with storm.gateway(at=storm.DAY.close + timedelta(hours=1)) as gateway:
        checks = await examined(storm.settings_for(gateway))
    for kind in ("underlying", "option"):
        check = checks[f"market data, {kind}"]
        assert check.status == "ok"
        assert "frozen (type 2): bid" in check.found


async def test_an_account_with_delayed_options_is_told_what_to_subscribe_to() -> None:
    async with storm.gateway(scenario=PROJECT / "config" / "scenarios" / "delayed-account.yaml") as gateway:
        checks = await examined(storm.settings_for(gateway))
        strict = await examined(storm.settings_for(gateway, delayed_fallback="off"))
    assert checks["market data, underlying"].status == "ok"
    option = checks["market data, option"]
    assert (option.status, "354" in option.found, "delayed data comes: bid" in option.found) == ("warn", True, True)
    assert "OPRA" in option.next_step
    assert strict["market data, option"].status == "fail"


async def test_without_any_permission_the_check_fails(tmp_path: Path) -> None:
    async with storm.gateway(scenario=scenario(tmp_path, fault="no_permission", instruments=["option"])) as gateway:
        option = (await examined(storm.settings_for(gateway)))["market data, option"]
    assert option.status == "fail"
    assert "delayed data did not come either" in option.found


async def test_settings_that_ask_for_delayed_data_are_told_that_it_is_delayed() -> None:
    async with storm.gateway() as gateway:
        checks = await examined(storm.settings_for(gateway, ib={"market_data_type": 3}))
    assert checks["market data, underlying"].status == "warn"
    assert "delayed (type 3)" in checks["market data, option"].found


async def test_a_competing_session_is_named_and_costs_the_verdict(tmp_path: Path) -> None:
    async with storm.gateway(scenario=scenario(tmp_path, fault="competing_session")) as gateway:
        checks = await examined(storm.settings_for(gateway))
    for kind in ("underlying", "option"):
        check = checks[f"market data, {kind}"]
        assert check.status == "fail"
        assert "10197" in check.found
        assert "second user name" in check.next_step


async def test_a_farm_that_is_down_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chainlake.ops.doctor.broker.ANSWER_S", 0.5)
    async with storm.gateway(scenario=scenario(tmp_path, fault="farm_down", farm="usopt")) as gateway:
        checks = await examined(storm.settings_for(gateway))
    assert checks["data farms"].status == checks["market data, option"].status == "warn"
    assert "option_farm" in checks["data farms"].found
    assert checks["market data, underlying"].status == "ok"


@pytest.mark.parametrize(("ahead_s", "status"), [(0, "ok"), (10, "warn"), (-10, "warn"), (300, "fail")])
async def test_the_gateways_clock_is_compared_with_the_hosts(ahead_s: int, status: str) -> None:
    # Without a control port the gateway is taken for one on real time.
    at = datetime.now(UTC) + timedelta(seconds=ahead_s)
    async with storm.gateway(control_port=None, at=at, speed=1) as gateway:
        clock = (await examined(storm.settings_for(gateway)))["clock"]
    assert clock.status == status
    if ahead_s:
        assert float(clock.found.split()[-2]) == pytest.approx(abs(ahead_s), abs=1.5)


@given(st.floats(-100, 100), st.floats(0, 5), st.floats(0, 5), st.timedeltas(timedelta(0), timedelta(days=365)))
def test_the_skew_is_never_overstated(ahead_s: float, there_s: float, back_s: float, later: timedelta) -> None:
    """The gateway cuts its answer to whole seconds, and the way there and back takes time."""
    sent = NOW + later
    shown = sent + timedelta(seconds=there_s + ahead_s)
    received = sent + timedelta(seconds=there_s + back_s)
    found = skew_s(shown.replace(microsecond=0), sent, received)
    assert abs(found) <= abs(ahead_s) + 1e-5
    assert abs(found - ahead_s) <= 1 + there_s + back_s


async def test_a_closed_port_is_one_failed_check_and_exit_code_3() -> None:
    checks = await broker_checks(load(ib={"port": 1}), AAPL, None, NOW)
    (connection,) = (check for check in checks if check.name == "connection")
    assert (connection.status, connection.unreachable) == ("fail", True)
    assert "4002 paper" in connection.next_step
    assert exit_code(checks) == 3
    assert exit_code([*checks, fail("disk", "full", "")]) == 1


async def test_a_client_id_that_is_taken_is_told() -> None:
    async with storm.gateway() as gateway:
        settings = storm.settings_for(gateway)
        async with BrokerSession.connect(settings.ib):
            checks = await examined(settings)
    assert checks["connection"].status == "warn"
    assert f"client id {settings.ib.client_id} is in use" in checks["connection"].found


async def test_a_lake_of_another_origin_fails(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake", "ibkr-live", NOW)
    async with storm.gateway() as gateway:
        checks = await examined(storm.settings_for(gateway), lake)
    assert checks["origin"].status == "fail"


async def test_an_underlying_that_ib_does_not_know_fails() -> None:
    async with storm.gateway() as gateway:
        checks = by_name(await broker_checks(storm.settings_for(gateway), [Underlying("ZZZZ")], None, NOW))
    assert "ZZZZ" in checks["market data, underlying"].found


# -- what IB's codes mean ----------------------------------------------------------------------------------------------

UNSEEN: dict[str, Any] = dict.fromkeys(Quote.__slots__) | {"bid_seen": False, "ask_seen": False, "market_data_type": 1}
NOTHING = Quote(**UNSEEN)
MARKET = Quote(**UNSEEN | {"bid": 1.0, "ask": 1.1, "bid_seen": True, "ask_seen": True})


def answer(code: int | None = None, advisory: int | None = None, quote: Quote = NOTHING) -> Answer:
    return Answer(
        "option",
        "AAPL",
        quote,
        RequestError(code, "as IB says") if code else None,
        RequestError(advisory, "as IB says") if advisory else None,
    )


@pytest.mark.parametrize("code", [354, 10089, 10168, 10197, 200])
def test_each_error_is_explained_with_a_next_step(code: int) -> None:
    check = judge(answer(code), None, paper=False, market_open=True, fallback=True)
    assert check.status == "fail"
    assert f"error {code}, {MEANINGS[code]}" in check.found
    assert check.next_step


@pytest.mark.parametrize("code", [10090, 10091, 10167])
def test_each_remark_beside_data_is_explained(code: int) -> None:
    check = judge(answer(advisory=code, quote=MARKET), None, paper=False, market_open=True, fallback=True)
    assert check.status == "warn"
    assert MEANINGS[code] in check.found
    assert "OPRA" in check.next_step


def test_a_paper_account_is_told_to_share_the_live_data() -> None:
    check = judge(answer(354), answer(quote=MARKET), paper=True, market_open=True, fallback=True)
    assert check.status == "warn"
    assert "paper account" in check.next_step


def test_silence_counts_while_the_market_is_open_only() -> None:
    assert judge(answer(), None, paper=False, market_open=True, fallback=True).status == "warn"
    assert judge(answer(), None, paper=False, market_open=False, fallback=True).status == "ok"


# -- configuration, calendar, host -------------------------------------------------------------------------------------


def test_a_wrong_universe_and_wrong_actions_are_named_and_the_other_checks_go_on(tmp_path: Path) -> None:
    universe, actions = tmp_path / "universe.csv", tmp_path / "actions.csv"
    universe.write_text("symbol,conid,sec_type,exchange,weight,group,views\nAAPL,one,,,,,\n")
    actions.write_text((PROJECT / "config" / "corporate_actions.csv").read_text() + "AAPL,merge,2026-01-02\n")
    settings = load(universe={"file": universe}, reference={"corporate_actions": actions})
    checks = by_name(configuration_checks(settings, None, NOW))
    assert (checks["universe"].status, "line 2" in checks["universe"].found) == ("fail", True)
    assert (checks["corporate actions"].status, "actions.csv, line" in checks["corporate actions"].found) == (
        "fail",
        True,
    )
    assert checks["calendar"].status == "ok"


def test_an_action_of_a_symbol_that_is_nowhere_is_named(tmp_path: Path) -> None:
    universe, actions = tmp_path / "universe.csv", tmp_path / "actions.csv"
    universe.write_text("symbol,conid,sec_type,exchange,weight,group,views\nmeta,,,,,,\n")
    shipped = (PROJECT / "config" / "corporate_actions.csv").read_text().splitlines()
    actions.write_text("\n".join(line for line in shipped if line.startswith(("symbol,", "AAPL,", "FB,", "GE,"))))
    settings = load(universe={"file": universe}, reference={"corporate_actions": actions})
    # FB's rows are META's history.
    (check,) = symbol_checks(settings, None)
    assert (check.status, check.found) == ("warn", "neither the universe nor the lake has AAPL, GE")
    (check,) = symbol_checks(settings, small_lake(tmp_path / "lake"))
    assert (check.status, check.found) == ("warn", "neither the universe nor the lake has GE")
    universe.write_text(universe.read_text() + "ge,,,,,,\n")
    assert [check.status for check in symbol_checks(settings, small_lake(tmp_path / "another"))] == ["ok"]


def test_variables_that_nothing_reads_are_told() -> None:
    names = ("CHAINLAKE_LAKE__ROOT", "CHAINLAKE_LAKE__ROOTS", "CHAINLAKE_IBB__PORT", "CHAINLAKE_ALERT_URLS")
    given = dict.fromkeys(names, "")
    assert unknown_variables(given | {"IB_PORT": ""}) == ["CHAINLAKE_IBB__PORT", "CHAINLAKE_LAKE__ROOTS"]


def test_the_calendar_check_names_the_next_session() -> None:
    (check,) = calendar_checks(new_york(date(2026, 11, 26), time()))
    assert check.status == "ok"
    assert "2026-11-27: 8 slots, 09:30 to 13:00" in check.found


def test_a_guard_turns_what_breaks_into_a_failed_check() -> None:
    def broken() -> Iterator[Check]:
        yield ok("first", "fine")
        raise RuntimeError("two\nlines")

    first, second = guarded("second", broken)
    assert (first.status, second.status, second.found) == ("ok", "fail", "two lines")


def test_this_host_passes_what_it_can_be_asked() -> None:
    checks = by_name(host_checks())
    for name in ("python", "libraries", "duckdb extensions", "time zone"):
        assert checks[name].status == "ok", checks[name]


PMSET = """System-wide power settings:
Currently in use:
 standby              1
 displaysleep         10
 sleep                {minutes} (sleep prevented by sharingd)
"""


@pytest.mark.parametrize(
    ("check", "status"),
    [
        (mac_sleep(PMSET.format(minutes=1)), "warn"),
        (mac_sleep(PMSET.format(minutes=0)), "ok"),
        (mac_sleep(""), "ok"),
        (linux_sleep("static\nstatic\nstatic\n", has_battery=True), "warn"),
        (linux_sleep("static\nstatic\nstatic\n", has_battery=False), "ok"),
        (linux_sleep("masked\nmasked\nmasked\n", has_battery=True), "ok"),
        (linux_sleep("", has_battery=True), "ok"),
    ],
)
def test_a_host_that_may_sleep_is_warned_of(check: Check, status: str) -> None:
    assert check.status == status
    assert bool(check.next_step) == (status == "warn")


OUR_PASSWORD = f"Basic {base64.b64encode(b'chainlake:ours').decode()}"


@contextmanager
def http_server(code: int, takes: str | None = OUR_PASSWORD) -> Iterator[int]:
    """The port of a server of loopback: its health is `code`, and it lets in whom it `takes` (None: all)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            let_in = takes is None or self.headers.get("Authorization") == takes
            self.send_response(code if self.path == "/api/health" else 200 if let_in else 401)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def test_the_prefect_server_is_asked_for_its_health_and_its_key_is_never_shown() -> None:
    assert prefect_check({}).status == "ok"
    with http_server(200) as port:
        url = f"http://127.0.0.1:{port}/api"
        assert prefect_check({**QUIET, "PREFECT_API_URL": url}).status == "ok"
        chatty = prefect_check({"PREFECT_API_URL": url})
        assert (chatty.status, "DO_NOT_TRACK" in chatty.found) == ("warn", True)
        assert prefect_check({**QUIET, "PREFECT_API_URL": url, CLIENT: "chainlake:ours"}).status == "ok"
        stranger = prefect_check({**QUIET, "PREFECT_API_URL": url, CLIENT: "chainlake:theirs"})
        assert (stranger.status, "refuses the password" in stranger.found) == ("fail", True)
        assert "theirs" not in stranger.found + stranger.next_step
    gone = prefect_check({"PREFECT_API_URL": f"http://user:secret@127.0.0.1:{port}/api"})
    assert gone.status == "fail"
    assert "secret" not in gone.found + gone.next_step
    with http_server(503) as port:
        assert prefect_check({"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}).status == "fail"
    assert prefect_check({"PREFECT_API_URL": "file:///etc/passwd"}).status == "fail"


def test_a_prefect_server_that_lets_everybody_in_is_told() -> None:
    with http_server(200, takes=None) as port:
        found = prefect_check({**QUIET, "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", CLIENT: "chainlake:ours"})
    assert (found.status, "no password" in found.found) == ("fail", True)


def test_a_full_disk_and_an_open_state_folder_are_told(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    settings = load(
        lake={"root": str(tmp_path / "lake")},
        state={"dir": str(state)},
        maintenance={"disk_used_pct": 0.001},
    )
    checks = by_name(place_checks(settings))
    assert (checks["disk"].status, checks["state"].status) == ("fail", "warn")
    state.chmod(0o755)
    assert by_name(place_checks(settings))["state"].status == "warn"
    state.chmod(0o750)
    assert by_name(place_checks(settings))["state"].status == "ok"


@pytest.mark.parametrize(
    ("day", "at", "reset", "login"),
    [
        (date(2026, 11, 20), time(0, 30), "warn", "ok"),  # Friday
        (date(2026, 11, 20), time(12, 0), "ok", "ok"),
        (date(2026, 11, 21), time(0, 30), "ok", "warn"),  # Saturday: no reset
        (date(2026, 11, 22), time(12, 0), "ok", "warn"),
        (date(2026, 11, 23), time(9, 24), "ok", "warn"),
        (date(2026, 11, 23), time(9, 25), "ok", "ok"),
    ],
)
def test_ibs_own_hours_are_told(day: date, at: time, reset: str, login: str) -> None:
    checks = by_name(ib_hours(new_york(day, at)))
    assert (checks["ib reset"].status, checks["ib login"].status) == (reset, login)


# -- the lake ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return small_lake(tmp_path_factory.mktemp("doctor") / "lake")


def test_a_lake_in_order_passes_and_tells_of_its_last_publication(lake: Lake) -> None:
    checks = by_name(table_checks(load(lake={"root": lake.root}), lake, NOW))
    assert (checks["tables"].status, checks["schema"].status) == ("ok", "ok")
    assert checks["published"] == warn("published", "2026-11-20, failed", "chainlake qa --date 2026-11-20")


def test_a_session_that_is_due_and_not_published_is_told(tmp_path: Path) -> None:
    live = Lake.create(tmp_path / "lake", "ibkr-live", NOW)
    settings = load(lake={"root": live.root})
    assert by_name(table_checks(settings, live, NOW))["published"].status == "warn"
    row = {
        "trade_date": date(2026, 11, 19),
        "published_at": NOW,
        "status": "passed",
        "versions": [],
        "code_version": "0",
        "actions_hash": "",
        "run_id": "1",
    }
    live.append("ops/published", [row], "1", 1)
    evening = datetime(2026, 11, 20, 23, 30, tzinfo=UTC)
    assert by_name(table_checks(settings, live, NOW))["published"].status == "ok"
    late = by_name(table_checks(settings, live, evening))["published"]
    assert (late.status, "2026-11-20 is not" in late.found) == ("warn", True)


@pytest.mark.parametrize("damage", ["log", "data"])
def test_a_table_that_cannot_be_read_is_named_and_the_others_are_looked_at(tmp_path: Path, damage: str) -> None:
    broken = small_lake(tmp_path / "lake")
    folder = Path(broken.root) / "clean" / "daily_clean"
    if damage == "log":
        for file in (folder / "_delta_log").glob("*.json"):
            file.write_text("{not json")
    else:
        for file in folder.rglob("*.parquet"):
            file.write_bytes(b"PAR1")
    checks = table_checks(load(lake={"root": broken.root}), broken, NOW)
    failed = [check for check in checks if check.status == "fail"]
    assert [check.name for check in failed] == ["table clean/daily_clean"]
    assert "\n" not in failed[0].found
    assert "published" in by_name(checks)


def test_no_lake_yet_is_a_warning_and_a_newer_one_a_failure(tmp_path: Path) -> None:
    found, (check,) = open_lake(load(lake={"root": str(tmp_path / "none")}))
    assert (found, check.status) == (None, "warn")
    newer = Lake.create(tmp_path / "lake", "simulated", NOW)
    manifest = Path(newer.root) / "lake.json"
    manifest.write_text(json.dumps({"origin": "simulated", "schema_version": 99, "created_at": str(NOW)}))
    found, (check,) = open_lake(load(lake={"root": newer.root}))
    assert (found, check.status) == (None, "fail")
    assert "upgrade" in check.found


def test_a_preset_that_covers_less_than_nine_tenths_is_warned_of(lake: Lake) -> None:
    (enough,) = capacity_checks(load(lake={"root": lake.root}, acquisition={"preset": "stage-0"}), lake)
    assert enough.status == "ok"
    assert f"{CONTRACTS_A_DAY} contracts of 2026-11-20" in enough.found
    # 24 contracts take 48 messages, and in the 28 minutes of a slot 28 can be sent.
    slow = load(lake={"root": lake.root}, ib={"messages_per_second": 1 / 60})
    (short,) = capacity_checks(slow, lake)
    assert short.status == "warn"
    assert "chainlake capacity" in short.next_step


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "environment", "code"),
    [
        (("--offline",), {}, 0),
        (("--port", "1"), {}, 3),
        (("--offline",), {"CHAINLAKE_MAINTENANCE__DISK_USED_PCT": "0.001"}, 1),
        (("--offline",), {"CHAINLAKE_IB__PORT": "many"}, 1),
    ],
)
def test_the_command_prints_every_check_and_its_exit_code_says_what_failed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    code: int,
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    for form in ((), ("--json",)):
        done = run_chainlake(
            *("doctor", *arguments, *form),
            place=tmp_path,
            environment={"CHAINLAKE_MAINTENANCE__DISK_USED_PCT": "100", **environment},
        )
        assert done.returncode == code, done.stdout
    names = {check["name"] for check in json.loads(done.stdout)}
    assert {"settings", "calendar", "python", "libraries", "prefect", "alerts"} <= names
    assert "Traceback" not in done.stderr
