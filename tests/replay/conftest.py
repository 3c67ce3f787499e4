"""Recorded market days through the whole pipeline, as a user would run them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import run_chainlake as command

Demo = Callable[..., Path]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Demo:
    """Runs `chainlake demo` over replay files as a user would; gives the root of the lake, once for each choice."""
    lakes: dict[tuple[str, ...], Path] = {}

    def run(*names: str, all_contracts: bool = False, moneyness: str = "0.30") -> Path:
        key = (*names, str(all_contracts), moneyness)
        if key not in lakes:
            place = tmp_path_factory.mktemp("demo")
            files = [argument for name in names for argument in ("--replay", str(shared_data / "replay" / name))]
            more = ["--all-contracts"] if all_contracts else []
            done = command(
                *("demo", "--json", "--lake", str(place / "lake"), *files, *more),
                place=place,
                environment={"CHAINLAKE_FILTERS__MONEYNESS_PCT": moneyness},
            )
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)
            lakes[key] = place / "lake"
        return lakes[key]

    return run
