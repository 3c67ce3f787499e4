"""The budget of a connection stays inside IB's bucket and lines, and answers pacing errors."""

import asyncio
import time
from collections.abc import Callable

import pytest

from ingest.broker.pacing import PRESETS, Pace
from ingest.settings import Settings, load


class Watch:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def pace_for(settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> Pace:
    return Pace(settings.ib, settings.acquisition, monotonic)


async def test_messages_never_overrun_a_bucket_of_one_second() -> None:
    """IB's rule, kept as a leaky bucket over the times of sending; the burst at the start included."""
    limit = 200.0
    pace = pace_for(load(ib={"messages_per_second": limit}))
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
    assert pace_for(load(ib={"lines": 100})).lines == 98
    for name, preset in PRESETS.items():
        if preset:
            pace = pace_for(load(acquisition={"preset": name}))
            assert (pace.lines, pace.window()) == (preset.max_concurrent, preset.max_concurrent)


@pytest.mark.parametrize(("answers_s", "needed"), [(0.35, 25 * 0.35), (3.0, 25 * 3.0)])
def test_the_window_is_rate_times_latency_with_a_margin_and_at_most_the_lines(answers_s: float, needed: float) -> None:
    """Little's law: at 50 messages a second, two a contract, so many are on their way at once."""
    pace = pace_for(load(ib={"lines": 100}))
    for _ in range(50):
        pace.answered(answers_s)
    assert needed <= pace.window() <= min(98, 1.5 * needed + 5)
    for _ in range(200):
        pace.answered(30.0)
    assert pace.window() == 98
    assert pace.window(messages_each=1) == 98


async def test_a_stage_admits_its_requests_a_minute_and_no_more() -> None:
    pace = pace_for(load(acquisition={"preset": "stage-3"}))
    for _ in range(20):
        assert pace.admits()
        await asyncio.wait_for(pace.admission(), 0.1)
    assert not pace.admits()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pace.admission(), 0.3)  # the next twenty wait 60 s / 90


def test_a_burst_of_pacing_errors_is_one_event() -> None:
    watch = Watch()
    pace = pace_for(load(), watch)
    rate, lines = pace.rate, pace.lines
    for _ in range(40):
        pace.pacing_error(100, 30)
        watch.now += 0.01
    assert pace.rate == pytest.approx(rate * 0.7)
    assert pace.lines == lines
    watch.now += 10
    pace.pacing_error(420, 30)
    assert pace.rate == pytest.approx(rate * 0.49)


async def test_nothing_is_sent_while_ibs_bucket_fills_up_again() -> None:
    pace = pace_for(load())
    await pace.message()
    pace.pacing_error(100, 1)
    assert pace.quiet
    began = asyncio.get_running_loop().time()
    await pace.message()
    assert asyncio.get_running_loop().time() - began >= 0.9


def test_the_rate_rises_by_time_and_never_to_where_the_error_was() -> None:
    """Two errors leave a connection to IB alive, the third ends it."""
    watch = Watch()
    pace = pace_for(load(), watch)
    full = pace.rate
    pace.pacing_error(100, 30)
    rates = []
    for _ in range(600):
        watch.now += 1
        pace.recover()
        rates.append(pace.rate)
    assert rates == sorted(rates)
    assert rates[0] < full * 0.75
    assert rates[-1] == pytest.approx(full * 0.8)


def test_exhausted_lines_cut_the_lines_that_are_in_use_and_come_back_slowly() -> None:
    watch = Watch()
    pace = pace_for(load(ib={"lines": 100}), watch)
    rate = pace.rate
    for _ in range(5):
        pace.pacing_error(101, 40)
    assert (pace.lines, pace.rate) == (28, rate)
    watch.now += 60
    pace.recover()
    assert 28 < pace.lines < 40
    watch.now += 600
    pace.recover()
    assert pace.lines == 98
