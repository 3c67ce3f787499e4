"""The dashboard, run by Streamlit's own test harness on a small real lake."""

import http.client
import shutil
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Selectbox

from chainlake.dashboard import queries
from ingest.calendar.sessions import session_on
from lake.catalog.connection import Limits, open_catalog
from lake.store import Lake
from tests.small_lake import CONTRACTS_A_DAY, FAILED, PASSED, SPOT, UNRESOLVED_CONID, contracts, slots_of, small_lake

APP = Path(__file__).resolve().parents[2] / "chainlake" / "dashboard" / "app.py"
LIMITS = Limits(memory="500MB", threads=1)
EACH = CONTRACTS_A_DAY // len(SPOT)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return small_lake(tmp_path_factory.mktemp("dashboard") / "lake")


def page(root: str, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setattr("sys.argv", ["app.py", "--lake", root])
    return AppTest.from_file(str(APP), default_timeout=60).run()


def chosen(app: AppTest, label: str) -> Selectbox[Any]:
    return next(box for box in app.selectbox if box.label == label)


def texts(elements: object) -> str:
    return " ".join(str(element.value) for element in elements)  # type: ignore[attr-defined]


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_latest_date_and_its_failed_publication(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(lake.root, monkeypatch)
    assert not app.exception
    assert not app.error
    dates, metrics = app.dataframe[0].value, app.dataframe[1].value
    assert list(dates["trade_date"].astype(str)) == [str(FAILED), str(PASSED)]
    assert list(dates["status"]) == ["failed", "passed"]
    assert dates["detail"].iloc[0] == "slot_coverage below 0.9"
    assert list(metrics["state"]) == ["failed"]
    assert chosen(app, "Trade date").value == FAILED
    assert chosen(app, "Slot (New York)").value == "16:00"


def test_choosing_a_date_an_underlying_and_an_expiry_shows_that_chain(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = page(lake.root, monkeypatch)
    chosen(app, "Trade date").select(PASSED).run()
    chosen(app, "Underlying").select("MSFT").run()
    chosen(app, "Slot (New York)").select("10:00").run()
    assert not app.exception
    chain = app.dataframe[2].value
    first = [row for row in contracts(PASSED) if row["underlying"] == "MSFT" and row["expiry"].month == 12]
    assert sorted(zip(chain["strike"], chain["right"], strict=True)) == sorted(
        (row["strike"], row["right"]) for row in first
    )
    assert list(chain["bid"]) == [5.01] * len(first)
    assert "stands at 500.00" in texts(app.caption)


def test_open_incidents_stand_on_top_and_closed_ones_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = small_lake(tmp_path / "lake")
    row = {"trade_date": FAILED, "severity": "severe", "changed_at": datetime(2026, 11, 20, 15, tzinfo=UTC)}
    changes = [
        row | {"incident_id": "a", "cause": "slot_missed", "state": "opened", "detail": "10:00 of 14"},
        row | {"incident_id": "b", "cause": "delayed", "state": "opened", "detail": "0.2", "severity": "warning"},
        row | {"incident_id": "c", "cause": "disk_full", "state": "opened", "detail": "81 %"},
        row | {"incident_id": "c", "cause": "disk_full", "state": "closed", "detail": None},
        row
        | {"incident_id": "b", "cause": "delayed", "state": "acknowledged", "detail": "by Ada", "severity": "warning"},
    ]
    own.append("ops/incidents", changes, "incidents", 1)
    app = page(own.root, monkeypatch)
    assert [each.value for each in app.error] == ["slot_missed of 2026-11-20, since 2026-11-20 15:00 UTC: 10:00 of 14"]
    (warning,) = app.warning
    assert warning.value.startswith("delayed of 2026-11-20, acknowledged, since")


def test_a_missing_lake_is_told_with_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(str(tmp_path / "nowhere"), monkeypatch)
    assert not app.exception
    assert "no lake at" in texts(app.error)
    assert "chainlake demo" in texts(app.error)


def test_an_empty_lake_is_told_with_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Lake.create(tmp_path / "empty", "simulated", datetime(2026, 11, 20, tzinfo=UTC))
    app = page(str(tmp_path / "empty"), monkeypatch)
    assert not app.exception
    assert "no trade date yet" in texts(app.info)


def test_the_environment_names_the_lake_unless_the_command_line_does(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAINLAKE_LAKE__ROOT", str(tmp_path / "of-the-environment"))
    monkeypatch.setattr("sys.argv", ["app.py"])
    app = AppTest.from_file(str(APP), default_timeout=60).run()
    assert app.sidebar.text_input[0].value == str(tmp_path / "of-the-environment")
    assert page(lake.root, monkeypatch).sidebar.text_input[0].value == lake.root


def test_a_day_before_its_rollup_is_shown_from_raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = small_lake(tmp_path / "lake")
    shutil.rmtree(tmp_path / "lake" / "clean")
    shutil.rmtree(tmp_path / "lake" / "quality")
    app = page(lake.root, monkeypatch)
    assert not app.exception
    assert "chainlake rollup" in texts(app.info)
    assert len(app.dataframe[1].value) == EACH // 2  # one of two expiries of the first underlying


# -- the queries -------------------------------------------------------------------------------------------------------


def test_coverage_before_the_rollup_counts_contracts_that_answered(tmp_path: Path) -> None:
    lake = small_lake(tmp_path / "lake")
    shutil.rmtree(tmp_path / "lake" / "quality")
    with open_catalog(lake.root, LIMITS) as catalog:
        coverage = queries.coverage(catalog, PASSED)
    assert len(coverage) == len(SPOT) * len(slots_of(PASSED))
    assert set(zip(coverage["frozen"], coverage["captured"], coverage["coverage"], strict=True)) == {(EACH, EACH, 1.0)}


def test_coverage_after_the_rollup_is_the_measured_one(lake: Lake) -> None:
    with open_catalog(lake.root, LIMITS) as catalog:
        coverage = queries.coverage(catalog, FAILED)
    session = session_on(FAILED)
    assert session is not None
    assert coverage["slot"].unique(maintain_order=True).to_list() == [slot.label for slot in session.slots]
    assert coverage["underlying"].unique(maintain_order=True).to_list() == sorted(SPOT)


def test_strategies_count_daily_rows_and_reasons(lake: Lake) -> None:
    with open_catalog(lake.root, LIMITS) as catalog:
        outcomes = queries.strategies(catalog, FAILED).rows()
        assert outcomes == [("close", "daily row", CONTRACTS_A_DAY - 1), ("only_errors", "unresolved", 1)]
        assert queries.strategies(catalog, PASSED).rows() == [("close", "daily row", CONTRACTS_A_DAY)]


def test_rows_are_counted_per_table_of_the_date(lake: Lake) -> None:
    with open_catalog(lake.root, LIMITS) as catalog:
        counts = dict(queries.row_counts(catalog, FAILED).rows())
    slots = len(slots_of(FAILED))
    assert counts["raw.option_quotes"] == counts["clean.intraday"] == CONTRACTS_A_DAY * slots
    assert counts["raw.sessions"] == slots
    assert counts["clean.daily_clean"] == CONTRACTS_A_DAY - 1
    assert counts["ops.published"] == 2
    assert not [name for name in counts if name.endswith("_passed")]


def test_the_age_of_a_row_is_counted_from_its_slot(lake: Lake) -> None:
    with open_catalog(lake.root, LIMITS) as catalog:
        chain = queries.chain(catalog, PASSED, "AAPL", "13:30")
    assert set(chain["age_s"]) == {1.0}
    assert UNRESOLVED_CONID in set(chain["conid"])


# -- the server --------------------------------------------------------------------------------------------------------


def status(port: int, path: str, **headers: str) -> int:
    """The status of a GET with exactly these headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest("GET", path, skip_host=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_server_answers_pages_of_its_own_host_only(lake: Lake) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "chainlake.cli", "dashboard", "--port", str(port), "--lake", lake.root]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert status(port, "/_stcore/health", Host=f"127.0.0.1:{port}") == 200
                break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec_WebSocket_Version": "13",
            "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        here, evil = f"localhost:{port}", f"evil.example:{port}"
        assert status(port, "/", Host=here) == 200
        assert status(port, "/_stcore/stream", Host=here, Origin=f"http://{here}", **upgrade) == 101
        # A name that was pointed at this host, a page that asks from elsewhere, and both by a WebSocket.
        assert status(port, "/", Host=evil) == 403
        assert status(port, "/", Host=here, Origin=f"http://{evil}") == 403
        assert status(port, "/_stcore/stream", Host=evil, Origin=f"http://{evil}", **upgrade) == 403
        assert status(port, "/_stcore/stream", Host=here, Origin="http://evil.example", **upgrade) == 403
        assert status(port, "/_stcore/stream", Host=here, Origin="null", **upgrade) == 403
    finally:
        server.terminate()
        server.wait(30)
