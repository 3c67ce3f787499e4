"""What forwards and surfaces take: ``python benchmarks/surfaces.py [--underlyings 60] [--american]``.

A market made of known surfaces, each with 15 expiries from 0DTE to two years and up to 60 strikes a smile, in one
process. CPU, not elapsed time: milliseconds a smile of each step, and minutes of the 84,000 smiles of a day (500
underlyings, 12 expiries, 14 slots). The implied volatilities between the steps are European here.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from option_pricing.forwards import imply_forwards
from option_pricing.grid import constant_maturities, surface_grid
from option_pricing.quotes import pair_quotes
from option_pricing.surface import fit_surfaces
from option_pricing.variance_strip import variance_strips
from tests.option_pricing.european_quotes import volatilities
from tests.option_pricing.known_market import known_market

SMILES_OF_A_DAY = 500 * 12 * 14


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    started = time.process_time()
    yield
    seconds[step] = time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--underlyings", type=int, default=60)
    parser.add_argument("--american", action="store_true", help="Take the premium of early exercise off the pairs.")
    asked = parser.parse_args()
    market = known_market(asked.underlyings, seed=1)
    smiles = replace(market.smiles, american=np.full(market.smiles.years.size, asked.american))
    seconds: dict[str, float] = {}
    with timed(seconds, "pairs"):
        pairs = pair_quotes(market.quotes)
    with timed(seconds, "forwards"):
        forwards = imply_forwards(smiles, pairs)
    with timed(seconds, "implied volatilities, not counted"):
        vols = volatilities(market.smiles, market.quotes, forwards)
    with timed(seconds, "surfaces"):
        surfaces = fit_surfaces(market.smiles.years, market.surface, vols)
    with timed(seconds, "strips"):
        strips = variance_strips(market.smiles.years, forwards.forward, forwards.discount, market.quotes)
    with timed(seconds, "grid"):
        points = surface_grid(surfaces, forwards.forward)
        constant_maturities(surfaces, strips.variance)
    count = smiles.years.size
    counted = sum(each for step, each in seconds.items() if "not counted" not in step)
    figures = {
        "smiles": count,
        "contracts_per_smile": round(market.quotes.smile.size / count, 1),
        "grid_points": int(points.iv.size),
        "cpu_ms_per_smile": {step: round(each / count * 1e3, 3) for step, each in seconds.items()},
        "cpu_minutes_of_a_day": round(counted / count * SMILES_OF_A_DAY / 60, 2),
        "forward_error_bp": round(float(np.nanmedian(np.abs(forwards.forward / market.forward - 1))) * 1e4, 2),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
