"""Reading recorded days: one Parquet file, one or more underlyings, one New York date."""

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ingest.calendar.sessions import session_on
from tws_simulator.errors import GatewayError
from tws_simulator.worlds.instruments import Right, last_trade_date_of, option_root

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SCHEMA: dict[str, pl.DataType] = {
    "ts": pl.Datetime("us", "UTC"),
    "underlying": pl.String(),
    "underlying_price": pl.Float64(),
    "expiry": pl.Date(),
    "strike": pl.Float64(),
    "right": pl.String(),
    "multiplier": pl.Float64(),
    "bid": pl.Float64(),
    "ask": pl.Float64(),
    "bid_size": pl.Int64(),
    "ask_size": pl.Int64(),
    "last": pl.Float64(),
    "volume": pl.Int64(),
    "open_interest": pl.Int64(),
}
# What a file may name beside that; without it, both follow from the multiplier and the expiry.
OPTIONAL: dict[str, pl.DataType] = {"trading_class": pl.String(), "last_trade_date": pl.Date()}
_YEARS = (1970, 2200)
# Above any price that was ever quoted; beyond it arithmetic overflows.
_MOST = 1e9
_CONTRACT = ["trading_class", "multiplier", "expiry", "last_trade_date", "right", "strike"]


@dataclass(frozen=True, slots=True, order=True)
class ContractKey:
    """What tells one contract of an underlying from another in a file; ``expiry`` is the OCC expiry."""

    trading_class: str
    multiplier: float
    expiry: date
    last_trade_date: date
    right: Right
    strike: float


@dataclass(frozen=True, slots=True, eq=False)
class RecordedDay:
    """One underlying on one date. Rows are ordered by contract, then by time.

    ``contracts``: by row block, n of them; ``first_row``: shape (n + 1,), where each block begins. ``ts``: UTC
    microseconds per row; the other row columns hold NaN where the file has null. ``instants`` and ``spots``: the
    distinct times of the file and the underlying's price at each. ``open_interest``: per contract, NaN where unknown.
    """

    path: Path
    underlying: str
    trade_date: date
    contracts: tuple[ContractKey, ...]
    first_row: Ints
    ts: Ints
    bid: Floats
    ask: Floats
    last: Floats
    bid_size: Ints
    ask_size: Ints
    volume: Ints
    open_interest: Floats
    instants: Ints
    spots: Floats

    def instant_index(self, instant: datetime) -> int:
        """Position in ``instants`` of the last one at or before `instant`; -1 before the first."""
        return int(np.searchsorted(self.instants, microseconds(instant), side="right")) - 1

    def standing_rows(self, instant_index: int) -> Ints:
        """For each contract the row standing at that instant, -1 where it has none yet. Shape (n,)."""
        origin, span = self.instants[0], self.instants[-1] - self.instants[0] + 1
        blocks = np.arange(len(self.contracts))
        keys = np.repeat(blocks, np.diff(self.first_row)) * span + (self.ts - origin)
        rows = np.searchsorted(keys, blocks * span + (self.instants[instant_index] - origin), side="right") - 1
        return np.where(rows >= self.first_row[:-1], rows, -1).astype(np.int64)


def microseconds(instant: datetime) -> int:
    """UTC microseconds since 1970."""
    return round(instant.timestamp() * 1_000_000)


def load_days(path: Path) -> list[RecordedDay]:
    """The recorded days of one file, one per underlying. Raises `GatewayError`."""
    frame = _checked(_read(path), path)
    return [_day(path, part) for _, part in sorted(frame.partition_by("underlying", as_dict=True).items())]


def _read(path: Path) -> pl.DataFrame:
    """The rows of a Parquet file. Raises `GatewayError`.

    Arrow reads it: of a damaged file polars 2.1.0 can panic, which prints a backtrace that nobody can catch.
    """
    try:
        table = pq.ParquetFile(path).read()
        table = table.select([name for name in table.column_names if name in SCHEMA | OPTIONAL])
        table.validate(full=True)
        # Raises where the name of a time zone is no text, at which polars panics too.
        str(table.schema)
        frame = pl.DataFrame(table.replace_schema_metadata())
    except FileNotFoundError:
        raise GatewayError(
            f"replay file {path} does not exist; give the path of a Parquet file of a recorded day"
        ) from None
    except (OSError, ValueError, pa.ArrowException, MemoryError, pl.exceptions.PolarsError) as reason:
        line = (str(reason).splitlines() or ["no reason given"])[0]
        raise GatewayError(
            f"replay file {path} cannot be read as Parquet ({line}); check or download it again"
        ) from None
    return frame


