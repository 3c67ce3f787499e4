"""The demo: a simulated gateway and one whole day through every real part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from flows.day import DayReport, run_day
from flows.models import DbtProject
from flows.processes import ended_by_sigterm
from flows.simulated_gateway import LINES, MESSAGES_PER_SECOND, GatewayCommand, gateway_process
from flows.steps import PipelineContext, connect_broker
from ingest.calendar.sessions import NEW_YORK, Session, last_completed, session_on
from ingest.contracts import Underlying
from ingest.errors import UsageError
from ingest.settings import Settings

SYMBOLS = ("AAPL", "MSFT", "NVDA")
GREEKS_PATIENCE_S = 0.5
NO_BOUND = {"moneyness_pct": 0, "expiry_types": ("all",), "expiry_months_ahead": 0}


@dataclass(frozen=True, slots=True)
class RecordedDay:
    """A trade date in replay files, and its underlyings."""

    session: Session
    symbols: tuple[str, ...]


def recorded_days(files: Sequence[Path]) -> list[RecordedDay]:
    """The days in replay files, in order. Raises UsageError for a file that is missing or not a recorded day."""
    symbols: dict[date, set[str]] = {}
    for file in files:
        try:
            # Arrow's reader: of a damaged file polars 2.1.0 can panic, and prints a backtrace then.
            table = pq.ParquetFile(file).read(["ts", "underlying"])
            table.validate(full=True)
            days = (
                pl.DataFrame(table.replace_schema_metadata())
                .select(
                    pl.col("ts")
                    .cast(pl.Datetime("us", "UTC"))
                    .dt.convert_time_zone(str(NEW_YORK))
                    .dt.date()
                    .alias("day"),
                    "underlying",
                )
                .unique()
            )
            found = list(days.iter_rows())
        except (OSError, ValueError, pa.ArrowException, pl.exceptions.PolarsError) as error:
            line = (str(error).splitlines() or ["no reason given"])[0]
            raise UsageError(f"replay file {file} cannot be read: {line}") from None
        for day, symbol in found:
            symbols.setdefault(day, set()).add(symbol)
    recorded = []
    for day in sorted(symbols):
        session = session_on(day)
        if session is None:
            raise UsageError(f"the replay files have quotes of {day}, which is no session of XNYS")
        recorded.append(RecordedDay(session, tuple(sorted(symbols[day]))))
    return recorded


def demo_settings(settings: Settings, port: int, all_contracts: bool) -> Settings:
    """`settings` against the demo's own gateway, with its raised limits."""
    ib = settings.ib.model_copy(
        update={
            "host": "127.0.0.1",
            "port": port,
            "gateways": (),
            "lines": LINES,
            "messages_per_second": float(MESSAGES_PER_SECOND),
        }
    )
    acquisition = settings.acquisition.model_copy(
        update={"preset": "ib-limit", "greeks_patience_s": GREEKS_PATIENCE_S, "contract_timeout_s": 5.0}
    )
    filters = settings.filters.model_copy(update=NO_BOUND) if all_contracts else settings.filters
    return settings.model_copy(update={"ib": ib, "acquisition": acquisition, "filters": filters})


async def run_demo(
    settings: Settings,
    files: Sequence[Path],
    all_contracts: bool,
    now: datetime,
    on_step: Callable[[str], None],
) -> list[DayReport]:
    """Run the last completed session of three underlyings, or the days of `files`, in a gateway of its own."""
    days = recorded_days(files) if files else [RecordedDay(last_completed(now), SYMBOLS)]
    recorded = sorted({symbol for day in days for symbol in day.symbols})
    gateway = GatewayCommand(recorded, days[0].session.at(settings.schedule.freeze_at), files)
    settings = demo_settings(settings, gateway.port, all_contracts)
    reports, project = [], DbtProject()
    with ended_by_sigterm():
        async with gateway_process(settings, gateway):
            for day in days:
                universe = tuple(Underlying(symbol, group="demo") for symbol in day.symbols)
                async with connect_broker(
                    PipelineContext(settings, universe, "demo", chosen=True, project=project)
                ) as broker:
                    report_step = partial(_report_step, on_step, day.session.trade_date)
                    reports.append(await run_day(broker, day.session, True, report_step))
    return reports


def _report_step(on_step: Callable[[str], None], day: date, step: str) -> None:
    on_step(f"{day}, {step}")
