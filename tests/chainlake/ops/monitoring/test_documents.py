"""docs/alerts.md names every cause, and the link in an alert leads to a heading."""

import re

import pytest

from chainlake.ops.incidents.causes import cause_of, causes, runbook
from ingest.settings import PROJECT


@pytest.mark.parametrize("key", sorted(causes()))
def test_every_cause_is_documented(key: str) -> None:
    assert f"`{key}" in (PROJECT / "docs" / "alerts.md").read_text()


@pytest.mark.parametrize("key", sorted(causes()))
def test_the_link_of_an_alert_leads_to_its_cause(key: str) -> None:
    page, _, anchor = runbook(f"{key}:snapshot").partition("#")
    text = (PROJECT / page).read_text()
    assert re.search(rf'^#+ {anchor}$|<a id="{anchor}">', text, re.MULTILINE)


def test_a_cause_of_a_newer_version_is_severe() -> None:
    assert cause_of("something_new").severity == "severe"
