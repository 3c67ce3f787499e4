"""One place for the lakes of all tests here: dbt parses its project once for it."""

import duckdb
import pytest

from tests.models.conftest import duck
from tests.second_engine.lakes import Bench

__all__ = ["duck"]


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, duck: duckdb.DuckDBPyConnection) -> Bench:
    """The folder in which every test makes its lake anew."""
    return Bench(tmp_path_factory.mktemp("second_engine"), duck)
