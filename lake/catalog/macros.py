"""Macros of the catalog: the questions that are asked of a chain every day, written so that DuckDB prunes.

Each filters its table by ``trade_date =`` (or BETWEEN), ``slot_30m =`` and ``underlying =``: these, and not
``IN (…)``, OR or a function of a column, are what `delta_scan` skips files by. `day` is a trade date, `slot` a
``slot_30m`` (`slot_at` gives it from a New York time), `ticker` the symbol of an underlying as it was on the day, and
`conid` IB's contract id. Adjusted and mini roots have rows of their own, told apart by `trading_class`.
"""

from dataclasses import dataclass

# All of time, for macros over a range of dates.
FIRST_DAY, LAST_DAY = "date '0001-01-01'", "date '9999-12-31'"


@dataclass(frozen=True, slots=True)
class Macro:
    """One macro. `sql` is a query (`is_table`) or an expression over its `parameters`."""

    name: str
    parameters: str
    grain: str
    sql: str
    is_table: bool = True

    @property
    def statement(self) -> str:
        """The statement that creates it."""
        return f"CREATE MACRO {self.name}({self.parameters}) AS {'TABLE ' if self.is_table else ''}{self.sql}"


def _strikes(chain: str, spot: str) -> str:
    return f"""
        SELECT
            trade_date, underlying, expiry, trading_class, multiplier, strike,
            avg({spot}) AS spot,
            max(bid) FILTER ("right" = 'C') AS call_bid,
            max(ask) FILTER ("right" = 'C') AS call_ask,
            max(mid) FILTER ("right" = 'C') AS call_mid,
            max(iv) FILTER ("right" = 'C') AS call_iv,
            max(delta) FILTER ("right" = 'C') AS call_delta,
            max(bid) FILTER ("right" = 'P') AS put_bid,
            max(ask) FILTER ("right" = 'P') AS put_ask,
            max(mid) FILTER ("right" = 'P') AS put_mid,
            max(iv) FILTER ("right" = 'P') AS put_iv,
            max(delta) FILTER ("right" = 'P') AS put_delta
        FROM {chain}
        GROUP BY ALL
        ORDER BY expiry, trading_class, strike"""


def _smile(strikes: str) -> str:
    return f"""
        SELECT
            trading_class, strike, spot, ln(strike / nullif(spot, 0)) AS log_moneyness, call_iv, put_iv,
            CASE WHEN strike >= spot THEN call_iv ELSE put_iv END AS otm_iv
        FROM {strikes}
        WHERE expiry = expiration
        ORDER BY trading_class, strike"""


def _term_structure(strikes: str) -> str:
    return f"""
        SELECT
            expiry, trading_class, expiry - trade_date AS days, spot, strike,
            (call_iv + put_iv) / 2 AS atm_iv, call_mid + put_mid AS straddle
        FROM {strikes}
        WHERE call_iv IS NOT NULL AND put_iv IS NOT NULL
        QUALIFY row_number() OVER (PARTITION BY expiry, trading_class ORDER BY abs(strike - spot), strike) = 1
        ORDER BY expiry, trading_class"""


