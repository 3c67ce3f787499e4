"""Vectorised SQL functions over `option_pricing`, for the models under ``derived``.

DuckDB calls them with a batch of groups at a time (up to 2,048 smiles), the quotes of each group as one list of
structs: no smile is cut in two, and a batch is a size that the numerical kernel is quick with. A null number is NaN to
the kernel, and a number that is not finite comes back as null. docs/adr/0021 says why these are functions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType

from option_pricing import kernel
from option_pricing.black_scholes import Floats
from option_pricing.forwards import Smiles, imply_forwards
from option_pricing.grid import constant_maturities, surface_grid
from option_pricing.quotes import Pairs, Quotes
from option_pricing.segments import Bools, Ints
from option_pricing.surface import Volatilities, fit_surfaces
from option_pricing.variance_strip import variance_strips

# A pyarrow Array or ChunkedArray; pyarrow has no types.
Column = Any

FORWARD = {
    **dict.fromkeys(("forward", "forward_error", "discount", "discount_error", "carry", "carry_error"), "DOUBLE"),
    **dict.fromkeys(("dividends", "residual", "r2", "confidence"), "DOUBLE"),
    "pairs": "BIGINT",
    **dict.fromkeys(("discount_implied", "outliers", "few_pairs"), "BOOLEAN"),
}
SMILE = {
    **dict.fromkeys(("a", "b", "rho", "m", "sigma", "atm_iv", "atm_error", "skew", "curvature"), "DOUBLE"),
    **dict.fromkeys(
        ("rms", "inside_share", "delta_low", "delta_high", "butterfly", "calendar", "confidence"), "DOUBLE"
    ),
    **dict.fromkeys(("quotes", "used"), "BIGINT"),
    **dict.fromkeys(("arbitrage_free", "repaired"), "BOOLEAN"),
}
POINT = {
    "days": "BIGINT",
    "call": "BOOLEAN",
    **dict.fromkeys(("delta", "iv", "strike", "dispersion", "error", "confidence"), "DOUBLE"),
}
MATURITY = {
    "days": "BIGINT",
    **dict.fromkeys(("atm_iv", "risk_reversal", "butterfly", "variance_swap", "confidence"), "DOUBLE"),
}
SVI = ("a", "b", "rho", "m", "sigma")
QUOTE = {"conid": "BIGINT", "call": "BOOLEAN", **dict.fromkeys(("strike", "bid", "ask"), "DOUBLE")}
IMPLIED = (*("iv_bid", "iv_mid", "iv_ask", "delta", "gamma", "theta", "vega", "rho", "exercise_premium"),)
VOL = {**QUOTE, **dict.fromkeys(IMPLIED, "DOUBLE"), "reason": "VARCHAR"}
PAIR = dict.fromkeys(("strike", "call_bid", "call_ask", "put_bid", "put_ask"), "DOUBLE")


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the functions known to `connection`."""
    connection.create_function(
        "chainlake_forwards",
        forwards,
        ["DOUBLE", "DOUBLE", "DOUBLE", "BOOLEAN", f"{_struct(PAIR)}[]"],
        _struct(FORWARD),
        type=PythonUDFType.ARROW,
        null_handling=FunctionNullHandling.SPECIAL,
    )
    connection.create_function(
        "chainlake_vols",
        vols,
        ["DOUBLE", "DOUBLE", "DOUBLE", "DOUBLE", "BOOLEAN", f"{_struct(QUOTE)}[]"],
        f"{_struct(VOL)}[]",
        type=PythonUDFType.ARROW,
        null_handling=FunctionNullHandling.SPECIAL,
    )
    connection.create_function(
        "chainlake_surfaces",
        surfaces,
        [
            "STRUCT(smile BIGINT, surface BIGINT, tte DOUBLE, forward DOUBLE, forward_error DOUBLE, discount DOUBLE, "
            f"quotes {_struct(VOL)}[])[]"
        ],
        f"STRUCT(smiles STRUCT(smile BIGINT, {_fields(SMILE)})[], grid STRUCT(surface BIGINT, {_fields(POINT)})[], "
        f"maturities STRUCT(surface BIGINT, {_fields(MATURITY)})[])",
        type=PythonUDFType.ARROW,
        null_handling=FunctionNullHandling.SPECIAL,
    )


def forwards(years: Column, rate: Column, spot: Column, american: Column, pairs: Column) -> pa.Array:
    """What `imply_forwards` says of each smile: a struct a smile, of its pairs as a list of structs."""
    smiles = Smiles(floats(years), floats(rate), floats(spot), truths(american))
    listed = Lists.of(pairs)
    order = np.lexsort((listed.floats("strike"), listed.group))
    columns = (listed.floats(name)[order] for name in PAIR)
    found = imply_forwards(smiles, Pairs(listed.group[order], *columns))
    return structs({name: getattr(found, name) for name in FORWARD})


