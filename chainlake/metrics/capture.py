"""Slots, contracts and errors: what capture has done today, and how fast the last slot was."""

from collections.abc import Iterator

from chainlake.metrics.families import Value
from chainlake.metrics.sources import RUNS_LOOK_BACK, Sources
from chainlake.ops.monitoring.facts import COMMITTED_AFTER, created_at
from flows.active_steps import active_steps, step_key
from flows.reports.slot_facts import slot_facts
from ingest.calendar.sessions import session_on

COUNTS = ("asked", "captured", "failed")
LAST_SLOT = "chainlake_last_slot"


def slots(sources: Sources) -> Iterator[Value]:
    """Slots of today that are due, captured and missed, by the watchdog's rule."""
    session, now, day = session_on(sources.today), sources.now, sources.today
    made = created_at(sources.lake)
    due = [slot for slot in (session.slots if session else ()) if made <= slot.sample_time <= now]
    recorded = sources.reads.rows(
        "ops/runs",
        f"trade_date = date '{day}' and step = 'snapshot' and captured > 0",
        "distinct slot_30m",
    )
    captured = {row["slot_30m"] for row in recorded}
    if any(slot.slot_30m not in captured for slot in due):
        # A capture that was killed between its rows and its record.
        captured |= sources.reads.captured_slots(day)
    at_work = active_steps(sources.state)
    missed = [
        slot
        for slot in due
        if slot.window_end + COMMITTED_AFTER <= now
        and slot.slot_30m not in captured
        and step_key("snapshot", day, slot.slot_30m) not in at_work
    ]
    yield Value("chainlake_slots_due", len(due))
    yield Value("chainlake_slots_captured", len(captured & {slot.slot_30m for slot in due}))
    yield Value("chainlake_slots_missed", len(missed))


def last_slot(sources: Sources) -> Iterator[Value]:
    """The latest slot that something was captured of: when, how much, and how fast against its bound."""
    found = sources.reads.rows(
        "ops/runs",
        f"{sources.lately(RUNS_LOOK_BACK)} and step = 'snapshot' and captured > 0 "
        "order by trade_date desc, slot_30m desc limit 1",
        "trade_date, slot_30m",
    )
    if not found:
        return
    day, number = found[0]["trade_date"], found[0]["slot_30m"]
    session = session_on(day)
    if session is None or number >= len(session.slots):
        return
    yield Value(f"{LAST_SLOT}_timestamp_seconds", session.slots[number].sample_time.timestamp())
    facts = slot_facts(sources.reads, day, [("intraday", number)])["intraday", number]
    if facts.coverage is not None:
        yield Value(f"{LAST_SLOT}_coverage_ratio", facts.coverage)
    if facts.worst_underlying is not None:
        yield Value(f"{LAST_SLOT}_worst_coverage_ratio", facts.worst_underlying[1])
    yield Value(f"{LAST_SLOT}_seconds", facts.seconds)
    if facts.contracts_per_second is not None:
        bound = facts.bound(sources.settings)
        yield Value(f"{LAST_SLOT}_contracts_per_second", facts.contracts_per_second)
        yield Value(f"{LAST_SLOT}_bound_contracts_per_second", bound.contracts_per_second, (bound.bound_by,))


def work(sources: Sources) -> Iterator[Value]:
    """What the steps did today: runs, contracts, messages and pacing errors."""
    ended = sources.reads.rows(
        "ops/runs",
        f"{sources.lately()} and ended_at >= $midnight and ended_at <= $now group by step, status",
        "step, status, count(*) as runs, sum(asked) as asked, sum(captured) as captured, sum(failed) as failed, "
        "sum(messages) as messages, sum(pacing_errors) as pacing_errors",
        midnight=sources.midnight,
        now=sources.now,
    )
    for row in ended:
        yield Value("chainlake_runs_total", row["runs"], (row["step"], row["status"]))
    for step in sorted({row["step"] for row in ended}):
        of_step = [row for row in ended if row["step"] == step]
        for name in COUNTS:
            yield Value(f"chainlake_contracts_{name}_total", sum(row[name] or 0 for row in of_step), (step,))
        for name in ("messages", "pacing_errors"):
            yield Value(f"chainlake_{name}_total", sum(row[name] or 0 for row in of_step), (step,))


def errors(sources: Sources) -> Iterator[Value]:
    """Errors that were met today."""
    met = sources.reads.rows(
        "ops/errors",
        f"{sources.lately()} and observed_at >= $midnight and observed_at <= $now group by step, error_type, code",
        "step, error_type, code, count(*) as n",
        midnight=sources.midnight,
        now=sources.now,
    )
    for row in met:
        code = "" if row["code"] is None else str(row["code"])
        yield Value("chainlake_errors_total", row["n"], (row["step"], row["error_type"], code))


def steps(sources: Sources) -> Iterator[Value]:
    """When each step last ended, and when it last ended well: maintenance too."""
    ended = sources.reads.rows(
        "ops/runs",
        f"{sources.lately(RUNS_LOOK_BACK)} and ended_at <= $now group by step",
        "step, max(ended_at) as last, max(ended_at) filter (status = 'ok') as ok",
        now=sources.now,
    )
    for row in ended:
        yield Value("chainlake_step_last_run_timestamp_seconds", row["last"].timestamp(), (row["step"],))
        if row["ok"] is not None:
            yield Value("chainlake_step_last_ok_timestamp_seconds", row["ok"].timestamp(), (row["step"],))
