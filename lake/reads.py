"""What capture asks of the lake: the frozen set, and what a slot still lacks. Read through DuckDB, as analysts do."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import duckdb
import structlog

from lake import storage
from lake.duck import connect, delta_scan
from lake.errors import Damaged
from lake.sentinels import AMOUNT, UNSET
from lake.store import Lake

log = structlog.get_logger(__name__)

T = TypeVar("T")

# A good quote is error-free, arrived in its window, can be bought, and is not crossed; a bid is not needed when a tick
# has said that there is none. The macro `is_good_quote` states the rule of rows whose sentinels are nulled; this is the
# same of rows as they are in raw, and a test holds the two together.
_SENTINELS = ", ".join(f"{value:g}" for value in sorted(AMOUNT.sentinels))
GOOD_QUOTE = f"""
    not coalesce(snapshot_error, false)
    and asof_ts >= $window_start and asof_ts < $window_end
    and ask > 0 and ask < {UNSET}
    and case
        when bid >= 0 and bid < {UNSET} then bid <= ask
        else coalesce(bid_seen or bid = -1, false)
            and coalesce(bid >= 0 or bid <= -{UNSET} or bid in ({_SENTINELS}), true)
    end
"""

# Rows of before capture knew all sentinels may hold one (`lake.sentinels`).
KNOWN_INTEREST = f"open_interest >= 0 and open_interest < {UNSET}"
# IB's code for a contract that it does not know.
NO_SUCH_CONTRACT = 200


NOTHING_KNOWN = """
    create or replace temp table known_contracts (
        underlying varchar, trading_class varchar, last_trade_date date, "right" varchar, strike double,
        multiplier double, exchange varchar, conid bigint, symbol varchar, expiry date
    )
"""


class InterestBefore(NamedTuple):
    """A contract's open interest before a session, and its volume in it; `whole` when that was seen after the close."""

    open_interest: int | None
    volume: int
    whole: bool