def vols(years: Column, forward: Column, discount: Column, spot: Column, american: Column, quotes: Column) -> pa.Array:
    """What `kernel.implied` says of each quote of each smile: a list of structs a smile, in the order of its quotes."""
    listed = Lists.of(quotes)
    smiles = kernel.Smiles(floats(years), floats(forward), floats(discount), floats(spot), truths(american))
    strike, bid, ask = (listed.floats(name) for name in ("strike", "bid", "ask"))
    found = kernel.implied(smiles, kernel.Quotes(listed.group, listed.truths("call"), strike, bid, ask))
    names = np.array(kernel.REASONS, dtype=object)[found.reason]
    reasons = pa.array(names, pa.string(), mask=names == "")
    given = {name: listed.fields.field(name) for name in QUOTE}
    implied = {name: getattr(found, name) for name in IMPLIED}
    return lists_of(len(whole(years)), listed.group, {**given, **implied, "reason": reasons})


def surfaces(smiles: Column) -> pa.Array:
    """The fits of the surfaces of an instant, of all its smiles as a list of structs: a struct an instant, of lists.

    ``smiles``, ``grid`` and ``maturities``. An instant is fitted by itself, its smiles in the order of their numbers:
    the last digit of a fit depends on what is fitted beside it, and a day that is built again has to come out the same.
    """
    column = whole(smiles)
    rows = [_fitted(column.slice(number, 1)) for number in range(len(column))]
    return pa.concat_arrays(rows)


def _fitted(smiles: pa.ListArray) -> pa.StructArray:
    listed = Lists.of(smiles)
    at = np.argsort(listed.floats("smile"), kind="stable")
    place = np.empty_like(at)
    place[at] = np.arange(at.size)
    years, forward, discount = (listed.floats(name)[at] for name in ("tte", "forward", "discount"))
    surface = listed.floats("surface")[at].astype(np.int64)
    quotes = Lists.of(listed.fields.field("quotes"))
    group = place[quotes.group]
    order = np.lexsort((quotes.truths("call"), quotes.floats("strike"), group))
    smile, strike, call = group[order], quotes.floats("strike")[order], quotes.truths("call")[order]
    bid, ask = quotes.floats("bid")[order], quotes.floats("ask")[order]
    iv_bid, iv_mid, iv_ask = (quotes.floats(name)[order] for name in ("iv_bid", "iv_mid", "iv_ask"))
    volatilities = Volatilities(smile, np.log(strike / forward[smile]), call, iv_bid, iv_mid, iv_ask)
    found = fit_surfaces(years, surface, volatilities, listed.floats("forward_error")[at] / forward)
    together = np.zeros(order.size)  # a strip does not ask when its quotes arrived
    strips = variance_strips(years, forward, discount, Quotes(smile, strike, call, bid, ask, together))
    rows = {name: getattr(found.svi if name in SVI else found, name) for name in SMILE}
    grid, maturities = surface_grid(found, forward), constant_maturities(found, strips.variance)
    return pa.StructArray.from_arrays(
        [
            _one_list({"smile": listed.fields.field("smile").take(pa.array(at)), **rows}),
            _one_list({"surface": grid.surface, **{name: getattr(grid, name) for name in POINT}}),
            _one_list({"surface": maturities.surface, **{name: getattr(maturities, name) for name in MATURITY}}),
        ],
        names=["smiles", "grid", "maturities"],
    )


def _one_list(columns: Mapping[str, Any]) -> pa.ListArray:
    rows = structs(columns)
    return pa.ListArray.from_arrays(pa.array([0, len(rows)], pa.int32()), rows)


@dataclass(frozen=True, slots=True)
class Lists:
    """A column of lists of structs, flat: the fields of all structs one after the other, and the row of each."""

    group: Ints
    fields: pa.StructArray

    @classmethod
    def of(cls, column: Column) -> "Lists":
        """The lists of `column`; a null is an empty list."""
        lists = whole(column)
        lengths = np.nan_to_num(floats(lists.value_lengths())).astype(np.int64)
        return cls(np.repeat(np.arange(len(lists)), lengths), lists.flatten())

    def floats(self, name: str) -> Floats:
        """The field `name` as numbers."""
        return floats(self.fields.field(name))

    def truths(self, name: str) -> Bools:
        """The field `name` as truths."""
        return truths(self.fields.field(name))


def whole(column: Column) -> pa.Array:
    """`column` in one piece."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def floats(column: Column) -> Floats:
    """A numeric column with NaN for null."""
    array = whole(column).cast(pa.float64())
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=float)


def truths(column: Column) -> Bools:
    """A column of truths; null is false."""
    return np.asarray(whole(column).fill_null(False).to_numpy(zero_copy_only=False), dtype=bool)


def structs(columns: Mapping[str, Any]) -> pa.StructArray:
    """Columns of one length as structs; a number that is not finite is null."""
    return pa.StructArray.from_arrays([_column(values) for values in columns.values()], names=list(columns))


def lists_of(count: int, group: Ints, columns: Mapping[str, Any]) -> pa.ListArray:
    """Rows in the order of `group`, the number of their list, as `count` lists of structs."""
    offsets = np.searchsorted(group, np.arange(count + 1))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs(columns))


def _column(values: Any) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    array = np.asarray(values)
    if array.dtype.kind == "f":
        return pa.array(array, mask=~np.isfinite(array))
    return pa.array(array)


def _struct(fields: Mapping[str, str]) -> str:
    return f"STRUCT({_fields(fields)})"


def _fields(fields: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in fields.items())
