"""Results as plain values, for ``--json``."""

from dataclasses import asdict
from typing import Any

from flows.day import DayReport
from flows.reproduce import Reproduction
from flows.steps import Rollup
from ingest.runs import Run


def run_report(run: Run) -> dict[str, Any]:
    """A run as JSON."""
    return {
        "step": run.step,
        "trade_date": run.trade_date,
        "slot_30m": run.slot_30m,
        "view": run.view,
        "batch": run.batch,
        "attempt": run.attempt,
        "ingest_id": run.ingest_id,
        "status": run.status,
        "asked": run.asked,
        "captured": run.captured,
        "failed": run.failed,
        "message": run.message,
        **run.measures,
    }


def rollup_report(result: Rollup) -> dict[str, Any]:
    """A rollup as JSON."""
    return {
        "dates": list(result.publication.dates),
        "status": result.publication.status if result.publication.dates else None,
        "left_alone": list(result.build.left_alone),
        "failures": [failure.name for failure in result.build.failures],
        "warnings": [warning.name for warning in result.build.warnings],
        "restated": {str(day): list(symbols) for day, symbols in result.build.restatements.items()},
        "actions_of_no_use": list(result.of_no_use),
        "elapsed_s": round(result.build.elapsed_s, 1),
    }


def reproduction_report(result: Reproduction) -> dict[str, Any]:
    """A rebuilt day as JSON."""
    return {**asdict(result), "equal": result.equal, "same_code": result.same_code}


def day_report(report: DayReport) -> dict[str, Any]:
    """A day as JSON."""
    return {
        "trade_date": report.session.trade_date,
        "slots_missed": [slot.label for slot in report.missed],
        "steps_lost": report.lost,
        "asked": sum(run.asked for run in report.runs),
        "captured": sum(run.captured for run in report.runs),
        "failed": sum(run.failed for run in report.runs),
        "rollup": rollup_report(report.rollup) if report.rollup else None,
    }
