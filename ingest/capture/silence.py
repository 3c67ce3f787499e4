"""Contracts that never answer: they cost a line for the whole time-out, so they go last and are asked less often."""

from ingest.calendar.sessions import Slot
from lake.reads import Reader


def silent_contracts(reads: Reader, slot: Slot, slots: int) -> set[int]:
    """Conids that were asked in `slots` earlier slots of the day and gave no answer in the last so many; 0: none.

    An error of IB's is an answer; so is a quote without a market. What an outage took proves nothing.
    """
    if not slots:
        return set()
    rows = reads.rows(
        "raw/option_quotes",
        f"trade_date = date '{slot.trade_date}' and view = 'intraday' and slot_30m < {slot.slot_30m} "
        "and (not snapshot_error or error_type in ('timeout', 'ib_error')) group by conid, slot_30m",
        "conid, slot_30m, bool_and(snapshot_error and error_type = 'timeout') as silent",
    )
    by_contract: dict[int, list[tuple[int, bool]]] = {}
    for row in rows:
        by_contract.setdefault(row["conid"], []).append((row["slot_30m"], row["silent"]))
    return {
        conid
        for conid, asked in by_contract.items()
        if len(asked) >= slots and all(silent for _, silent in sorted(asked)[-slots:])
    }


def is_skipped(conid: int, slot: Slot, every: int) -> bool:
    """Whether a silent contract is left out of `slot`; its turns are spread over the slots by its id."""
    return (slot.slot_30m + conid) % every != 0
