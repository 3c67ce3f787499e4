"""Both engines over days that hypothesis makes."""

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings

from tests.second_engine.lakes import Bench
from tests.second_engine.markets import RECORDED, Market, markets

# An example costs a build of some seconds, so that shrinking one would take an hour.
SETTINGS = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
# Markets that have been built, by seed.
_dealt: dict[int, Market] = {}


@settings(SETTINGS, max_examples=2, derandomize=True)
@given(market=markets(dates=30))
def test_both_engines_agree_row_for_row(bench: Bench, market: Market) -> None:
    _agree(bench, market)


@pytest.mark.slow
@pytest.mark.timeout(5400)
@settings(SETTINGS, max_examples=250)
@given(market=markets(dates=12))
def test_both_engines_agree_row_for_row_on_many_days(bench: Bench, market: Market) -> None:
    _agree(bench, market)


def _agree(bench: Bench, market: Market) -> None:
    # Hypothesis begins with its simplest market and follows each with near copies: not worth a build.
    assume(market.seed > 0)
    assume(_dealt.setdefault(market.seed, market) == market)
    bench.fill(market.tables(), RECORDED, market.actions)

    found = bench.disagreements(market.dates, market.as_of)

    assert found == [], f"{len(found)} differences, the first: " + "\n".join(found[:20])
