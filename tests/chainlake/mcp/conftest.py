"""The lake that the tests of the server share; none of them changes it."""

import pytest

from tests.chainlake.mcp.lakes import built_lake
from tests.models.conftest import SmallLake


@pytest.fixture(scope="package")
def lake(tmp_path_factory: pytest.TempPathFactory) -> SmallLake:
    return built_lake(tmp_path_factory)
