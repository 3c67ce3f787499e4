"""The figures of a run, taken from the outcomes of its requests."""

from collections.abc import Sequence
from datetime import datetime

from ingest.broker import BrokerPool, BrokerSession
from ingest.broker.codes import DELAYED_TYPES
from ingest.capture.outcomes import Outcome
from ingest.runs import Run


def account(
    run: Run, outcomes: Sequence[Outcome], sample_time: datetime | None, session: BrokerSession | BrokerPool
) -> None:
    """Put counts, errors, skew (seconds from `sample_time`) and latency (milliseconds) of `outcomes` into `run`."""
    run.count(len(outcomes), failed=sum(outcome.failure is not None for outcome in outcomes))
    run.count_messages(session)
    run.measures["delayed"] = sum(o.quote is not None and o.quote.market_data_type in DELAYED_TYPES for o in outcomes)
    if sample_time:
        skews = sorted((o.asof - sample_time).total_seconds() for o in outcomes if o.asof)
        run.measures |= {"skew_p50_s": _quantile(skews, 0.5), "skew_p99_s": _quantile(skews, 0.99)}
    latencies = sorted(o.latency_s * 1000 for o in outcomes if not o.failure)
    run.measures |= {"latency_p50_ms": _quantile(latencies, 0.5), "latency_p99_ms": _quantile(latencies, 0.99)}
    for outcome in outcomes:
        if failure := outcome.failure:
            run.error(failure.kind, failure.message, outcome.requested_at, failure.code, outcome.request.conid)


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 6) if ordered else None
