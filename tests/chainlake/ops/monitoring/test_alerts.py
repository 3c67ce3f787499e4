"""Where alerts go, and that none is lost, doubled, or lets a secret out."""

import logging
from datetime import timedelta
from pathlib import Path

import pytest

from chainlake.ops.incidents.alerts import AlertFailed, Channel, urls_in
from chainlake.ops.incidents.causes import breach
from chainlake.ops.incidents.incidents import IncidentContext, settle
from chainlake.ops.incidents.outbox import Outbox
from tests.chainlake.ops.monitoring.conftest import DAY, Mailbox, WatchedLake, Webhook, at

NOON = at(DAY, "12:00")
DISK = breach("disk_full", DAY, "95 %")


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("", []),
        ("  \n", []),
        ("json://a/b", ["json://a/b"]),
        ("json://a slack://b/c\nmailto://d", ["json://a", "slack://b/c", "mailto://d"]),
        ("json://a,slack://b/c, tgram://1:x/2,", ["json://a", "slack://b/c", "tgram://1:x/2"]),
        ("mailto://u:p@h?to=a@x.org,b@x.org,json://a", ["mailto://u:p@h?to=a@x.org,b@x.org", "json://a"]),
    ],
)
def test_urls_are_separated_by_white_space_or_by_a_comma_before_another_url(text: str, urls: list[str]) -> None:
    assert urls_in(text) == urls


def test_a_channel_names_its_kinds_and_never_shows_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINLAKE_ALERT_URLS", "json://h/secret1 mailto://user:secret2@h json://h/secret3")
    channel = Channel.from_environment(["tgram://secret4/5"])
    assert channel.kinds == ("json 1", "mailto 1", "json 2", "tgram 1")
    assert "secret" not in repr(channel) + str(channel) + repr(channel.destinations[0])


def test_a_url_that_is_given_twice_is_told_once() -> None:
    assert Channel.of(["json://h/1", "json://h/1"]).kinds == ("json 1",)


