"""A simulated week by the real Prefect: ``make rehearsal-week`` writes docs/rehearsal-week.md.

Five sessions, one of them with an early close, 50 underlyings, and the morning after. Every run is started by Prefect's
own scheduler and done by a worker, against a simulated gateway whose clock goes 60 times as fast. The holiday and the
Saturday in between are left out, as nothing is planned then. The report holds what the lake says of the week, and what
Prefect says of the runs.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from flows.lake_frames import ask
from flows.reports.markdown import table
from ingest.calendar.sessions import sessions_between
from ingest.settings import load
from ingest.universe import read_universe

REPORT = Path(__file__).with_name("rehearsal-week.md")
FIRST, DAYS, UNTIL = date(2026, 11, 23), 9, "2026-12-01 07:35"
LAST_SESSION = date(2026, 11, 30)
UNDERLYINGS = 50
SPEED = 60
# As many contracts as a slot of half a minute holds, Prefect's start of a process included.
FILTERS = {"CHAINLAKE_FILTERS__MONEYNESS_PCT": "0.08", "CHAINLAKE_FILTERS__EXPIRY_MONTHS_AHEAD": "3"}
METRICS = ("slot_coverage", "missing_slots", "fallback", "delayed", "oi_filled", "pacing_errors", "slot_retry_exceeded")


def main() -> None:
    """Rehearse the week, and write the report."""
    # It stays: who wants to know why a number is what it is asks the lake.
    lake = Path(tempfile.mkdtemp(prefix="chainlake-week-")) / "lake"
    started = time.monotonic()
    runs = rehearse(lake)
    minutes = (time.monotonic() - started) / 60
    REPORT.write_text(report(str(lake), runs, minutes), encoding="utf-8")
    print(REPORT.read_text(encoding="utf-8"))


def rehearse(lake: Path) -> list[dict[str, Any]]:
    """The runs of the week, as `chainlake ops rehearse` tells them."""
    symbols = ",".join(each.symbol for each in read_universe(load().universe.file)[:UNDERLYINGS])
    command = [
        *(sys.executable, "-m", "chainlake.cli", "ops", "rehearse", "--date", str(FIRST), "--days", str(DAYS)),
        *("--until", UNTIL, "--skip-idle", "--symbols", symbols, "--speed", str(SPEED), "--lake", str(lake), "--json"),
    ]
    done = subprocess.run(command, env={**os.environ, **FILTERS}, stdout=subprocess.PIPE, text=True)
    if not done.stdout.strip():
        sys.exit(f"the rehearsal ended with {done.returncode} and printed nothing")
    runs: list[dict[str, Any]] = json.loads(done.stdout)
    return runs


def report(lake: str, runs: list[dict[str, Any]], minutes: float) -> str:
    """The page."""
    sessions = sessions_between(FIRST, LAST_SESSION)
    wide = ask(
        lake,
        "select trade_date, metric, value, passed from quality.daily_metrics "
        f"where metric in ({', '.join(repr(metric) for metric in METRICS)})",
    ).pivot(on="metric", index="trade_date", values="value")
    published = ask(lake, "select trade_date, status from ops.latest_published")
    slots = ask(
        lake,
        "select trade_date, count(distinct slot_30m)::int as slots, sum(asked)::bigint as asked, "
        "sum(failed)::bigint as failed, quantile_cont(skew_p99_s, 0.5) as skew_p99 from ops.runs "
        "where step = 'snapshot' group by trade_date",
    )
    contracts = ask(lake, "select trade_date, count(*)::int as contracts from raw.contracts group by trade_date")
    doubled = ask(
        lake,
        "select count(*)::int as keys from (select 1 from clean.intraday group by trade_date, sample_time, conid "
        "having count(*) > 1)",
    ).item()
    days = contracts
    for frame in (slots, published, wide):
        days = days.join(frame, on="trade_date", how="left")
    states = Counter((run["run"].split(" ")[0], run["state"]) for run in runs)
    incidents = ask(lake, "select cause, state, count(*)::int as n from ops.incidents group by all order by all")
    return (
        "\n\n".join(
            [
                "# A rehearsed week",
                f"Made by `make rehearsal-week` on {platform.system()} with {os.cpu_count()} shared cores: "
                f"{len(sessions)} sessions from {sessions[0].trade_date} to {sessions[-1].trade_date} (a holiday and "
                f"a 13:00 close among them), {UNDERLYINGS} underlyings, a market at {SPEED} times its speed, "
                f"{minutes:.0f} minutes. Every run was started by Prefect's scheduler.",
                "## Sessions",
                rows(days.sort("trade_date")),
                f"Keys of `clean.intraday` that stand twice: {doubled}.",
                "## Runs",
                table(("deployment", "state", "runs"), [(*key, count) for key, count in sorted(states.items())]),
                "## Incidents",
                rows(incidents) if incidents.height else "None.",
            ]
        )
        + "\n"
    )


def rows(frame: pl.DataFrame) -> str:
    """A frame as a table."""
    return table(frame.columns, [[cell(value) for value in row] for row in frame.iter_rows()])


def cell(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else "" if value is None else str(value)


if __name__ == "__main__":
    main()