# Each after those it uses.
MACROS = (
    Macro(
        "new_york",
        "instant",
        "the New York wall-clock time of an instant",
        "instant AT TIME ZONE 'America/New_York'",
        is_table=False,
    ),
    Macro(
        "slot_at",
        "day, clock",
        "the slot_30m of a day that begins at a New York time, as '10:30'; null when none does",
        """(SELECT max(slot_30m) FROM raw.sessions
            WHERE trade_date = day AND strftime(new_york(sample_time), '%H:%M') = clock)""",
        is_table=False,
    ),
    Macro(
        "chain",
        "day, slot, ticker",
        "One row per contract: the chain of an underlying in a slot, failures included",
        """SELECT * FROM clean.intraday
            WHERE trade_date = day AND slot_30m = slot AND underlying = ticker
            ORDER BY expiry, trading_class, strike, "right\"""",
    ),
    Macro(
        "chain_close",
        "day, ticker",
        "One row per contract: the end-of-day chain of an underlying",
        """SELECT * FROM clean.daily_clean WHERE trade_date = day AND underlying = ticker
            ORDER BY expiry, trading_class, strike, "right\"""",
    ),
    Macro(
        "strikes",
        "day, slot, ticker",
        "One row per expiry, trading class and strike: call and put of a slot side by side",
        _strikes("chain(day, slot, ticker)", "underlying_price"),
    ),
    Macro(
        "strikes_close",
        "day, ticker",
        "One row per expiry, trading class and strike: call and put of the end of day side by side",
        _strikes("chain_close(day, ticker)", "underlying_close"),
    ),
    Macro(
        "smile",
        "day, slot, ticker, expiration",
        "One row per trading class and strike: implied volatilities of an expiry in a slot",
        _smile("strikes(day, slot, ticker)"),
    ),
    Macro(
        "smile_close",
        "day, ticker, expiration",
        "One row per trading class and strike: implied volatilities of an expiry at the end of day",
        _smile("strikes_close(day, ticker)"),
    ),
    Macro(
        "term_structure",
        "day, slot, ticker",
        "One row per expiry and trading class: the strike nearest the money in a slot, its volatility and straddle",
        _term_structure("strikes(day, slot, ticker)"),
    ),
    Macro(
        "term_structure_close",
        "day, ticker",
        "One row per expiry and trading class: the strike nearest the money at the end of day",
        _term_structure("strikes_close(day, ticker)"),
    ),
    Macro(
        "open_interest_by_strike",
        "day, ticker",
        "One row per expiry, trading class and strike: open interest and volume of calls and puts, in contracts",
        """
        SELECT
            expiry, trading_class, multiplier, strike,
            sum(open_interest) FILTER ("right" = 'C')::BIGINT AS call_open_interest,
            sum(open_interest) FILTER ("right" = 'P')::BIGINT AS put_open_interest,
            sum(volume) FILTER ("right" = 'C')::BIGINT AS call_volume,
            sum(volume) FILTER ("right" = 'P')::BIGINT AS put_volume
        FROM clean.daily_clean
        WHERE trade_date = day AND underlying = ticker
        GROUP BY ALL
        ORDER BY expiry, trading_class, strike""",
    ),
    Macro(
        "contract_history",
        f"ticker, contract, since := {FIRST_DAY}, until := {LAST_DAY}",
        "One row per trade date: the end of day of a contract, by its conid and underlying",
        """SELECT * FROM clean.daily_clean
            WHERE trade_date BETWEEN since AND until AND underlying = ticker AND conid = contract
            ORDER BY trade_date""",
    ),
    Macro(
        "contract_slots",
        f"ticker, contract, since := {FIRST_DAY}, until := {LAST_DAY}",
        "One row per slot: the intraday history of a contract, by its conid and underlying",
        """SELECT * FROM clean.intraday
            WHERE trade_date BETWEEN since AND until AND underlying = ticker AND conid = contract
            ORDER BY sample_time""",
    ),
    Macro(
        "adjusted_history",
        f"contract_key, since := {FIRST_DAY}, until := {LAST_DAY}",
        "One row per trade date: a contract over its corporate actions, by adjusted_contract_key",
        # A contract has no rows after its expiry, which is the fourth part of the key; pruning can use both.
        """SELECT * FROM clean.daily_adjusted
            WHERE trade_date BETWEEN since AND until AND adjusted_contract_key = contract_key
                AND trade_date <= CAST(split_part(contract_key, '|', 4) AS DATE)
                AND expiry = CAST(split_part(contract_key, '|', 4) AS DATE)
            ORDER BY trade_date""",
    ),
)
TABLE_MACROS = frozenset(macro.name for macro in MACROS if macro.is_table)
SCALAR_MACROS = frozenset(macro.name for macro in MACROS if not macro.is_table)
