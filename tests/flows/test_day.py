"""A whole day with a gateway that goes away in the middle of it."""

from collections import Counter
from pathlib import Path

import pytest

from flows.day import DayReport, run_day
from flows.steps import PipelineContext, connect_broker
from ingest.contracts import Underlying
from ingest.settings import load
from lake.reads import reader
from tests.ingest import storm

pytestmark = pytest.mark.long

# In force on a clock that stands still until it is stepped on.
FAULTS = [
    {"fault": "socket_drop", "from": "09:25", "until": "09:28"},
    {"fault": "socket_drop", "from": "11:00", "until": "11:45"},
]


async def test_a_day_goes_on_after_the_steps_that_lost_the_broker(tmp_path: Path) -> None:
    async with storm.gateway(symbols=("AAPL",), lines=500) as gateway:
        settings = load(
            lake={"root": str(tmp_path / "lake")},
            state={"dir": str(tmp_path / "state")},
            ib={"port": gateway.port, "lines": 500, "connect_timeout_s": 1.0, "reconnect_s": 0.5},
            discovery={"retries": 0},
            filters={"moneyness_pct": 0.04, "expiry_months_ahead": 1},
        )
        context = PipelineContext(settings, (Underlying("AAPL"),), "manual", chosen=True)
        async with connect_broker(context) as broker:
            for fault in FAULTS:
                assert broker.session.control is not None
                await broker.session.control.call({"op": "fault", "fault": fault})
            report = await run_day(broker, storm.DAY, False)
            with reader(broker.lake) as reads:
                slots = Counter(row["slot_30m"] for row in reads.rows("raw/option_quotes", "view = 'intraday'"))
                frozen = len(reads.contracts(storm.DAY.trade_date))
    first, second, *_ = report.runs
    assert [(run.step, run.status) for run in (first, second)] == [("discover", "failed"), ("discover", "ok")]
    assert report.lost == ["slot 11:00", "slot 11:30"]
    assert report.missed == []
    away = {3, 4}
    assert slots == {slot.slot_30m: frozen for slot in storm.DAY.slots if slot.slot_30m not in away}
    assert _published(report) == "failed"  # a slot is missing


def _published(report: DayReport) -> str:
    assert report.rollup is not None
    return report.rollup.publication.status
