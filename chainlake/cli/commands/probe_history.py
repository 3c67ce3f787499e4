"""``chainlake probe-history``: which historical bars IB would give. Logs and a summary only."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any

import polars as pl
import typer

from chainlake.cli import options as o
from chainlake.cli.terminal import show
from chainlake.cli.terminal.progress import status
from ingest.broker import BrokerSession
from ingest.calendar.sessions import NEW_YORK
from ingest.capacity.probe_history import MOST_CONTRACTS, QUESTIONS, Answer, last_friday, probe_history, sample
from ingest.contracts import OptionContract, contract_from_row
from ingest.errors import UsageError
from lake.reads import reader
from lake.store import Lake


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("probe-history")(probe_history_command)


@o.command
def probe_history_command(
    given: o.GivenForBroker,
    contracts: Annotated[
        int, typer.Option("--contracts", min=1, max=MOST_CONTRACTS, help="How many contracts to ask about.")
    ] = 4,
) -> None:
    """Ask which historical bars IB gives for a few contracts of the last Friday's set. Stores nothing."""
    context = given.pipeline_context()
    lake = Lake.open(context.settings.lake.root)
    if given.dry_run:
        show.line(f"would ask {len(QUESTIONS)} questions about each of {contracts} contracts, and store nothing")
        return

    async def steps() -> list[Answer]:
        async with BrokerSession.connect(context.settings.ib) as session:
            lake.require_origin(session.origin)
            today = session.clock.now().astimezone(NEW_YORK).date()
            day = last_friday(today) if given.date == "today" else given.session()
            symbols = {underlying.symbol for underlying in context.universe}
            with reader(lake) as reads:
                frozen = [row for row in reads.contracts(day.trade_date) if row["underlying"] in symbols]
            prices = {row["underlying"]: row["reference_price"] for row in frozen if row["reference_price"]}
            chosen = sample({row["conid"]: contract_from_row(row) for row in frozen}.values(), prices, today, contracts)
            if not chosen:
                raise UsageError(
                    f"the lake at {lake.root} has no unexpired contracts of {day.trade_date}: give another --date"
                )
            with status(f"history of contracts frozen on {day.trade_date}") as update:
                return await probe_history(
                    session, chosen, context.settings, lambda answer: update(answer.contract.symbol)
                )

    answers = o.run(steps)
    o.print_result([_report(answer) for answer in answers], given.json, lambda: _show(answers))


def _report(answer: Answer) -> dict[str, Any]:
    """An answer as JSON."""
    return {
        "symbol": answer.contract.symbol,
        "kind": answer.question.kind,
        "bar_size": answer.question.bar_size,
        "duration": answer.question.duration,
        "bars": answer.bars,
        "first": answer.first,
        "last": answer.last,
        "volume": answer.volume,
        "error_code": answer.error.code if answer.error else None,
        "error": answer.error.message if answer.error else None,
    }


def _show(answers: Sequence[Answer]) -> None:
    columns = ("symbol", "kind", "bar_size", "bars", "first", "last", "volume")
    rows = [{name: _cell(report[name]) for name in columns} for report in map(_report, answers)]
    show.table(pl.DataFrame(rows, infer_schema_length=None), "Historical bars that IB gives")
    contracts: set[OptionContract] = {answer.contract for answer in answers}
    for question in QUESTIONS:
        of_it = [answer for answer in answers if answer.question == question]
        given = sum(answer.bars > 0 for answer in of_it)
        line = f"{question.kind}, {question.bar_size}: bars for {given} of {len(contracts)} contracts"
        errors = sorted({f"{answer.error.code}: {answer.error.message}" for answer in of_it if answer.error})
        show.line("; ".join([line, *errors]))


def _cell(value: Any) -> Any:
    if isinstance(value, date):
        return f"{value:%Y-%m-%d}"
    return " ".join(value.split()) if isinstance(value, str) else value
