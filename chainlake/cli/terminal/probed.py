"""What a probe of a gateway found, printed."""

import polars as pl

from chainlake.cli.terminal import show
from ingest.capacity.probe_result import Latency, ProbeResult

COUNTS = {True: "yes", False: "no", None: "not known"}
RATE = {"connection": "a client connection", "session": "all connections together", None: "not known"}


def show_probe(result: ProbeResult | None) -> None:
    """Print what a probe found."""
    if result is None:
        return
    excess = {"reject": "error 100", "pace": "they wait", None: COUNTS[None]}
    latencies = (
        ("quote after", result.quote),
        ("model greeks after", result.model),
        ("snapshot ends after", result.snapshot),
    )
    rows = [
        ("cancels count as messages", COUNTS[result.cancels_count]),
        ("messages above the limit", excess[result.excess_messages]),
        ("the message limit is that of", RATE[result.rate_per]),
        ("connections that fill the lines", _to_lines(result)),
        ("snapshots hold lines", COUNTS[result.snapshots_hold_lines]),
        *((f"{what}, p50 / p99 (samples)", _latency(one)) for what, one in latencies),
        ("snapshots with model greeks", f"{result.snapshots_with_model} of {result.snapshots_asked}"),
        ("messages sent, errors 100", f"{result.messages:,}, {result.pacing_errors}"),
    ]
    show.table(
        pl.DataFrame(rows, schema=["measured", "result"], orient="row"),
        f"{result.gateway} ({result.origin}), {result.probed_at:%Y-%m-%d %H:%M} UTC, {result.seconds:.0f} s",
    )
    for note in result.notes:
        show.line(f"note: {note}")


def _to_lines(result: ProbeResult) -> str:
    if result.rate_per == "session":
        return "no number does: they share the limit"
    return COUNTS[None] if result.connections_to_lines is None else f"{result.connections_to_lines:,}"


def _latency(one: Latency | None) -> str:
    return "–" if one is None else f"{one.p50_ms:,.0f} / {one.p99_ms:,.0f} ms ({one.samples:,})"
