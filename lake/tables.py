"""Schemas of the tables that Python writes: raw and ops. Each exists here and nowhere else.

dbt's sources, the docs and the empty tables of a new lake are made from these. Tables that dbt writes (clean, quality)
have their schema in the models' enforced contracts. All instants are UTC microseconds; prices are dollars per share of
the underlying; sizes, volume and open interest are contracts; ``trade_date`` is the New York date of the session.
"""

from dataclasses import dataclass

import pyarrow as pa

from lake.vocabulary import (
    CaptureFlag,
    ErrorType,
    IncidentState,
    Method,
    Origin,
    PublicationStatus,
    RowError,
    RunStatus,
    RunType,
    Severity,
    Step,
    Trigger,
    View,
    errors_explained,
    listed,
)

# Raised with every change of a table here; columns are only ever added, and nullable (lake/maintenance/evolution.py).
SCHEMA_VERSION = 4

# Schemas of the tables that dbt writes; their trade dates are published.
PUBLISHED_SCHEMAS = ("clean", "quality")

TEXT = pa.string()
FLAG = pa.bool_()
DAY = pa.date32()
INSTANT = pa.timestamp("us", tz="UTC")
COUNT = pa.int64()
SMALL = pa.int32()
PRICE = pa.float64()
MODEL = pa.float32()
FLAGS = pa.list_(TEXT)
RATES = pa.list_(PRICE)
VERSIONS = pa.map_(TEXT, COUNT)


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, Arrow type, meaning (with unit), and whether every row has it."""

    name: str
    type: pa.DataType
    description: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """One Delta table: grain, key and columns. `name` is ``<schema>/<table>``; partitioned by its first column."""

    name: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    partition_by: str = "trade_date"

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, in column order, with required columns not nullable."""
        return pa.schema([pa.field(c.name, c.type, nullable=not c.required) for c in self.columns])


def _must(name: str, type_: pa.DataType, description: str) -> Column:
    return Column(name, type_, description, required=True)


TRADE_DATE = _must("trade_date", DAY, "New York date of the session")
SLOT = _must("slot_30m", SMALL, "number of the slot in its session, from 0")
SAMPLE_TIME = _must("sample_time", INSTANT, "nominal instant of the slot")
UNDERLYING = _must("underlying", TEXT, "symbol of the underlying, as IB writes it")
CONID = _must("conid", COUNT, "IB contract id")
INGEST_ID = _must("ingest_id", TEXT, "UUIDv7 of the run of a step, batch and attempt that wrote the row")
SOURCE = _must("source", TEXT, f"origin of the lake: {listed(Origin)}")
VIEW = _must("view", TEXT, f"{listed(View)}: captured in a slot's window, or in the close snapshot")

CONTRACT = (
    _must("symbol", TEXT, "OCC local symbol"),
    _must("trading_class", TEXT, "trading class; adjusted roots carry a digit"),
    _must("expiry", DAY, "expiry in the OCC symbol"),
    _must("last_trade_date", DAY, "last trading day, as IB reports it"),
    _must("right", TEXT, "C or P"),
    _must("strike", PRICE, "strike, dollars a share"),
    _must("multiplier", PRICE, "shares a contract"),
    _must("exchange", TEXT, "exchange asked"),
)
ERROR = (
    _must("snapshot_error", FLAG, "true when the attempt failed"),
    Column("error_code", SMALL, "IB's error code, or null"),
    Column("error_message", TEXT, "IB's or our message of the failure"),
)

SESSIONS = Table(
    "raw/sessions",
    "One row per trade date and slot",
    ("trade_date", "slot_30m"),
    (
        TRADE_DATE,
        SLOT,
        SAMPLE_TIME,
        _must("is_close", FLAG, "true for the slot at the close"),
        _must("is_pre_close", FLAG, "true for the slot before the close slot"),
        _must("window_end", INSTANT, "end (exclusive) of the slot's window"),
    ),
)

CONTRACTS = Table(
    "raw/contracts",
    "One row per frozen contract and trade date; later additions have their first slot",
    ("trade_date", "conid"),
    (
        TRADE_DATE,
        UNDERLYING,
        CONID,
        *CONTRACT,
        Column("reference_price", PRICE, "price of the underlying that the strike filter used"),
        _must("frozen_at", INSTANT, "when the contract joined the set"),
        _must("first_seen_slot", SMALL, "first slot that captures it; 0 for the set frozen before the open"),
        INGEST_ID,
        SOURCE,
        Column(
            "discovered_on",
            DAY,
            "session whose discovery found it; before trade_date when that day's failed and an earlier set was used",
        ),
    ),
)

