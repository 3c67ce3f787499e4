"""The commands of the operator: what they say, and their exit codes."""

import json
from datetime import UTC, datetime, tzinfo
from pathlib import Path

import pytest

from chainlake.cli.commands.ops import incidents
from chainlake.ops.incidents.incidents import open_incidents
from lake.store import Lake
from tests.chainlake.ops.monitoring.conftest import DAY, Mailbox, WatchedLake, Webhook
from tests.commands import Chainlake, Result, run_chainlake
from tests.small_lake import small_lake


class TheMondayAfter(datetime):
    """A look goes back for five sessions: of the small lake only within a week of its days."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "TheMondayAfter":
        """Monday after the small lake's last day."""
        return cls(2026, 11, 23, 15, 0, tzinfo=UTC)


@pytest.fixture
def chainlake(watched: WatchedLake) -> Chainlake:
    """Runs a command on the lake, with the alert URLs `urls`."""

    def call(*arguments: str, urls: str = "", lake: str = watched.lake.root) -> Result:
        environment = {
            "CHAINLAKE_STATE__DIR": str(watched.state),
            "CHAINLAKE_LAKE__ROOT": lake,
            "CHAINLAKE_ALERT_URLS": urls,
        }
        return run_chainlake(*arguments, environment=environment)

    return call


@pytest.mark.parametrize("name", ["missing", "lacks"])
def test_what_is_missing_of_a_day_is_listed_under_the_former_name_too(chainlake: Chainlake, name: str) -> None:
    done = chainlake("ops", name, "--date", str(DAY), "--json")
    rows = {row["what"]: row["gone"] for row in json.loads(done.stdout)}
    assert (done.returncode, rows["slot 10:00"], rows["close snapshot"]) == (1, True, True)
    assert "lacks" not in chainlake("ops", "--help").stdout


def test_a_test_alert_says_which_services_took_it(chainlake: Chainlake, webhook: Webhook, mailbox: Mailbox) -> None:
    assert chainlake("ops", "test-alert").returncode == 2
    done = chainlake("ops", "test-alert", "--json", urls=f"{webhook.url} {mailbox.url}")
    assert done.returncode == 0
    assert [row["result"] for row in json.loads(done.stdout)["services"]] == ["taken", "taken"]
    assert webhook.titles == mailbox.titles == ["Chainlake: test"]
    webhook.stop()
    failed = chainlake("ops", "test-alert", urls=f"{webhook.url},{mailbox.url}")
    assert failed.returncode == 1
    assert "json 1" in failed.stdout
    assert "s3cret" not in failed.stdout + failed.stderr


def test_a_look_by_hand_opens_what_is_wrong_and_a_person_takes_it_or_closes_it(
    chainlake: Chainlake, webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The days of the small lake are over, and one of them has failed.
    root = small_lake(tmp_path / "small").root
    monkeypatch.setattr(incidents, "datetime", TheMondayAfter)
    seen = chainlake("ops", "watch", "--json", urls=webhook.url, lake=root)
    assert seen.returncode == 1
    report = json.loads(seen.stdout)
    assert report["opened"] == len(report["open"]) == len(webhook.posts) > 0
    assert report["undelivered_alerts"] == 0
    incident = next(row for row in report["open"] if row["cause"] == "slot_coverage")
    assert chainlake("ops", "ack", incident["id"][-12:], "--by", "kim", lake=root).returncode == 0
    closing = ("ops", "ack", incident["id"], "--close", "an old demo", "--by", "kim")
    assert chainlake(*closing, urls=webhook.url, lake=root).returncode == 0
    assert webhook.titles[-1] == f"Chainlake: over: slot_coverage of {incident['trade_date']}"
    assert incident["id"] not in [each.incident_id for each in open_incidents(Lake.open(root))]
    assert "closed by kim: an old demo" in chainlake("ops", "incidents", "--all", lake=root).stdout
    assert chainlake("ops", "ack", "nothing", lake=root).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("selfcheck",), 2, "empty"),
        (("selfcheck", "--date", "2026-11-21"), 2, "2026-11-20"),
        (("selfcheck", "--date", "2099-11-20"), 2, "has not begun"),
        (("selfcheck", "--date", "2026-11-19"), 1, "FAILED: slot_coverage"),
        (("logscan", "--date", "2026-11-19"), 0, "nothing severe"),
        (("logscan", "--date", "2099-11-20"), 2, "future"),
        (("logscan", "--date", "soon"), 2, "no date"),
    ],
)
def test_verdicts_have_their_exit_codes(chainlake: Chainlake, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = chainlake(*arguments)
    assert done.returncode == code, done.stderr
    assert said in " ".join((done.stdout + done.stderr).split())
