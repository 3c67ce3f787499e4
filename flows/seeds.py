"""The two CSV files that people edit and dbt seeds: why a build refuses them, and which actions reach nothing."""

from pathlib import Path

from ingest.corporate_actions import read_corporate_actions, symbols_without_rows, wrong_lines
from ingest.csv_files import WrongLine
from ingest.errors import UsageError
from ingest.settings import Settings
from ingest.universe import read_universe
from lake.reads import reader
from lake.store import Lake

UNIVERSE, ACTIONS = "universe.csv", "corporate_actions.csv"


def refusal_of(path: str) -> str:
    """Why the seed at `path` cannot be built with, in one line for the user; empty when it can.

    A line is named by the file's name alone: what dbt seeds may be a copy of the user's file.
    """
    file = Path(path)
    try:
        wrong = wrong_lines(file) if file.name == ACTIONS else _first_wrong(file)
    except UsageError as error:
        return str(error)
    if not wrong:
        return ""
    more = f" (and {len(wrong) - 1} more lines are wrong)" if len(wrong) > 1 else ""
    return (
        f"{file.name}, line {wrong[0].line}: {wrong[0].problem}{more}; "
        "nothing was built: correct the file and run again"
    )


def _first_wrong(file: Path) -> list[WrongLine]:
    try:
        read_universe(file)
    except WrongLine as error:
        return [error]
    return []


def symbols_of_no_use(settings: Settings, lake: Lake | None) -> list[str]:
    """Symbols of corporate actions that the universe does not have, and `lake` never had: misspelt, or of no use.

    Raises UsageError when one of the two files cannot be read.
    """
    actions = read_corporate_actions(settings.reference.corporate_actions)
    known = {underlying.symbol for underlying in read_universe(settings.universe.file)}
    if lake is not None and symbols_without_rows(actions, known):
        with reader(lake) as reads:
            known |= {row["underlying"] for row in reads.rows("raw/contracts", columns="distinct underlying")}
    return symbols_without_rows(actions, known)