def _checked(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    missing = [name for name in SCHEMA if name not in frame.columns]
    if missing:
        raise GatewayError(
            f"replay file {path} lacks the columns {', '.join(missing)}; docs/reference/gateway.md has the schema"
        )
    if frame.is_empty():
        raise GatewayError(f"replay file {path} has no rows; give a file with at least one quote")
    try:
        types = SCHEMA | {name: dtype for name, dtype in OPTIONAL.items() if name in frame.columns}
        frame = frame.select([pl.col(name).cast(dtype) for name, dtype in types.items()])
    except pl.exceptions.PolarsError as reason:
        line = str(reason).splitlines()[0]
        raise GatewayError(
            f"replay file {path} has a column of the wrong type ({line}); see docs/reference/gateway.md"
        ) from None
    frame = frame.with_columns(pl.col(pl.Float64).fill_nan(None))
    required = ["ts", "underlying", "underlying_price", *[name for name in _CONTRACT if name in frame.columns]]
    if holes := [name for name in required if frame[name].null_count()]:
        raise GatewayError(f"replay file {path} has nulls in {', '.join(holes)}; every row needs them")
    for name in ("ts", *(name for name in ("expiry", "last_trade_date") if name in frame.columns)):
        if not frame[name].dt.year().is_between(*_YEARS).all():
            raise GatewayError(f"replay file {path} has values of {name} outside the years {_YEARS[0]} to {_YEARS[1]}")
    for name in ("underlying_price", "strike", "multiplier"):
        if not frame[name].is_between(0, _MOST, closed="none").all():
            raise GatewayError(f"replay file {path} has values of {name} that are no prices or sizes (above 0)")
    if rights := set(frame["right"].unique()) - {"C", "P"}:
        raise GatewayError(f"replay file {path} has the rights {sorted(rights)}; they must be C or P")
    named = set(frame["last_trade_date"].unique()) if "last_trade_date" in frame.columns else set()
    if closed := sorted(day for day in named if session_on(day) is None):
        raise GatewayError(f"replay file {path}: {closed[0]} is no session and cannot be a last_trade_date")
    days = frame.select(pl.col("ts").dt.convert_time_zone("America/New_York").dt.date().unique())["ts"].to_list()
    if len(days) != 1:
        raise GatewayError(f"replay file {path} spans {len(days)} New York dates; split it into one file a day")
    return _with_names(frame)


def _with_names(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with the optional columns it lacks."""
    if "trading_class" not in frame.columns:
        named = frame.select("underlying", "multiplier").unique()
        names = [default_class(symbol, multiplier) for symbol, multiplier in named.iter_rows()]
        frame = frame.join(named.with_columns(trading_class=pl.Series(names)), on=["underlying", "multiplier"])
    if "last_trade_date" not in frame.columns:
        dates = frame.select("expiry").unique()
        last = [last_trade_date_of(expiry, lambda day: session_on(day) is not None) for expiry in dates["expiry"]]
        frame = frame.join(dates.with_columns(last_trade_date=pl.Series(last)), on="expiry")
    return frame


def default_class(symbol: str, multiplier: float) -> str:
    """The root, with the digit OCC adds for minis (10 shares) and for adjusted series."""
    root = option_root(symbol)
    if multiplier == 100:
        return root
    return f"{root}7" if multiplier == 10 else f"{root}1"


def _day(path: Path, frame: pl.DataFrame) -> RecordedDay:
    frame = frame.sort([*_CONTRACT, "ts"], maintain_order=True)
    blocks = frame.group_by(_CONTRACT, maintain_order=True).agg(pl.len(), pl.col("open_interest").last())
    times = frame.group_by("ts").agg(pl.col("underlying_price").last()).sort("ts")
    first = frame["ts"][0]
    assert isinstance(first, datetime)
    zoned = frame.select(pl.col("ts").dt.convert_time_zone("America/New_York").dt.date())["ts"][0]
    return RecordedDay(
        path=path,
        underlying=frame["underlying"][0],
        trade_date=zoned,
        contracts=tuple(
            ContractKey(name, m, e, last, "C" if r == "C" else "P", k)
            for name, m, e, last, r, k in blocks.select(_CONTRACT).iter_rows()
        ),
        first_row=np.concatenate([[0], np.cumsum(blocks["len"].to_numpy())]).astype(np.int64),
        ts=frame["ts"].to_physical().to_numpy(),
        bid=_floats(frame, "bid"),
        ask=_floats(frame, "ask"),
        last=_floats(frame, "last"),
        bid_size=_ints(frame, "bid_size"),
        ask_size=_ints(frame, "ask_size"),
        volume=_ints(frame, "volume"),
        open_interest=blocks["open_interest"].cast(pl.Float64).fill_null(float("nan")).to_numpy(),
        instants=times["ts"].to_physical().to_numpy(),
        spots=times["underlying_price"].to_numpy(),
    )


def _floats(frame: pl.DataFrame, name: str) -> Floats:
    return frame[name].fill_null(float("nan")).to_numpy()


def _ints(frame: pl.DataFrame, name: str) -> Ints:
    return frame[name].fill_null(0).to_numpy()
