"""What all tests share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import settings

from lake.duck import load_delta
from tests.reference_data import reference_data

# The first example of a year builds its calendar; that is no slow test.
settings.register_profile("chainlake", deadline=None, print_blob=True)
settings.load_profile("chainlake")

# Foreign clients and programs run those suites, each in an environment of its own: `make test-clients` and
# `make test-applications`.
collect_ignore = ["applications", "clients"]

pytest_plugins = ["tests.commands"]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real market days and reference answers."""
    return reference_data()


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
