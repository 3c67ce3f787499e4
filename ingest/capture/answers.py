"""What a batch has answers of: rows for its commit, and at once for its journal."""

from collections.abc import Callable
from typing import Any

from ingest.capture.outcomes import Outcome
from ingest.capture.rows import Attempt, option_row, underlying_row
from ingest.contracts import OptionContract
from ingest.journal import Journal

OPTIONS, UNDERLYINGS = "raw/option_quotes", "raw/underlying_quotes"


class Answers:
    """The outcomes of a batch in the order in which they came, each a row of its table and told to `on_outcome`."""

    def __init__(self, attempt: Attempt, journal: Journal, on_outcome: Callable[[Outcome], None]) -> None:
        self._attempt, self.journal, self._on_outcome = attempt, journal, on_outcome
        self.outcomes: list[Outcome] = []
        # In the order in which they are committed.
        self.rows: dict[str, list[dict[str, Any]]] = {UNDERLYINGS: [], OPTIONS: []}

    def add(self, outcome: Outcome) -> None:
        """A contract has its outcome."""
        contract = outcome.request.contract
        if isinstance(contract, OptionContract):
            table, row = OPTIONS, option_row(outcome, contract, self._attempt)
        else:
            table, row = UNDERLYINGS, underlying_row(outcome, contract, self._attempt)
        self.outcomes.append(outcome)
        self.rows[table].append(row)
        self.journal.add(table, row)
        self._on_outcome(outcome)
