"""The budget of a connection stays inside IB's bucket and lines, and answers pacing errors."""

import asyncio

import pytest

from ingest.capture.pacing import PRESETS, Pace
from ingest.settings import load


async def test_messages_never_overrun_a_bucket_of_one_second() -> None:
    """IB's rule, kept as a leaky bucket over the times of sending; the burst at the start included."""
    limit = 200.0
    pace = Pace(load(ib={"messages_per_second": limit}))
    loop = asyncio.get_running_loop()
    level, last = 0.0, loop.time()
    for _ in range(300):
        await pace.message()
        now = loop.time()
        level = max(0.0, level - (now - last) * limit) + 1
        last = now
        assert level <= limit
    assert level < limit / 2


def test_lines_bound_the_window_and_a_stage_bounds_it_further() -> None:
    assert Pace(load(ib={"lines": 100})).window == 98
    for name, preset in PRESETS.items():
        if preset:
            assert Pace(load(acquisition={"preset": name})).window == preset.max_concurrent


async def test_a_stage_admits_its_requests_a_minute_and_no_more() -> None:
    pace = Pace(load(acquisition={"preset": "stage-3"}))
    for _ in range(20):
        await asyncio.wait_for(pace.admission(), 0.1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pace.admission(), 0.3)  # the next twenty wait 60 s / 90


def test_a_pacing_error_cuts_rate_and_window_and_answers_bring_them_back() -> None:
    pace = Pace(load())
    rate, window = pace.rate, pace.window
    pace.slow_down()
    assert pace.rate == pytest.approx(rate * 0.7)
    assert pace.window < window
    for _ in range(1000):
        pace.recover()
    assert (pace.rate, pace.window) == (rate, window)
