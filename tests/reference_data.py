"""Real market days and answers that somebody else computed. They are not in this repository: ../shared/data."""

import os
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
# Set to 1 where the data has to be, as in continuous integration.
REQUIRED = "CHAINLAKE_REQUIRE_DATA"


def reference_data(*names: str) -> Path:
    """The file or folder `names` of the data. Where it is absent the test is skipped, or fails if REQUIRED says so."""
    path = SHARED_DATA.joinpath(*names)
    if not path.exists():
        absent = f"the reference data is not on this machine: ../shared/data/{'/'.join(names)}"
        if os.environ.get(REQUIRED, "0") not in ("", "0"):
            pytest.fail(f"{absent} ({REQUIRED} is set)", pytrace=False)
        pytest.skip(absent)
    return path
