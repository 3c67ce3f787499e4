"""Commands to begin with: demo and init."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from chainlake.cli import options as o
from chainlake.cli.terminal import show
from chainlake.cli.terminal.progress import status
from chainlake.cli.terminal.results import day_report
from flows.day import DayReport
from flows.demo import run_demo
from flows.lake_frames import ask, daily_metrics
from flows.simulated_gateway import LINES, MESSAGES_PER_SECOND
from lake.errors import LakeMissing
from lake.resources import CONFIG, DBT_PROJECT, SHIPPED
from lake.store import Lake

DEMO_LAKE = "data/demo"
TEMPLATES = ("chainlake.toml", "universe.csv", "corporate_actions.csv", "rates.csv")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(demo)
    app.command()(init)


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write config/.")] = Path(),
    dbt: Annotated[
        bool, typer.Option("--dbt", help="Also a copy of the dbt project and its profiles.yml, for dbt from the shell.")
    ] = False,
) -> None:
    """Write the commented settings, the universe, the corporate actions and the rates into config/, to be edited."""
    (folder / "config").mkdir(parents=True, exist_ok=True)
    for name in TEMPLATES:
        _copy(CONFIG / name, folder / "config" / name)
    if dbt:
        _copy(DBT_PROJECT, folder / DBT_PROJECT.name)
        _copy(SHIPPED / "profiles.yml", folder / "profiles.yml")


def _copy(shipped: Path, target: Path) -> None:
    """Copy a file or a folder, unless there is one already."""
    if target.exists():
        show.line(f"kept     {target}")
        return
    if shipped.is_dir():
        shutil.copytree(shipped, target, ignore=shutil.ignore_patterns("target", "logs", "dbt_packages"))
    else:
        shutil.copyfile(shipped, target)
    show.line(f"written  {target}")


@o.command
def demo(
    given: o.Given,
    replay: Annotated[list[Path] | None, typer.Option(help="Parquet file of a recorded day; may be repeated.")] = None,
    all_contracts: Annotated[bool, typer.Option("--all-contracts", help="Switch the filters off.")] = False,
) -> None:
    """Record a whole simulated (or replayed) day, build and test its models, and show what came of it."""
    files = list(replay or [])
    origin = "replay" if files else "simulated"
    root = given.lake or demo_root(origin)
    settings = replace(given, lake=root).settings()
    if not given.json:
        show.line(
            f"A simulated gateway runs beside this demo, its limits raised to {LINES:,} market data lines and\n"
            f"{MESSAGES_PER_SECOND:,} messages a second (Interactive Brokers: 100 and 50). The lake is {root}.\n"
        )
    with status("demo") as update:
        reports = o.run(lambda: run_demo(settings, files, all_contracts, datetime.now(UTC), update))
    store = Lake.open(root)
    o.print_result([day_report(report) for report in reports], given.json, lambda: show_demo(store, reports))


def demo_root(origin: str) -> str:
    """data/demo, or beside it when that lake is of another origin: one lake holds data of one origin."""
    try:
        bound = Lake.open(DEMO_LAKE).origin
    except LakeMissing:
        return DEMO_LAKE
    return DEMO_LAKE if bound == origin else f"{DEMO_LAKE}-{origin}"


def show_demo(store: Lake, reports: Sequence[DayReport]) -> None:
    """Print what a person wants to see: rows, strategies, quality, one chain, and what to try next."""
    for report in reports:
        slots = [run for run in report.runs if run.step == "snapshot"]
        messages = sum(run.measures.get("messages", 0) for run in report.runs)
        show.line(
            f"{report.session.trade_date}: {len({run.slot_30m for run in slots})} slots, "
            f"{sum(run.asked for run in report.runs if run.step != 'discover'):,} requests, "
            f"{sum(run.failed for run in report.runs):,} failed, {messages:,} messages"
        )
        for run in report.runs:
            if run.step == "enrichment":
                show.line(f"  open interest: {run.message}")
    show.line("")
    show.table(_row_counts(store), "Rows per table")
    show.table(
        ask(
            store.root,
            "select trade_date, rollup_strategy, count(*) as contracts from clean.daily_clean "
            "group by trade_date, rollup_strategy order by trade_date, rollup_strategy",
        ),
        "\nWhere the daily rows come from",
    )
    for report in reports:
        show.metrics(daily_metrics(store, report.session.trade_date), report.session.trade_date)
        if report.rollup:
            show.rollup(report.rollup)
    day = reports[-1].session.trade_date
    chain = _one_chain(store, str(day))
    if not chain.is_empty():
        symbol, expiry = chain.row(0)[:2]
        show.table(chain.drop("underlying", "expiry"), f"\n{symbol} {expiry} at the close of {day}, around the money")
    _next_things(store, str(day))


def _row_counts(store: Lake) -> pl.DataFrame:
    counts = [
        f"select '{name}' as \"table\", count(*) as rows from {name.replace('/', '.')}" for name in store.table_names()
    ]
    return ask(store.root, " union all ".join(counts) + " order by 1")


def _one_chain(store: Lake, day: str) -> pl.DataFrame:
    return ask(
        store.root,
        f"""
        with day as (select * from clean.daily_clean where trade_date = date '{day}'),
        nearest as (
            select underlying, min(expiry) as expiry from day
            where expiry > trade_date and underlying = (select min(underlying) from day)
            group by underlying
        ),
        strikes as (
            select strike from day join nearest using (underlying, expiry) where "right" = 'C'
            order by abs(strike - underlying_close), strike limit 9
        )
        select
            day.underlying, day.expiry, day.strike,
            max(bid) filter ("right" = 'C') as "C bid", max(ask) filter ("right" = 'C') as "C ask",
            max(iv) filter ("right" = 'C') as "C iv", max(open_interest) filter ("right" = 'C') as "C oi",
            max(bid) filter ("right" = 'P') as "P bid", max(ask) filter ("right" = 'P') as "P ask",
            max(iv) filter ("right" = 'P') as "P iv", max(open_interest) filter ("right" = 'P') as "P oi"
        from day join nearest using (underlying, expiry) join strikes using (strike)
        group by all order by strike
        """,
    )


def _next_things(store: Lake, day: str) -> None:
    lake = "" if store.root == DEMO_LAKE else f" --lake {store.root}"
    given = f" --lake {store.root}"
    show.line("\nNext things to try")
    for what, command in (
        (
            "ask it",
            f'chainlake sql{given} "select * from clean.daily_clean where moneyness_pct between -0.02 and 0.02"',
        ),
        ("see its quality", f"chainlake qa{given}"),
        ("serve the day just stored as a live market", f"chainlake gateway --replay-date {day}{given} --speed 60"),
        ("look at it on a page", f"chainlake dashboard{given}" if lake else "make dashboard"),
    ):
        show.line(f"  {what}:\n    {command}")
