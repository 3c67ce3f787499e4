"""The closed lists of words that columns hold, each once: code is typed by them, data dictionary and tests read them.

A word that is not listed here is a type error where a row is made of it. Words are added, and none is taken away: rows
that hold it stay in the lake.
"""

from typing import Literal, get_args

from lake.origin import Origin as Origin

View = Literal["intraday", "close"]
# Who started a run; `ops/runs.trigger`. In raw the same stands as `ingest_run_type`.
Trigger = Literal["schedule", "repair", "manual", "demo"]
RunType = Literal["scheduled", "repair", "manual", "demo"]
RunStatus = Literal["ok", "partial", "failed", "refused"]
Step = Literal[
    "discover",
    "prewarm",
    "refresh",
    "snapshot",
    "close-snapshot",
    "enrichment",
    "compact",
    "retention",
    "vacuum",
    "disk",
    "connect",
]
Method = Literal["enrichment", "next_session_snapshot"]
PublicationStatus = Literal["passed", "warned", "failed"]
IncidentState = Literal["opened", "acknowledged", "closed"]
Severity = Literal["warning", "severe"]

# Why a contract has no answer in a slot.
FailureKind = Literal["timeout", "ib_error", "pacing", "outage", "disconnected", "window_over"]
# `raw/option_quotes.error_type`: that, or what became of an answer.
RowError = FailureKind | Literal["unrepresentable"]
# `ops/errors.error_type`: that of a contract, or what went wrong with a step.
ErrorType = (
    FailureKind
    | Literal[
        "broker_outage",
        "delayed_fallback",
        "gateway_unreachable",
        "discovery_stale",
        "no_answer",
        "malformed_answer",
        "no_contracts",
        "no_reference_price",
        "unknown_symbol",
        "lake_damaged",
        "interrupted",
        "journal_failed",
        "disk_full",
        "maintenance_failed",
        "maintenance_refused",
    ]
)
ERRORS: dict[RowError | ErrorType, str] = {
    "timeout": "no answer in time, after all tries",
    "ib_error": "IB refused the request, by the code beside it",
    "pacing": "too many requests (100, 101, 420), after all tries",
    "outage": "the broker, a data farm or the market data was out of reach to the end of the window",
    "disconnected": "the connection to the gateway was lost",
    "window_over": "the slot's window ended before an answer",
    "unrepresentable": "the table cannot hold a value that came",
    "broker_outage": "something of the broker was out of reach during a capture",
    "delayed_fallback": "no permission for live data: delayed data from then on",
    "gateway_unreachable": "one of several gateways did not answer",
    "discovery_stale": "discovery failed, and an earlier frozen set is used",
    "no_answer": "IB left questions of discovery without an answer",
    "malformed_answer": "IB described a contract or a chain in words that make none",
    "no_contracts": "an underlying has no contracts inside the filters",
    "no_reference_price": "an underlying has no price to filter its strikes by",
    "unknown_symbol": "IB does not know a symbol of the universe",
    "lake_damaged": "files of the lake could not be read, and the step went on without them",
    "interrupted": "a run ended before its commit: what it had answers of came from its journal",
    "journal_failed": "the journal of a run could not be written, and its answers were in memory only",
    "disk_full": "a file system is fuller than maintenance.disk_used_pct",
    "maintenance_failed": "a step of maintenance failed",
    "maintenance_refused": "somebody else maintained the lake",
}

# `data_quality_flag`: what capture can tell, and what the models add.
CaptureFlag = Literal["delayed_fallback", "snapshot_error", "slot_retry_exceeded", "late_sample", "discovery_stale"]
Flag = (
    CaptureFlag
    | Literal[
        "missing_greeks",
        "missing_oi",
        "crossed_market",
        "locked_market",
        "no_bid",
        "zero_quote",
        "stale_quote",
        "below_intrinsic",
        "iv_out_of_range",
        "delta_out_of_range",
        "parity_violation",
        "strike_monotonicity",
        "butterfly_violation",
        "eod_rollup_fallback",
        "eod_rollup_stale",
        "oi_enrichment_failed",
    ]
)
RollupStrategy = Literal["close", "last_good", "slot_1530"]
# `daily_unresolved.reason`.
Unresolved = Literal["never_asked", "only_errors", "out_of_session", "no_quote", "crossed", "not_good"]


def words(literal: object) -> tuple[str, ...]:
    """The words of a list above, in its order; those of a union one after the other."""
    found: list[str] = []
    for part in get_args(literal):
        found += [part] if isinstance(part, str) else words(part)
    return tuple(found)


def listed(literal: object) -> str:
    """The words of a list above as prose: ``ok, partial, failed or refused``."""
    *others, last = words(literal)
    return f"{', '.join(others)} or {last}"


def errors_explained(literal: object) -> str:
    """Error types with what each means."""
    meanings = {str(word): meaning for word, meaning in ERRORS.items()}
    return "; ".join(f"{word}: {meanings[word]}" for word in words(literal))
