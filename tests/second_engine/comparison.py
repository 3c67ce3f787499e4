"""Two engines' answers, row by row and column by column."""

import polars as pl

KEYS = {
    "clean/intraday": ["trade_date", "slot_30m", "conid"],
    "clean/daily_clean": ["trade_date", "conid"],
    "clean/daily_unresolved": ["trade_date", "conid"],
    "clean/daily_adjusted": ["trade_date", "conid"],
}
# Columns reckoned in several steps, whose order may cost an ulp or two; all others agree exactly.
RECKONED = ("moneyness_pct", "price_factor", "strike_shift", "strike_per_100")
TOLERANCE: dict[pl.DataType, float] = {pl.Float64(): 1e-14, pl.Float32(): 2e-7}


def differences(table: str, ours: pl.DataFrame, theirs: pl.DataFrame, own_flags: frozenset[str]) -> list[str]:
    """One line for every row or value in which `ours` (the second engine) and `theirs` (dbt's table) differ.

    All columns of `theirs` are compared; of the flags those in `own_flags`, which the second engine knows.
    """
    key = KEYS[table]
    found = [f"{table}: no column {name}" for name in theirs.columns if name not in ours.columns]
    columns = [name for name in theirs.columns if name in ours.columns]
    ours, theirs = (_known_flags(rows.select(columns), own_flags) for rows in (ours, theirs))
    for name, rows, others in (("second engine", ours, theirs), ("dbt", theirs, ours)):
        if repeated := rows.height - rows.n_unique(key):
            found.append(f"{table}: the {name} repeats {repeated} keys")
        alone = rows.join(others, on=key, how="anti")
        found += [f"{table}: only the {name} has {row}" for row in alone.select(key).iter_rows(named=True)]
    both = ours.join(theirs, on=key, how="inner", suffix=":dbt")
    for column in columns:
        if column not in key:
            unlike = both.filter(~_same(column, theirs.schema[column]))
            found += [
                f"{table}.{column} at {row[:-2]}: second engine {row[-2]!r}, dbt {row[-1]!r}"
                for row in unlike.select(*key, column, f"{column}:dbt").iter_rows()
            ]
    return found


def _known_flags(rows: pl.DataFrame, own_flags: frozenset[str]) -> pl.DataFrame:
    if "data_quality_flag" not in rows.columns:
        return rows
    flags = pl.col("data_quality_flag")
    return rows.with_columns(
        flags.list.eval(pl.element().filter(pl.element().is_in(sorted(own_flags)))).alias("data_quality_flag")
    )


def _same(column: str, kind: pl.DataType) -> pl.Expr:
    one, other = pl.col(column), pl.col(f"{column}:dbt")
    equal = one.eq_missing(other)
    if kind.is_float() and (column in RECKONED or column.endswith("_adj")):
        room = TOLERANCE[kind] * pl.max_horizontal(one.abs(), other.abs(), 1.0)
        return equal | ((one - other).abs() <= room).fill_null(False)
    return equal