def test_without_any_url_alerts_are_in_the_state_folder_only(
    watched: WatchedLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHAINLAKE_ALERT_URLS", raising=False)
    channel = Channel.from_environment()
    assert channel.kinds == ()
    settled = settle(IncidentContext(watched.lake, watched.state, channel, NOON), [DISK], [])
    assert settled.undelivered == 0
    assert [line["title"] for line in Outbox(watched.state).history()] == ["Chainlake: severe: disk_full of 2026-11-20"]


@pytest.mark.parametrize("url", ["nonsense", "nosuchservice://s3cret/x", "mailto://"])
def test_a_wrong_url_is_told_of_by_its_kind_alone(url: str) -> None:
    channel = Channel.of([url])
    assert channel.not_understood == channel.kinds
    with pytest.raises(AlertFailed) as failure:
        channel.send("a", "b", "severe")
    assert "not understood" in str(failure.value)
    assert "s3cret" not in str(failure.value)


def test_a_refusal_names_the_service_and_its_answer_and_no_secret(
    webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    webhook.status = 403
    channel = Channel.of([webhook.url])
    with caplog.at_level(logging.DEBUG), pytest.raises(AlertFailed, match=r"json 1: .* it answered 403") as failure:
        channel.send("a", "b", "severe")
    assert "s3cret" not in str(failure.value) + caplog.text
    assert logging.getLogger("apprise").propagate, "apprise's own log is as it was"


def test_one_service_that_fails_does_not_keep_the_others_from_hearing(webhook: Webhook, mailbox: Mailbox) -> None:
    with pytest.raises(AlertFailed, match="json 2"):
        Channel.of([webhook.url, "json://127.0.0.1:9/x", mailbox.url]).send("a title", "b", "warning")
    assert webhook.titles == mailbox.titles == ["a title"]


def test_a_mail_has_the_cause_the_value_and_the_next_step(watched: WatchedLake, mailbox: Mailbox) -> None:
    watched.channel = Channel.of([mailbox.url])
    settle(IncidentContext(watched.lake, watched.state, watched.channel, NOON), [DISK], [])
    (mail,) = mailbox.mails
    assert mail["To"] == "operator@example.com"
    part = mail.get_payload(0) if mail.is_multipart() else mail
    body = part.get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert "95 %" in body
    assert "chainlake retention" in body


def test_what_a_service_that_was_down_has_missed_is_delivered_once_in_order(
    watched: WatchedLake, webhook: Webhook, mailbox: Mailbox
) -> None:
    watched.channel = Channel.of([webhook.url, mailbox.url])
    webhook.stop()
    assert (
        settle(IncidentContext(watched.lake, watched.state, watched.channel, NOON), [DISK], [DISK.key]).undelivered == 1
    )
    assert (
        settle(
            IncidentContext(watched.lake, watched.state, watched.channel, at(DAY, "12:05")), [DISK], [DISK.key]
        ).undelivered
        == 1
    )
    assert (
        settle(
            IncidentContext(watched.lake, watched.state, watched.channel, at(DAY, "12:10")), [], [DISK.key]
        ).undelivered
        == 2
    )
    assert len(mailbox.mails) == 2, "the other one heard at once"
    webhook.start()
    for minute in ("12:15", "12:20"):
        assert (
            settle(
                IncidentContext(watched.lake, watched.state, watched.channel, at(DAY, minute)), [], [DISK.key]
            ).undelivered
            == 0
        )
    assert (
        webhook.titles
        == mailbox.titles
        == [
            "Chainlake: severe: disk_full of 2026-11-20",
            "Chainlake: over: disk_full of 2026-11-20",
        ]
    )


def test_no_file_of_the_state_folder_holds_a_secret(watched: WatchedLake, webhook: Webhook) -> None:
    watched.channel = Channel.of([webhook.url])
    webhook.stop()
    settle(IncidentContext(watched.lake, watched.state, watched.channel, NOON), [DISK], [])
    files = [path for path in watched.state.rglob("*") if path.is_file()]
    assert any(path.parent.name == "outbox" for path in files)
    assert not [path for path in files if "s3cret" in path.read_text()]


def test_an_alert_that_nobody_took_for_a_week_is_given_up(watched: WatchedLake, webhook: Webhook) -> None:
    watched.channel = Channel.of([webhook.url])
    webhook.stop()
    settle(IncidentContext(watched.lake, watched.state, watched.channel, NOON), [DISK], [])
    box = Outbox(watched.state)
    assert box.deliver(watched.channel, NOON + timedelta(days=6)) == 1
    assert box.deliver(watched.channel, NOON + timedelta(days=8)) == 0
    webhook.start()
    box.deliver(watched.channel, NOON + timedelta(days=8))
    assert webhook.posts == []


def test_a_service_that_is_no_longer_configured_is_not_waited_for(watched: WatchedLake, webhook: Webhook) -> None:
    webhook.stop()
    settle(IncidentContext(watched.lake, watched.state, Channel.of([webhook.url]), NOON), [DISK], [])
    assert Outbox(watched.state).deliver(Channel(), at(DAY, "12:05")) == 0


def test_a_message_that_a_crash_cut_short_does_not_stop_the_others(watched: WatchedLake, webhook: Webhook) -> None:
    channel = Channel.of([webhook.url])
    box = Outbox(watched.state)
    (box.folder / "outbox").mkdir(parents=True)
    (box.folder / "outbox" / "broken.json").write_text('{"id": "x", "at"')
    (box.folder / "history.jsonl").write_text('{"id": "y", "ti')
    assert settle(IncidentContext(watched.lake, watched.state, channel, NOON), [DISK], []).undelivered == 0
    assert len(webhook.posts) == 1


def test_what_an_earlier_version_has_sent_is_not_sent_again(watched: WatchedLake, webhook: Webhook) -> None:
    context = IncidentContext(watched.lake, watched.state, Channel.of([webhook.url]), NOON)
    settle(context, [DISK], [])
    history = watched.state / "alerts" / "history.jsonl"
    history.rename(history.with_name("told.jsonl"))
    box = Outbox(watched.state)
    (sent,) = box.history()
    assert not box.post(context.channel, str(sent["id"]), NOON, "again", "", "severe")
    assert box.post(context.channel, "another", NOON, "another", "", "severe")
    assert [line["id"] for line in box.history()] == [sent["id"], "another"]


def test_a_crash_after_the_alert_was_written_down_doubles_nothing(
    watched: WatchedLake, webhook: Webhook, tmp_path: Path
) -> None:
    # The message is in the outbox, and ops/incidents knows nothing yet.
    channel = Channel.of([webhook.url])
    webhook.stop()
    from chainlake.ops.incidents import incidents

    fresh = incidents._opened(DISK, NOON)
    incidents._post_alert(Outbox(watched.state), channel, fresh)
    webhook.start()
    for minute in ("12:05", "12:10"):
        settle(IncidentContext(watched.lake, watched.state, channel, at(DAY, minute)), [DISK], [DISK.key])
    assert webhook.titles == ["Chainlake: severe: disk_full of 2026-11-20"]
    assert [row["state"] for row in incidents.history(watched.lake)] == ["opened"]
