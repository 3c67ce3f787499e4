"""The questions an assistant can ask. The docstring of each method is what the assistant reads: grain and units.

A table of models that a later version brings (``derived``) is listed and described without a change here, and can be
asked for by `sql`; a question of its own about it is one method more, and its name in `TOOLS`.
"""

import functools
import re
from collections.abc import Callable
from typing import Annotated, Concatenate, ParamSpec

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import Field

from chainlake.mcp.answers import Answer, Reply, listed, reply
from chainlake.mcp.meanings import table_meanings
from chainlake.mcp.questions import (
    CLOSE,
    Questions,
    clock_literal,
    day_literal,
    right_literal,
    symbol_literal,
)
from lake.duck import literal
from lake.errors import LakeError, QueryRefused
from lake.text import printable

P = ParamSpec("P")
LATEST = "latest"
TABLE_NAME = re.compile(r"[a-z_]+\.[a-z0-9_]+")
OCC = re.compile(r"([A-Z0-9]{1,6})\s*(\d{6}[CP]\d{8})")
OF_PASSED = "_passed"
NO_DAY = "no rows: is the symbol recorded, is the date a session, and is it published? `days` lists the dates"

Underlying = Annotated[str, Field(description="symbol of the underlying, as AAPL or BRK B")]
Day = Annotated[str, Field(description="trade date, as 2026-11-20; latest: the last one that was published")]
Slot = Annotated[str, Field(description="New York time of a half-hour slot, as 10:30; close: the end of day")]
Rows = Annotated[int | None, Field(description="rows to give at most; default 200")]

CHAIN = """expiry, trading_class, strike, "right", bid, ask, mid, bid_size, ask_size, last, volume, open_interest,
    iv, delta, gamma, theta, vega, {spot}, multiplier, market_data_type, data_quality_flag, symbol, conid"""
HISTORY = """trade_date, symbol, strike, strike_adj, bid_adj, ask_adj, mid_adj, last_adj, volume_adj, open_interest_adj,
    iv, delta, underlying_close_adj, rollup_strategy, price_factor, adjustment_events, data_quality_flag,
    adjusted_contract_key"""


def told(
    method: "Callable[Concatenate[Tools, P], Answer]",
) -> "Callable[Concatenate[Tools, P], CallToolResult]":
    """A method as a tool: its answer as a reply, and what is wrong as one line that the assistant reads."""

    @functools.wraps(method)
    def tool(tools: "Tools", /, *arguments: P.args, **named: P.kwargs) -> CallToolResult:
        try:
            return reply(method(tools, *arguments, **named))
        except LakeError as error:
            raise ToolError(printable(" ".join(str(error).split()))) from None

    tool.__annotations__ = {**method.__annotations__, "return": Reply}
    return tool