class Reader:
    """Queries of one lake on one DuckDB connection. Make one with `reader`."""

    def __init__(self, lake: Lake, connection: duckdb.DuckDBPyConnection) -> None:
        self._lake, self._connection = lake, connection
        # What `spared` found damaged.
        self.damage: list[str] = []

    @property
    def lake(self) -> Lake:
        """The lake that is read."""
        return self._lake

    def rows(self, table: str, where: str = "true", columns: str = "*", **values: Any) -> list[dict[str, Any]]:
        """Rows of a table as dictionaries; `where` may name `values` as ``$name``. Empty when the table is missing."""
        if self._lake.version(table) is None:
            return []
        with storage.explained(self._lake.root):
            cursor = self._connection.execute(
                f"select {columns} from {delta_scan(self._lake.uri(table))} where {where}",
                values,
            )
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def spared(self, read: Callable[[], T], without: T) -> T:
        """What `read` returns; `without` where files of the lake are damaged, of which `damage` then tells.

        For what is good to know of earlier slots and days: what is shown now cannot be captured later.
        """
        try:
            return read()
        except (duckdb.Error, Damaged) as error:
            self.damage.append(storage.plain(error))
            log.error("history_unreadable", root=self._lake.root, error=self.damage[-1])
            return without

    def contracts(self, trade_date: date) -> list[dict[str, Any]]:
        """The frozen set of a date, in the columns of ``raw/contracts``; one row per conid."""
        return self.rows("raw/contracts", f"trade_date = date '{trade_date}' order by frozen_at desc")

    def frozen_conids(self, trade_date: date) -> list[tuple[str, int, bool]]:
        """Underlying and conid of every row of the frozen set, and whether it was discovered on an earlier session."""
        # A lake made before the column was has no word on it: what it froze was discovered that day.
        found = self.rows(
            "raw/contracts", f"trade_date = date '{trade_date}'", "columns('^(underlying|conid|discovered_on)$')"
        )
        return [
            (row["underlying"], row["conid"], (row.get("discovered_on") or trade_date) < trade_date) for row in found
        ]

    def discovered_parts(self, trade_date: date) -> set[str]:
        """The parts of the universe that finished discoveries of a date were for: "all", or chosen symbols."""
        found = self.rows("ops/runs", f"trade_date = date '{trade_date}' and step = 'discover'", "distinct batch")
        return {row["batch"] for row in found}

    def sessions(self, trade_date: date) -> list[dict[str, Any]]:
        """The stored slots of a date."""
        return self.rows("raw/sessions", f"trade_date = date '{trade_date}'")

    def captured_options(self, trade_date: date, view: str, slot: int, window: tuple[datetime, datetime]) -> set[int]:
        """Conids that already have a good row in the slot of a view."""
        found = self.rows(
            "raw/option_quotes",
            f"trade_date = date '{trade_date}' and slot_30m = {slot} and view = '{view}' and {GOOD_QUOTE}",
            "distinct conid",
            window_start=window[0],
            window_end=window[1],
        )
        return {row["conid"] for row in found}

    def captured_underlyings(self, trade_date: date, view: str, slot: int) -> set[int]:
        """Conids of underlyings that already have an error-free row in the slot of a view."""
        found = self.rows(
            "raw/underlying_quotes",
            f"trade_date = date '{trade_date}' and slot_30m = {slot} and view = '{view}' and not snapshot_error",
            "distinct conid",
        )
        return {row["conid"] for row in found}

    def underlying_conids(self, trade_date: date) -> dict[str, int]:
        """Conids by symbol of the underlyings that were asked for on a date."""
        found = self.rows(
            "raw/underlying_quotes", f"trade_date = date '{trade_date}' and conid > 0", "distinct underlying, conid"
        )
        return {row["underlying"]: row["conid"] for row in found}

    def latest_date(self) -> date | None:
        """The last trade date that the lake knows, None in an empty lake."""
        found = self.rows("raw/sessions", columns="max(trade_date) as day")
        day: date | None = found[0]["day"] if found else None
        return day

    def retired(self, dates: Sequence[date]) -> list[date]:
        """Those of `dates` (ascending) whose daily tables were made of quotes that are no longer in the lake.

        Retention took them, or they were lost: such a date cannot be built again. A date that never had a quote is none
        of them. The macro `choose_build_dates` of the dbt project states the same rule.
        """
        if not dates:
            return []
        # A range prunes files, a list alone does not.
        among = f"trade_date between date '{min(dates)}' and date '{max(dates)}' and trade_date in $dates"
        made = [("clean/daily_clean", among), ("clean/daily_unresolved", f"{among} and reason <> 'never_asked'")]
        made_of_quotes = {day for table, where in made for day in self._dates(table, where, dates)}
        return sorted(made_of_quotes - self._dates("raw/option_quotes", among, dates))

    def verdict(self, trade_date: date) -> str | None:
        """The status of a date's latest publication, None when it was never published."""
        found = self.rows(
            "ops/published",
            f"trade_date = date '{trade_date}' order by published_at desc, run_id desc limit 1",
            "status",
        )
        return found[0]["status"] if found else None

    def _dates(self, table: str, where: str, dates: Sequence[date]) -> set[date]:
        return {row["trade_date"] for row in self.rows(table, where, "distinct trade_date", dates=list(dates))}

    def captured_slots(self, trade_date: date) -> set[int]:
        """Slots of a date that have an error-free row."""
        found = self.rows(
            "raw/option_quotes",
            f"trade_date = date '{trade_date}' and view = 'intraday' and not snapshot_error",
            "distinct slot_30m",
        )
        return {row["slot_30m"] for row in found}

    def last_close(self, underlying: str, before: date) -> float | None:
        """The latest `underlying_close` of daily_clean before a date, if any."""
        found = self.rows(
            "clean/daily_clean",
            f"trade_date < date '{before}' and trade_date >= date '{before}' - 30 and underlying = $underlying",
            "arg_max(underlying_close, trade_date) as underlying_close",
            underlying=underlying,
        )
        return found[0]["underlying_close"] if found else None

    def remember_contracts(self, trade_date: date, contract_days: int, first_lookup: date) -> None:
        """Hold what is known of listings for `known_contracts`, in memory: the latest word on each combination.

        Nothing is known where files of the lake are damaged: then IB is asked.

        Known are the contracts frozen in the last `contract_days` days, and the answers of ``ops/contract_lookups``
        since the session `first_lookup`. What IB has since called unknown when it was captured is not known any more.
        """
        terms = 'underlying, trading_class, last_trade_date, "right", strike, multiplier, exchange'
        self._connection.execute(NOTHING_KNOWN)
        words = " union all ".join(
            [
                self._words(
                    "raw/contracts", terms, "frozen_at", trade_date - timedelta(days=contract_days), trade_date
                ),
                self._words("ops/contract_lookups", terms, "asked_at", first_lookup, trade_date),
            ]
        )
        remember = f"""
            create or replace temp table known_contracts as
            with words as ({words}),
            latest as (
                select {terms}, arg_max(struct_pack(conid, symbol, expiry), told_at) as word, max(told_at) as told_at
                from words group by {terms}
            ),
            disowned as (
                select conid, max(observed_at) as observed_at
                from {delta_scan(self._lake.uri("ops/errors"))}
                where trade_date >= date '{trade_date}' - {contract_days} and trade_date <= date '{trade_date}'
                    and code = {NO_SUCH_CONTRACT} and conid is not null
                group by conid
            )
            select {terms}, word.conid as conid, word.symbol as symbol, word.expiry as expiry
            from latest left join disowned on latest.word.conid = disowned.conid
            where disowned.observed_at is null or disowned.observed_at < latest.told_at
            """
        self.spared(lambda: self._connection.execute(remember), None)

    def known_contracts(self, underlying: str) -> list[dict[str, Any]]:
        """Combinations of an underlying that `remember_contracts` holds; `conid` is null for one that is not listed."""
        cursor = self._connection.execute("select * from known_contracts where underlying = $1", [underlying])
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _words(self, table: str, terms: str, told_at: str, first: date, last: date) -> str:
        return (
            f"select {terms}, conid, symbol, expiry, {told_at} as told_at from {delta_scan(self._lake.uri(table))} "
            f"where trade_date >= date '{first}' and trade_date <= date '{last}'"
        )

    def last_frozen(self, trade_date: date, first: date) -> list[dict[str, Any]]:
        """Per underlying the contracts of its latest frozen set from `first` up to before `trade_date`, as frozen."""
        return self.rows(
            "raw/contracts",
            f"trade_date >= date '{first}' and trade_date < date '{trade_date}' "
            "qualify trade_date = max(trade_date) over (partition by underlying) "
            "and row_number() over (partition by trade_date, conid order by frozen_at) = 1",
        )

    def interest_before(self, trade_date: date, previous: date, close: datetime) -> dict[int, InterestBefore]:
        """By conid: the open interest of the `previous` session, and the volume of `trade_date`.

        The first is what was observed of that session, else what the day's own snapshots showed last. A contract
        without any snapshot of the day is left out.
        """
        observed = self.rows(
            "raw/open_interest",
            f"trade_date = date '{previous}' and oi_asof_date = trade_date and not snapshot_error "
            f"and {KNOWN_INTEREST} group by conid",
            "conid, arg_max(open_interest, observed_at) as open_interest",
        )
        before = {row["conid"]: row["open_interest"] for row in observed}
        shown = self.rows(
            "raw/option_quotes",
            f"trade_date = date '{trade_date}' and not snapshot_error group by conid",
            f"conid, arg_max(open_interest, asof_ts) filter ({KNOWN_INTEREST}) as open_interest, "
            f"coalesce(max(volume) filter (volume >= 0 and volume < {UNSET}), 0) as volume, "
            "coalesce(max(asof_ts) >= $close, false) as whole",
            close=close,
        )
        return {
            row["conid"]: InterestBefore(before.get(row["conid"], row["open_interest"]), row["volume"], row["whole"])
            for row in shown
        }

    def shown_interest(self, trade_date: date) -> dict[int, tuple[int, datetime]]:
        """By conid: the open interest that a day's snapshots showed last, and when."""
        found = self.rows(
            "raw/option_quotes",
            f"trade_date = date '{trade_date}' and not snapshot_error and {KNOWN_INTEREST} group by conid",
            "conid, arg_max(open_interest, asof_ts) as open_interest, max(asof_ts) as asof_ts",
        )
        return {row["conid"]: (row["open_interest"], row["asof_ts"]) for row in found}

    def settled_open_interest(self, trade_date: date) -> dict[int, tuple[str, int | None]]:
        """By conid of which nothing more is to come: underlying, and open interest of the session; None: given up."""
        found = self.rows(
            "raw/open_interest",
            f"trade_date = date '{trade_date}' and (method = 'next_session_snapshot' and snapshot_error "
            "or oi_asof_date = trade_date and not snapshot_error) group by conid",
            "conid, any_value(underlying) as underlying, arg_max(open_interest, observed_at) as open_interest",
        )
        return {row["conid"]: (row["underlying"], row["open_interest"]) for row in found}

    def settled_count(self, trade_date: date, version: int | None = None) -> int:
        """How many observations describe the session itself, now or at a version of ``raw/open_interest``."""
        table = "raw/open_interest"
        if self._lake.version(table) is None:
            return 0
        at = "" if version is None else f", version = {version}"
        found = self._connection.execute(
            f"select count(*) from delta_scan('{self._lake.uri(table)}'{at}) "
            f"where trade_date = date '{trade_date}' and oi_asof_date = trade_date and not snapshot_error"
        ).fetchone()
        return int(found[0]) if found else 0


@contextmanager
def reader(lake: Lake) -> Iterator[Reader]:
    """A Reader whose connection is closed at the end."""
    connection = connect(root=lake.root)
    try:
        yield Reader(lake, connection)
    finally:
        connection.close()