OPTION_QUOTES = Table(
    "raw/option_quotes",
    "One row per capture outcome, failures included (contract x slot x attempt)",
    ("trade_date", "view", "slot_30m", "conid", "ingest_id"),
    (
        TRADE_DATE,
        VIEW,
        SLOT,
        SAMPLE_TIME,
        UNDERLYING,
        CONID,
        *CONTRACT,
        Column("bid", PRICE, "best bid; null when there is none"),
        Column("ask", PRICE, "best ask; null when there is none"),
        Column("last", PRICE, "last trade"),
        _must("bid_seen", FLAG, "true when a bid arrived, or a tick that says there is none; a bid below 0 is neither"),
        Column("bid_size", COUNT, "contracts bid for"),
        Column("ask_size", COUNT, "contracts offered"),
        Column("last_size", COUNT, "contracts of the last trade"),
        Column("volume", COUNT, "contracts traded this session so far"),
        Column("iv", MODEL, "model implied volatility, per year"),
        Column("delta", MODEL, "model delta, per share"),
        Column("gamma", MODEL, "model gamma, per dollar"),
        Column("theta", MODEL, "model theta, dollars a day"),
        Column("vega", MODEL, "model vega, dollars a volatility point"),
        Column("model_price", PRICE, "model price"),
        Column("pv_dividend", PRICE, "present value of the dividends in the model"),
        Column("underlying_price", PRICE, "price of the underlying in the model"),
        Column("open_interest", COUNT, "open interest as shown then: it describes the previous session"),
        Column("market_data_type", SMALL, "as IB reported it: 1 live, 2 frozen, 3 delayed, 4 delayed-frozen"),
        _must("requested_at", INSTANT, "when the request was sent, in pipeline time"),
        Column("asof_ts", INSTANT, "when the last tick in the row arrived; null on error rows"),
        INGEST_ID,
        _must("ingest_run_type", TEXT, listed(RunType)),
        _must("batch", TEXT, "batch of the universe"),
        _must("attempt", SMALL, "attempt of the step that wrote the row, from 1"),
        _must("data_quality_flag", FLAGS, f"flags that capture itself can tell: {listed(CaptureFlag)}"),
        _must("snapshot_error", FLAG, "true when the attempt failed"),
        Column("error_code", SMALL, "IB's error code, or null"),
        Column(
            "error_type",
            TEXT,
            errors_explained(RowError),
        ),
        Column("error_message", TEXT, "IB's or our message of the failure"),
        SOURCE,
    ),
)

UNDERLYING_QUOTES = Table(
    "raw/underlying_quotes",
    "One row per underlying, slot and attempt",
    ("trade_date", "view", "slot_30m", "conid", "ingest_id"),
    (
        TRADE_DATE,
        VIEW,
        SLOT,
        SAMPLE_TIME,
        UNDERLYING,
        CONID,
        Column("bid", PRICE, "best bid"),
        Column("ask", PRICE, "best ask"),
        Column("last", PRICE, "last trade"),
        Column("close", PRICE, "close of the previous session (tick 9)"),
        Column("hist_volatility", PRICE, "historical volatility, per year (generic tick 104)"),
        Column("implied_volatility", PRICE, "implied volatility, per year (generic tick 106)"),
        Column("market_data_type", SMALL, "as IB reported it"),
        Column("asof_ts", INSTANT, "when the last tick in the row arrived; null on error rows"),
        INGEST_ID,
        *ERROR,
        SOURCE,
    ),
)

OPEN_INTEREST = Table(
    "raw/open_interest",
    "One row per observation of a contract's open interest",
    ("trade_date", "conid", "ingest_id"),
    (
        TRADE_DATE,
        Column("oi_asof_date", DAY, "session that the observed value describes; null on error rows"),
        CONID,
        UNDERLYING,
        Column("open_interest", COUNT, "open interest; zero is a value"),
        _must("observed_at", INSTANT, "when it was observed, in pipeline time"),
        INGEST_ID,
        _must("method", TEXT, listed(Method)),
        *ERROR,
        SOURCE,
    ),
)

