"""The universe file: which underlyings are recorded."""

import csv
from collections.abc import Sequence
from pathlib import Path

from ingest.contracts import Underlying
from ingest.errors import UsageError

COLUMNS = ("symbol", "conid", "sec_type", "exchange", "weight", "group", "views")
VIEWS = {
    "": frozenset({"intraday", "close"}),
    "both": frozenset({"intraday", "close"}),
    "intraday": frozenset({"intraday"}),
    "close": frozenset({"close"}),
}


def ib_symbol(symbol: str) -> str:
    """`symbol` as IB writes it: ``BRK.B`` is ``BRK B``."""
    return " ".join(symbol.strip().upper().replace(".", " ").split())


def read_universe(file: Path) -> list[Underlying]:
    """The underlyings of a CSV with the columns ``symbol, conid, sec_type, exchange, weight, group, views``.

    Only `symbol` must be filled. Raises UsageError naming the line.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"universe file {file} cannot be read ({error}): set universe.file") from None
    reader = csv.DictReader(text.splitlines())
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
    if missing:
        raise UsageError(f"{file}, line 1: no column {', '.join(missing)}; expected {','.join(COLUMNS)}")
    underlyings: dict[str, Underlying] = {}
    for row in reader:
        underlying = _parse(row, f"{file}, line {reader.line_num}")
        if underlying.symbol in underlyings:
            raise UsageError(f"{file}, line {reader.line_num}: {underlying.symbol} stands twice; remove one line")
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


def _parse(row: dict[str, str | None], where: str) -> Underlying:
    fields = {name: (row.get(name) or "").strip() for name in COLUMNS}
    if None in row or any(row.get(name) is None for name in COLUMNS):
        raise UsageError(f"{where}: expected {len(COLUMNS)} fields ({','.join(COLUMNS)})")
    symbol = ib_symbol(fields["symbol"])
    if not symbol or not symbol.replace(" ", "").isalnum():
        raise UsageError(f"{where}: {fields['symbol']!r} is not a symbol")
    if fields["views"] not in VIEWS:
        raise UsageError(f"{where}: views is {fields['views']!r}; expected intraday, close or both")
    try:
        return Underlying(
            symbol=symbol,
            conid=int(fields["conid"]) if fields["conid"] else None,
            sec_type=fields["sec_type"] or "STK",
            exchange=fields["exchange"] or "SMART",
            weight=float(fields["weight"]) if fields["weight"] else None,
            group=fields["group"],
            views=VIEWS[fields["views"]],
        )
    except ValueError:
        raise UsageError(f"{where}: conid must be a whole number and weight a number, or empty") from None
