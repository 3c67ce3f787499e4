"""Option universes of QuantConnect's Lean: one CSV an underlying and trade date.

The form is that of ``Common/Data/UniverseSelection/OptionUniverse.cs`` (QuantConnect/Lean at 2486390, August 2026).
A file has the data of its date, which Lean shows an algorithm a day later (EndTime). It is
``option/usa/universes/<symbol>/<yyyyMMdd>.csv``, a header that begins with #, the line of the underlying with its
first three cells empty, then a line a contract. A contract is told by expiry (OCC's, as in Lean's own files), strike
and right alone: adjusted and mini series have no place in it and are left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from chainlake.export.folder import prepared, write
from lake.catalog.connection import open_catalog

FORMAT = "lean"
HEADER = "#expiry,strike,right,open,high,low,close,volume,open_interest,implied_volatility,delta,gamma,vega,theta,rho"
# Their options are in a folder of their own, by trading class.
INDEXES = frozenset({"SPX", "XSP", "VIX", "NDX", "RUT", "DJX", "OEX", "XEO"})
# Open, high and low are those of the slots: mids of good quotes, and prices of the underlying in them.
ROWS = """
    WITH slots AS (
        SELECT conid, arg_min(mid, slot_30m) AS open, max(mid) AS high, min(mid) AS low
        FROM clean.intraday WHERE trade_date = $day AND is_good AND mid IS NOT NULL GROUP BY conid
    ),
    spots AS (
        SELECT underlying, arg_min(underlying_price, slot_30m) AS open, max(underlying_price) AS high,
            min(underlying_price) AS low
        FROM clean.intraday WHERE trade_date = $day AND is_good AND underlying_price IS NOT NULL GROUP BY underlying
    )
    SELECT d.underlying, d.trading_class, d.multiplier, d.expiry, d.strike, d."right",
        slots.open, slots.high, slots.low, d.mid AS close, d.volume, d.open_interest,
        d.iv, d.delta, d.gamma, d.vega, d.theta,
        d.underlying_close, spots.open AS spot_open, spots.high AS spot_high, spots.low AS spot_low
    FROM clean.daily_clean AS d LEFT JOIN slots USING (conid) LEFT JOIN spots USING (underlying)
    WHERE d.trade_date = $day AND (len($symbols) = 0 OR list_contains($symbols, d.underlying))
    ORDER BY d.underlying, d.expiry, d.strike, d."right"
"""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: files, contracts in them, and contracts that the format has no place for."""

    files: tuple[Path, ...]
    contracts: int
    left_out: int


def export(root: str, day: date, symbols: Iterable[str], folder: Path) -> Exported:
    """Write the universes of a trade date, of `symbols` or all. Raises LakeError, UnusableRoot."""
    with open_catalog(root) as catalog:
        cursor = catalog.execute(ROWS, {"day": day, "symbols": list(symbols)})
        names = [column[0] for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    standard = [row for row in rows if _is_standard(row)]
    by_underlying: dict[str, list[dict[str, Any]]] = {}
    for row in standard:
        by_underlying.setdefault(row["underlying"], []).append(row)
    if not by_underlying:
        return Exported((), 0, len(rows))
    place, files = prepared(folder, FORMAT), []
    for underlying, chain in by_underlying.items():
        kind = "indexoption" if underlying in INDEXES else "option"
        name = underlying.lower().replace(" ", ".")
        file = place / kind / "usa" / "universes" / name / f"{day:%Y%m%d}.csv"
        write(file, universe(chain))
        files.append(file)
    return Exported(tuple(files), len(standard), len(rows) - len(standard))


def _is_standard(row: dict[str, Any]) -> bool:
    return bool(row["trading_class"] == row["underlying"].replace(" ", "") and row["multiplier"] == 100)


def universe(chain: list[dict[str, Any]]) -> str:
    """The file of one underlying: prices dollars a share, vega dollars a volatility point, theta dollars a day."""
    first = chain[0]
    spot = [first[name] for name in ("spot_open", "spot_high", "spot_low", "underlying_close")]
    lines = [HEADER, _line([None, None, None, *spot, 0, *[None] * 7])]
    for row in chain:
        prices = [row[name] for name in ("open", "high", "low", "close")]
        model = [row[name] for name in ("iv", "delta", "gamma", "vega", "theta")]
        terms = [f"{row['expiry']:%Y%m%d}", row["strike"], row["right"]]
        lines.append(_line([*terms, *prices, row["volume"] or 0, row["open_interest"], *model, None]))
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[Any]) -> str:
    return ",".join(map(_cell, cells))


def _cell(value: Any) -> str:
    # Lean reads decimals without an exponent; greeks have seven digits.
    if isinstance(value, float):
        return f"{value:.7f}".rstrip("0").rstrip(".")
    return "" if value is None else str(value)