RUNS = Table(
    "ops/runs",
    "One row per run of a step (slot, batch, attempt)",
    ("ingest_id", "step"),
    (
        TRADE_DATE,
        _must("step", TEXT, listed(Step)),
        Column("view", TEXT, f"{listed(View)}, for captures"),
        Column("slot_30m", SMALL, "slot, for captures"),
        Column("batch", TEXT, "batch of the universe"),
        Column("attempt", SMALL, "attempt, from 1"),
        INGEST_ID,
        _must("status", TEXT, listed(RunStatus)),
        Column("asked", COUNT, "contracts asked for"),
        Column("captured", COUNT, "contracts that answered without error"),
        Column("failed", COUNT, "contracts that ended in an error row"),
        Column("skipped", COUNT, "silent contracts that were left out of this slot"),
        Column("delayed", COUNT, "rows of market data type 3 or 4"),
        Column("messages", COUNT, "messages sent to the broker"),
        Column("pacing_errors", COUNT, "errors 100, 101 and 420"),
        Column("skew_p50_s", PRICE, "median of asof_ts - sample_time, seconds"),
        Column("skew_p99_s", PRICE, "99th percentile of asof_ts - sample_time, seconds"),
        Column("latency_p50_ms", PRICE, "median of request to row, wall-clock milliseconds"),
        Column("latency_p99_ms", PRICE, "99th percentile of request to row, wall-clock milliseconds"),
        Column("mode", TEXT, "how options were asked: streaming or snapshot"),
        Column("message_rate", PRICE, "messages a second allowed at the end, after cuts and recovery, all connections"),
        Column("connections", SMALL, "connections to the gateway that stood when it began"),
        Column("message_rates", RATES, "message_rate of each of them, in the order of their client ids"),
        Column("open_window", COUNT, "contracts expected to answer at once at the end, by rate and latency"),
        Column("outage_s", PRICE, "wall-clock seconds in which the broker was out of reach"),
        _must("started_at", INSTANT, "start, in pipeline time"),
        _must("ended_at", INSTANT, "end, in pipeline time"),
        Column("elapsed_s", PRICE, "wall-clock seconds"),
        _must("trigger", TEXT, listed(Trigger)),
        _must("host", TEXT, "host that ran it"),
        Column("gateway", TEXT, "host:port of the broker gateway"),
        Column("message", TEXT, "why it is not ok"),
    ),
)

ERRORS = Table(
    "ops/errors",
    "One row per error",
    ("ingest_id", "step", "conid", "observed_at"),
    (
        TRADE_DATE,
        _must("step", TEXT, "step that met the error"),
        INGEST_ID,
        Column("conid", COUNT, "contract, when there is one"),
        Column("code", SMALL, "IB's error code, or null"),
        _must("error_type", TEXT, errors_explained(ErrorType)),
        _must("message", TEXT, "message"),
        _must("observed_at", INSTANT, "when it was met, in pipeline time"),
    ),
)

INCIDENTS = Table(
    "ops/incidents",
    "One row per change of an incident: opened, acknowledged or closed",
    ("incident_id", "state"),
    (
        TRADE_DATE,
        _must("incident_id", TEXT, "UUIDv7"),
        _must("state", TEXT, listed(IncidentState)),
        _must("cause", TEXT, "the metric or event that was breached"),
        _must("severity", TEXT, listed(Severity)),
        Column("detail", TEXT, "value, threshold, next step"),
        _must("changed_at", INSTANT, "when the state changed"),
        Column("changed_by", TEXT, "person who acknowledged or closed it; null where a look did"),
    ),
)

PUBLISHED = Table(
    "ops/published",
    "One row per trade date and publication, written last, after the tests",
    ("trade_date", "published_at"),
    (
        TRADE_DATE,
        _must("published_at", INSTANT, "when the day was published, in pipeline time"),
        _must("status", TEXT, listed(PublicationStatus)),
        _must("versions", VERSIONS, "Delta version of each table that the publication stands for"),
        _must("code_version", TEXT, "version of Chainlake"),
        _must("actions_hash", TEXT, "SHA-256 of the corporate actions in force"),
        _must("run_id", TEXT, "ingest_id of the step that published"),
        Column("detail", TEXT, "tests that failed or warned"),
    ),
)

CONTRACT_LOOKUPS = Table(
    "ops/contract_lookups",
    "One row per combination that discovery asked IB about: its contract, or that there is none",
    ("trade_date", "underlying", "trading_class", "last_trade_date", "right", "strike", "multiplier", "asked_at"),
    (
        TRADE_DATE,
        _must("asked_at", INSTANT, "when IB answered, in pipeline time"),
        UNDERLYING,
        _must("trading_class", TEXT, "trading class asked for"),
        _must("last_trade_date", DAY, "last trading day asked for"),
        _must("right", TEXT, "C or P"),
        _must("strike", PRICE, "strike asked for, dollars a share"),
        _must("multiplier", PRICE, "shares a contract asked for"),
        _must("exchange", TEXT, "exchange asked"),
        Column("conid", COUNT, "IB contract id; null when no such contract is listed"),
        Column("symbol", TEXT, "OCC local symbol, when listed"),
        Column("expiry", DAY, "expiry in the OCC symbol, when listed"),
        INGEST_ID,
    ),
)

TABLES = (
    SESSIONS,
    CONTRACTS,
    OPTION_QUOTES,
    UNDERLYING_QUOTES,
    OPEN_INTEREST,
    RUNS,
    ERRORS,
    INCIDENTS,
    PUBLISHED,
    CONTRACT_LOOKUPS,
)
BY_NAME = {table.name: table for table in TABLES}
