"""A gateway for programs of others that run on TWS. Their code is as it was published; only what drives it is here."""

import subprocess
from collections.abc import Iterator

import pytest
from gateway import COMMANDS, REPOSITORY, Gateway

# Applications compare expiries with the host's date, so the market is that of the last session: at 10:30.
_LAST_SESSION = (
    "from datetime import UTC, datetime, timedelta; from ingest.calendar.sessions import last_completed; "
    "print((last_completed(datetime.now(UTC)).open + timedelta(hours=1)).strftime('%Y-%m-%dT%H:%M:%SZ'))"
)


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """AAPL and its chain, an hour after the open; the clock runs."""
    at = subprocess.run(
        [COMMANDS / "python", "-c", _LAST_SESSION], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout.strip()
    with Gateway(
        *("--symbols", "AAPL", "--at", at, "--latency", "5-40", "--lines", "500", "--messages-per-second", "500")
    ) as one:
        yield one
