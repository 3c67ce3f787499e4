"""What all tests share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import settings

from lake.duck import load_delta

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


@pytest.fixture(scope="session", autouse=True)
def _delta_extension_is_checked_once() -> Iterator[None]:
    """DuckDB hashes the 80 MB of its delta extension for every connection that loads it: 0.2 s, here once.

    Commands in processes of their own check it each time, as everywhere.
    """
    connect = duckdb.connect
    with connect() as checked:
        load_delta(checked)

    def connect_unchecked(*arguments: Any, config: dict[str, Any] | None = None, **more: Any) -> Any:
        return connect(*arguments, config={"allow_unsigned_extensions": "true", **(config or {})}, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duckdb, "connect", connect_unchecked)
        yield
