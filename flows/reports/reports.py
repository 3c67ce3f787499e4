"""What a slot and a day brought, as Markdown: for Prefect's pages, and for whoever reads it in a file or on a terminal.

Everything is read from the lake, so that a report can be had again for any date.
"""

from datetime import date, datetime
from pathlib import Path

from flows.reports.markdown import clock, number, share, table
from flows.reports.slot_facts import SlotFacts, slot_facts
from ingest.calendar.sessions import Session, Slot, session_on
from ingest.capture.rows import View
from ingest.settings import Settings
from lake.reads import Reader, reader
from lake.store import Lake

MOST_UNDERLYINGS = 10


def slot_report(settings: Settings, lake: Lake, session: Session, slot: Slot, view: View = "intraday") -> str:
    """One slot of a view: what was asked and came, how fast against the bound, and how each failure is called."""
    key = (view, slot.slot_30m)
    with reader(lake) as reads:
        facts = slot_facts(reads, session.trade_date, [key])[key]
    name = "close snapshot" if view == "close" else f"slot {slot.label}"
    parts = [f"## {session.trade_date}, {name}"]
    if not facts.runs:
        parts.append(_nothing(facts))
        return "\n\n".join(parts) + "\n"
    parts.append(table(("what", "value"), _figures(facts, settings)))
    if facts.errors:
        parts.append("### Failures\n\n" + table(("error", "requests"), facts.errors.most_common()))
    if thin := _thin(facts):
        parts.append("### Underlyings with the least coverage\n\n" + table(("underlying", "captured", "frozen"), thin))
    if remarks := [f"- {run['batch']}: {run['message']}" for run in facts.runs if run["message"]]:
        parts.append("### Remarks\n\n" + "\n".join(remarks))
    return "\n\n".join(parts) + "\n"


def _nothing(facts: SlotFacts) -> str:
    covered = facts.covered.total()
    if covered:
        return f"{covered:,} contracts are in the lake, without a record of the run that captured them."
    return "Nothing was captured: look at the flow runs and at `chainlake logscan`."


def _figures(facts: SlotFacts, settings: Settings) -> list[tuple[str, str]]:
    bound, achieved = facts.bound(settings), facts.contracts_per_second
    rate = number(achieved, 1, "/s")
    if achieved is not None and bound.contracts_per_second:
        rate += (
            f" of {bound.contracts_per_second:,.1f}/s ({share(achieved / bound.contracts_per_second)}), "
            f"bound by {bound.bound_by}"
        )
    return [
        ("contracts captured", f"{facts.covered.total():,} of {facts.frozen.total():,} ({share(facts.coverage)})"),
        ("requests", f"{facts.total('asked'):,}, of which {facts.total('failed'):,} failed"),
        ("runs", f"{len(facts.runs)} ({', '.join(sorted({run['status'] for run in facts.runs}))})"),
        ("rate", rate),
        ("messages", number(facts.total("messages"))),
        ("pacing errors", number(facts.total("pacing_errors"))),
        ("delayed rows", number(facts.total("delayed"))),
        ("skipped, silent before", number(facts.total("skipped"))),
        ("skew p50, p99", ", ".join(number(facts.worst(f"skew_{q}_s"), 1, " s") for q in ("p50", "p99"))),
        ("latency p50, p99", ", ".join(number(facts.worst(f"latency_{q}_ms"), 0, " ms") for q in ("p50", "p99"))),
        ("broker out of reach", number(facts.worst("outage_s"), 0, " s")),
        ("wall-clock time", number(facts.seconds, 0, " s")),
    ]


def _thin(facts: SlotFacts) -> list[tuple[str, int, int]]:
    missing = [(symbol, facts.covered[symbol], frozen) for symbol, frozen in facts.frozen.items()]
    thin = sorted((row for row in missing if row[1] < row[2]), key=lambda row: (row[1] / row[2], row[0]))
    return thin[:MOST_UNDERLYINGS]


# -- a day -------------------------------------------------------------------------------------------------------------


def daily_report(settings: Settings, lake: Lake, day: date, now: datetime) -> str:
    """A day: its slots, where its daily rows are from, its metrics, its publications and its incidents."""
    session = session_on(day)
    if session is None:
        return f"# {day}\n\nNot a session of XNYS: there is nothing to report.\n"
    intraday: list[tuple[str, int]] = [("intraday", slot.slot_30m) for slot in session.slots]
    with reader(lake) as reads:
        facts = slot_facts(reads, day, [*intraday, ("close", session.close_slot.slot_30m)])
        parts = [
            f"# {day}\n\nAs of {clock(now)} New York.",
            _publication(reads, session),
            "## Slots\n\n" + _slots(session, facts, settings, now),
            "## Daily rows\n\n" + _strategies(reads, session),
            "## Metrics\n\n" + _metrics(reads, session),
            "## Incidents\n\n" + _incidents(reads, session),
        ]
    return "\n\n".join(parts) + "\n"


