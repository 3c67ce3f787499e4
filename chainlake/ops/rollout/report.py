"""The weekly report of the rollout: the sessions of a week, and the stage."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

from chainlake.ops.rollout import gates
from chainlake.ops.rollout.facts import DayFacts
from chainlake.ops.rollout.gates import Verdict
from chainlake.ops.rollout.journal import Entry, read_journal
from chainlake.ops.rollout.read import read_days
from chainlake.ops.rollout.rules import LAST_STAGE
from flows.reports.markdown import clock, number, share, table
from flows.reports.reports import keep_report
from ingest.calendar.sessions import NEW_YORK, sessions_between
from ingest.settings import Settings
from lake.reads import reader
from lake.store import Lake

COLUMNS = (
    *("session", "underlyings", "coverage", "fallback", "delayed", "OI filled", "pacing errors", "pacing alerts"),
    *("retries exceeded", "published", "by hand", "unhandled", "incidents"),
)


def weekly_report(settings: Settings, lake: Lake, day: date, now: datetime, *, write: bool = True) -> str:
    """The report of the week that `day` is in, also written to ``<state>/reports/weekly_YYYYMMDD.md``.

    The file is named by the last session of the week: a report that is made again replaces the older one.
    """
    state = Path(settings.state.dir)
    journal = read_journal(state)
    week = sessions_between(*week_of(day))
    sessions = [session.trade_date for session in week]
    with reader(lake) as reads:
        by, watched_by = (
            min(gates.judged_by(lake, reads, now, settings, watching=watching), sessions[-1])
            for watching in (False, True)
        )
        begun = [one.trade_date for one in week if one.open <= now or one.trade_date <= by]
        facts = read_days(reads, begun, journal.causes)
        current = gates.position(reads, journal)
        verdicts = [gates.watch(reads, journal, watched_by)]
        if current.stage < LAST_STAGE:
            verdicts.append(gates.promotion(reads, journal, current.stage + 1, by))
    text = weekly_markdown(
        sessions,
        facts,
        f"The rollout stands at {current.words}; {gates.next_gate(current, by)}.",
        [verdict for verdict in verdicts if verdict is not None],
        [entry for entry in journal.entries if sessions[0] <= entry.at.astimezone(NEW_YORK).date() <= week_of(day)[1]],
        now,
    )
    if write:
        keep_report(text, state, "weekly", sessions[-1])
    return text


def week_of(day: date) -> tuple[date, date]:
    """Monday and Sunday of the week of `day`. XNYS has had no week without a session since 2001."""
    monday = day - timedelta(days=day.weekday())
    return monday, monday + timedelta(days=6)


def weekly_markdown(
    sessions: Sequence[date],
    facts: Sequence[DayFacts],
    standing: str,
    verdicts: Sequence[Verdict],
    decisions: Sequence[Entry],
    now: datetime,
) -> str:
    """The report as text, of the facts of those `sessions` that have begun. Pure."""
    parts = [
        f"# Week of {sessions[0]} to {sessions[-1]}\n\nAs of {clock(now)} New York.",
        standing,
        "## Sessions\n\n" + table(COLUMNS, map(_cells, facts)),
    ]
    if notes := [note for day in facts for note in _notes(day)]:
        parts.append("## Remarks\n\n" + "\n".join(f"- {note}" for note in notes))
    for verdict in verdicts:
        rows = [
            (result.rule, result.value, result.threshold, "passed" if result.passed else "**FAILED**", result.reason)
            for result in verdict.results
        ]
        name = f"Watch of stage {verdict.stage}" if verdict.watching else f"Gate to stage {verdict.stage}"
        rules = table(("rule", "value", "threshold", "result", "why"), rows)
        parts.append(f"## {name}\n\n{verdict.sentence[0].upper()}{verdict.sentence[1:]}.\n\n{rules}")
    if decisions:
        parts.append("## Decisions\n\n" + "\n".join(f"- {decision_words(entry)}" for entry in decisions))
    return "\n\n".join(parts) + "\n"


def decision_words(entry: Entry) -> str:
    """One decision as a line."""
    when = clock(entry.at)
    if entry.decision == "explain_pacing":
        return f"{when}: pacing violations of {entry.trade_date} explained: {entry.reason}"
    did = f"stage {entry.stage} approved" if entry.decision == "approve" else f"rolled back to stage {entry.stage}"
    window = f", on {entry.window[0]} to {entry.window[-1]}" if entry.window else ""
    failed = [rule.rule for rule in entry.rules if not rule.passed]
    not_held = f", although {', '.join(failed)} did not hold" if failed and entry.decision == "approve" else ""
    deviation = f"; deviation: {entry.deviation}" if entry.deviation else ""
    return f"{when}: {did} by {entry.by}{window}{not_held}: {entry.reason}{deviation}"


def _cells(day: DayFacts) -> tuple[object, ...]:
    def metric(name: str) -> str:
        found = day.metrics.get(name)
        if found is None or found.value is None:
            return "pending" if found is not None and found.pending else "–"
        value = number(found.value) if name == "slot_retry_exceeded" else share(found.value)
        return f"{value} (pending)" if found.pending else value if found.passed else f"**{value}**"

    return (
        str(day.trade_date) if day.recorded else f"{day.trade_date} **not recorded**",
        number(day.underlyings),
        *(metric(name) for name in ("slot_coverage", "fallback", "delayed", "oi_filled")),
        number(day.pacing_errors),
        number(day.pacing_alerts),
        metric("slot_retry_exceeded"),
        day.published or "**no**",
        number(len(day.interventions)),
        number(len(day.unhandled)),
        number(len(day.incidents)),
    )


def _notes(day: DayFacts) -> list[str]:
    notes = [day.gap] if day.gap else []
    for what, words in (
        ("by hand", day.interventions),
        ("unhandled", day.unhandled),
        ("incidents", tuple(sorted(set(day.incidents)))),
    ):
        if words:
            notes.append(f"{day.trade_date}, {what}: {', '.join(words)}")
    if day.pacing_errors:
        notes.append(f"{day.trade_date}, pacing: {day.pacing_cause or 'its cause is not recorded'}")
    return notes
