"""What all tests share."""

from pathlib import Path

import pytest
from hypothesis import settings

# The first example of a year builds its calendar; that is no slow test.
settings.register_profile("chainlake", deadline=None, print_blob=True)
settings.load_profile("chainlake")

# Foreign clients and programs run those suites, each in an environment of its own: `make test-clients` and
# `make test-applications`.
collect_ignore = ["applications", "clients"]

pytest_plugins = ["tests.commands"]

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real market days and reference answers; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real market days (../shared/data) are not on this machine")
    return SHARED_DATA
