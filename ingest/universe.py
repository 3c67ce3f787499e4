"""The universe file: which underlyings are recorded."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from ingest.contracts import Underlying
from ingest.csv_files import WrongLine, read_lines
from ingest.errors import UsageError

COLUMNS = ("symbol", "conid", "sec_type", "exchange", "weight", "group", "views")
VIEWS = {
    "": frozenset({"intraday", "close"}),
    "both": frozenset({"intraday", "close"}),
    "intraday": frozenset({"intraday"}),
    "close": frozenset({"close"}),
}


# A symbol as IB writes it, and what people write for the blank in one.
SYMBOL = re.compile(r"[A-Z0-9]+( [A-Z0-9]+)*", re.ASCII)
SEPARATORS = re.compile(r"[\s./-]+", re.ASCII)
# IB's contract ids have up to ten digits.
CONID = re.compile(r"0*[1-9]\d{0,11}", re.ASCII)
WEIGHT = re.compile(r"\d+(\.\d*)?|\.\d+", re.ASCII)


def ib_symbol(symbol: str) -> str:
    """`symbol` as IB writes it: ``brk.b``, ``BRK-B`` and ``BRK/B`` are ``BRK B``.

    The macro `ib_symbol` of the dbt project and the simulated gateway (`events.ib_symbol`) state the same rule.
    """
    return SEPARATORS.sub(" ", symbol).strip().upper()


def read_universe(file: Path) -> list[Underlying]:
    """The underlyings of a CSV with the columns ``symbol, conid, sec_type, exchange, weight, group, views``.

    Only `symbol` must be filled. Raises UsageError naming the line.
    """
    underlyings: dict[str, Underlying] = {}
    for line, fields in read_lines(file, COLUMNS, "universe.file"):
        try:
            underlying = _parse(fields)
        except ValueError as error:
            raise WrongLine(file, line, str(error)) from None
        if underlying.symbol in underlyings:
            raise WrongLine(file, line, f"{underlying.symbol} stands twice; remove one line")
        underlyings[underlying.symbol] = underlying
    if not underlyings:
        raise UsageError(f"{file} names no underlying: add lines with at least a symbol")
    return list(underlyings.values())


def write_universe(universe: Sequence[Underlying], file: Path) -> None:
    """Write `universe` as a file that `read_universe` reads back."""
    with file.open("w", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(COLUMNS)
        for u in universe:
            views = next(iter(u.views)) if len(u.views) == 1 else "both"
            writer.writerow((u.symbol, u.conid, u.sec_type, u.exchange, u.weight, u.group, views))


def choose(universe: Sequence[Underlying], symbols: Sequence[str]) -> list[Underlying]:
    """The underlyings of `symbols` in that order, all of the universe when there are none.

    A symbol outside the universe is taken as a US stock; the broker says whether it exists.
    """
    known = {underlying.symbol: underlying for underlying in universe}
    wanted = dict.fromkeys(ib_symbol(symbol) for symbol in symbols)
    return [known.get(symbol, Underlying(symbol, group="adhoc")) for symbol in wanted] if wanted else list(universe)


def _parse(fields: dict[str, str]) -> Underlying:
    symbol = ib_symbol(fields["symbol"])
    if not SYMBOL.fullmatch(symbol):
        raise ValueError(f"{fields['symbol']!r} is not a symbol")
    if fields["views"] not in VIEWS:
        raise ValueError(f"views is {fields['views']!r}; expected intraday, close or both")
    weight = fields["weight"]
    if fields["conid"] and not CONID.fullmatch(fields["conid"]):
        raise ValueError(f"conid {fields['conid']!r} is no whole number above 0; it may be empty")
    if weight and not WEIGHT.fullmatch(weight):
        raise ValueError(f"weight {weight!r} is no number of 0 or more; it may be empty")
    return Underlying(
        symbol=symbol,
        conid=int(fields["conid"]) if fields["conid"] else None,
        sec_type=fields["sec_type"] or "STK",
        exchange=fields["exchange"] or "SMART",
        weight=float(weight) if weight else None,
        group=fields["group"],
        views=VIEWS[fields["views"]],
    )