def _publication(reads: Reader, session: Session) -> str:
    rows = reads.rows("ops/published", f"trade_date = date '{session.trade_date}' order by published_at")
    if not rows:
        return "**Not published**: run `chainlake rollup` once the day is over."
    last = rows[-1]
    again = f", publication number {len(rows)} of the day" if len(rows) > 1 else ""
    return f"**Published as {last['status']}** at {clock(last['published_at'])}{again}." + (
        f"\n\n{last['detail']}" if last["detail"] else ""
    )


def _slots(session: Session, facts: dict[tuple[str, int], SlotFacts], settings: Settings, now: datetime) -> str:
    rows = []
    for slot in session.slots:
        rows.append((slot.label, *_slot_cells(facts["intraday", slot.slot_30m], settings, slot.sample_time <= now)))
    close_at = session.at(settings.schedule.close_snapshot_at)
    rows.append(("close view", *_slot_cells(facts["close", session.close_slot.slot_30m], settings, close_at <= now)))
    return table(
        (
            *("slot", "captured", "coverage", "worst underlying", "requests", "failed", "failures"),
            *("rate of bound", "skew p99", "pacing", "delayed"),
        ),
        rows,
    )


def _slot_cells(facts: SlotFacts, settings: Settings, begun: bool) -> tuple[str, ...]:
    if not facts.runs and not facts.covered:
        return ("**missing**" if begun else "not due yet", *["–"] * 9)
    achieved, bound, worst = facts.contracts_per_second, facts.bound(settings), facts.worst_underlying
    return (
        number(facts.covered.total()),
        share(facts.coverage),
        f"{worst[0]} {share(worst[1])}" if worst else "–",
        number(facts.total("asked")),
        number(facts.total("failed")),
        ", ".join(f"{error}: {count:,}" for error, count in facts.errors.most_common(3)) or "–",
        f"{number(achieved, 1)} of {number(bound.contracts_per_second, 1)}/s",
        number(facts.worst("skew_p99_s"), 1, " s"),
        number(facts.total("pacing_errors")),
        number(facts.total("delayed")),
    )


def _strategies(reads: Reader, session: Session) -> str:
    day = f"trade_date = date '{session.trade_date}'"
    resolved = reads.rows(
        "clean/daily_clean", f"{day} group by all order by n desc", "rollup_strategy as origin, count(*) as n"
    )
    unresolved = reads.rows(
        "clean/daily_unresolved", f"{day} group by all order by n desc", "reason as origin, count(*) as n"
    )
    if not resolved and not unresolved:
        return "None yet."
    rows = [(row["origin"], number(row["n"])) for row in resolved]
    rows += [(f"unresolved: {row['origin']}", number(row["n"])) for row in unresolved]
    return table(("from", "contracts"), rows)


def _metrics(reads: Reader, session: Session) -> str:
    rows = reads.rows("quality/daily_metrics", f"trade_date = date '{session.trade_date}' order by metric")
    if not rows:
        return "None: a day with no data does not pass."
    cells = []
    for row in rows:
        verdict = "pending" if row["pending"] else "passed" if row["passed"] else "**FAILED**"
        bound = f"{row.get('comparison') or ''} {number(row['threshold'], 4).rstrip('0').rstrip('.')}"
        value = number(row["value"], 4).rstrip("0").rstrip(".")
        cells.append((row["metric"], value, bound, verdict, row.get("severity"), row.get("detail")))
    return table(("metric", "value", "limit", "result", "severity", "detail"), cells)


def _incidents(reads: Reader, session: Session) -> str:
    rows = reads.rows(
        "ops/incidents",
        f"trade_date = date '{session.trade_date}' group by incident_id order by opened_at",
        "any_value(cause) as cause, arg_max(severity, changed_at) as severity, arg_max(state, changed_at) as state, "
        "arg_max(detail, changed_at) as detail, min(changed_at) as opened_at",
    )
    if not rows:
        return "None."
    return table(
        ("cause", "severity", "state", "since", "detail"),
        [(row["cause"], row["severity"], row["state"], clock(row["opened_at"]), row["detail"]) for row in rows],
    )


# -- files -------------------------------------------------------------------------------------------------------------


def keep_report(markdown: str, state: Path, kind: str, day: date) -> Path:
    """Write a report to ``<state>/reports/<kind>_YYYYMMDD.md``; it replaces an older one of the day."""
    file = state / "reports" / f"{kind}_{day:%Y%m%d}.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(markdown, encoding="utf-8")
    return file