class Tools:
    """The tools over the lake that `questions` asks."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    @told
    def tables(self) -> Answer:
        """The tables of the lake: one row per table or view, with its grain and key.

        raw is an append-only record of what was captured, clean and quality are built from it, ops says what the steps
        did. A view that ends in _passed has only trade dates whose latest publication passed.
        """
        found = self._questions.ask(
            "SELECT schema || '.' || name FROM (SHOW ALL TABLES) ORDER BY 1", rows=self._questions.bounds.most_rows
        )
        rows = []
        for (name,) in found.rows:
            table = table_meanings().get(name.removesuffix(OF_PASSED))
            grain = table.grain if table else "One row per trade date: its latest publication."
            if name.endswith(OF_PASSED):
                grain += " Only trade dates whose latest publication passed."
            rows.append((name, grain, ", ".join(table.key) if table else "trade_date"))
        return listed(("table", "grain", "key"), rows)

    @told
    def describe_table(self, table: Annotated[str, Field(description="as clean.daily_clean")]) -> Answer:
        """The columns of a table: one row per column, with its SQL type and its meaning, units included.

        Prices are dollars per share of the underlying, sizes, volume and open interest are contracts, implied
        volatility is a year's as a fraction, instants are UTC, trade_date is New York's date of the session.
        """
        if TABLE_NAME.fullmatch(table) is None:
            raise QueryRefused(
                f"{table[:60]!r} is no table: write it as clean.daily_clean; `tables` lists those there are"
            )
        found = self._questions.ask(f"DESCRIBE {table}", rows=self._questions.bounds.most_rows)
        described = table_meanings().get(table.removesuffix(OF_PASSED))
        meanings = {column.name: column.meaning for column in described.columns} if described else {}
        rows = [(row[0], row[1], meanings.get(row[0], "")) for row in found.rows]
        return listed(("column", "type", "meaning"), rows)

    @told
    def days(self, rows: Rows = 30) -> Answer:
        """The trade dates of the lake, latest first: one row per date, with slots and its latest publication.

        status: passed, warned or failed by the quality rules; null when the date is not published yet. published_at is
        UTC, detail names the tests that failed.
        """
        return self._questions.ask(
            """SELECT trade_date, slots, status, published_at, code_version, detail
            FROM (SELECT trade_date, count(*) AS slots FROM raw.sessions GROUP BY trade_date)
            LEFT JOIN ops.latest_published USING (trade_date) ORDER BY trade_date DESC""",
            rows,
            empty="this lake has no trade date yet",
        )

    @told
    def chain(
        self,
        underlying: Underlying,
        trade_date: Day = LATEST,
        slot: Slot = CLOSE,
        expiry: Annotated[str | None, Field(description="one expiry, as 2026-12-18; default: all")] = None,
        right: Annotated[str | None, Field(description="C: calls only, P: puts only")] = None,
        rows: Rows = None,
    ) -> Answer:
        """An option chain: one row per contract of an underlying, by expiry, class, strike and right.

        Of the end of day (slot close) or of a half-hour slot, failures included. bid, ask, mid, last and strike are
        dollars a share; sizes, volume and open interest contracts; iv a year's, as a fraction; delta per share, gamma
        per dollar, theta dollars a day, vega dollars a volatility point. A bid of null beside an ask is no bid.
        """
        day, ticker = self._day(trade_date), symbol_literal(underlying)
        where = [f"expiry = {day_literal('expiry', expiry)}"] if expiry else []
        where += [f'"right" = {right_literal(right)}'] if right else []
        spot = "underlying_close" if slot == CLOSE else "underlying_price"
        return self._questions.ask(
            f"SELECT {CHAIN.format(spot=spot)} FROM {_rows_of('chain', day, slot, ticker)} "
            f'WHERE {" AND ".join(where) or "true"} ORDER BY expiry, trading_class, strike, "right"',
            rows,
            empty=NO_DAY,
        )

    @told
    def smile(
        self,
        underlying: Underlying,
        expiry: Annotated[str, Field(description="as 2026-12-18; `term_structure` lists the expiries")],
        trade_date: Day = LATEST,
        slot: Slot = CLOSE,
        rows: Rows = None,
    ) -> Answer:
        """The implied volatilities of one expiry: one row per trading class and strike (dollars a share).

        spot is the underlying, dollars a share; log_moneyness is ln(strike / spot); call_iv, put_iv and otm_iv (that of
        the option out of the money) are a year's, as fractions, by the broker's model.
        """
        day, ticker = self._day(trade_date), symbol_literal(underlying)
        of_expiry = f", {day_literal('expiry', expiry)}"
        return self._questions.ask(f"FROM {_rows_of('smile', day, slot, ticker, of_expiry)}", rows, empty=NO_DAY)

    @told
    def term_structure(
        self, underlying: Underlying, trade_date: Day = LATEST, slot: Slot = CLOSE, rows: Rows = None
    ) -> Answer:
        """At-the-money volatility by expiry: one row per expiry and trading class.

        days from the trade date to expiry, calendar; strike nearest the money and spot, dollars a share; atm_iv a
        year's, as a fraction: the mean of call and put; straddle: the sum of both mids, dollars a share.
        """
        day, ticker = self._day(trade_date), symbol_literal(underlying)
        return self._questions.ask(f"FROM {_rows_of('term_structure', day, slot, ticker)}", rows, empty=NO_DAY)

    @told
    def contract_history(
        self,
        contract: Annotated[
            str, Field(description="an OCC symbol (AAPL  261218C00250000), or an adjusted_contract_key")
        ],
        since: Annotated[str | None, Field(description="first trade date, as 2026-11-01")] = None,
        until: Annotated[str | None, Field(description="last trade date")] = None,
        rows: Rows = None,
    ) -> Answer:
        """The end of day of one contract over time and over splits: one row per trade date.

        Columns in …_adj are in the terms after every corporate action: dollars per share of today, contracts of today.
        price_factor is what an old price was multiplied by; adjustment_events says which events reached the row.
        """
        key = contract if "|" in contract else self._key(contract)
        span = f", since := {day_literal('since', since)}" if since else ""
        span += f", until := {day_literal('until', until)}" if until else ""
        sql = f"SELECT {HISTORY} FROM adjusted_history({literal(key)}{span}) ORDER BY trade_date"
        return self._questions.ask(sql, rows, empty="no rows: is the contract recorded in this span?")

    @told
    def day_quality(self, trade_date: Day = LATEST) -> Answer:
        """The quality of a trade date: one row per metric, breaches first.

        value and threshold are shares in [0, 1] or counts; passed says whether the rule holds, pending that its number
        is not due yet. A breach of severity error makes the publication failed, one of warn warned.
        """
        return self._questions.ask(
            "SELECT metric, value, threshold, passed, pending, severity, detail FROM quality.daily_metrics "
            f"WHERE trade_date = {self._day(trade_date)} ORDER BY passed OR pending, metric",
            empty="no metrics of this date: it is not built yet (`days` lists the dates)",
        )

    @told
    def sql(
        self,
        statement: Annotated[
            str, Field(description="one SELECT, FROM, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN of DuckDB")
        ],
        rows: Rows = None,
        as_of: Annotated[
            str | None, Field(description="answer as the lake was known then: 2026-11-20 17:30, New York time")
        ] = None,
    ) -> Answer:
        """One reading statement of DuckDB on the lake's tables (`tables`, `describe_table`), within limits.

        Filter by trade_date = and underlying =: files of other dates are then not read. Macros: chain(day, slot_30m,
        ticker), chain_close(day, ticker), strikes_close, smile_close, term_structure_close,
        open_interest_by_strike(day, ticker), adjusted_history(key), slot_at(day, '10:30'), new_york(instant). "right"
        is quoted. Instants are UTC.
        """
        return self._questions.ask(statement, rows, as_of)

    def _day(self, text: str) -> str:
        return day_literal("trade_date", str(self._questions.latest_published()) if text == LATEST else text)

    def _key(self, symbol: str) -> str:
        """The key of the contract that an OCC symbol named last. Raises QueryRefused."""
        match = OCC.fullmatch(symbol.strip().upper())
        if match is None:
            raise QueryRefused(f"{symbol[:60]!r} is no OCC symbol: write it as 'AAPL  261218C00250000', or give a key")
        local = literal(f"{match[1]:<6}{match[2]}")
        sql = f"SELECT adjusted_contract_key FROM clean.daily_adjusted WHERE symbol = {local} ORDER BY trade_date DESC"
        key = self._questions.value(sql)
        if key is None:
            raise QueryRefused(f"no contract {local} in clean.daily_adjusted: `chain` gives the symbols of a day")
        return str(key)


# What the server offers, in this order.
TOOLS = (
    *("tables", "describe_table", "days", "chain", "smile", "term_structure", "contract_history", "day_quality"),
    "sql",
)


def _rows_of(macro: str, day: str, slot: str, ticker: str, more: str = "") -> str:
    """A call of a macro of the catalog for a slot, or of its sister for the end of day."""
    if slot == CLOSE:
        return f"{macro}_close({day}, {ticker}{more})"
    return f"{macro}({day}, slot_at({day}, {clock_literal(slot)}), {ticker}{more})"
