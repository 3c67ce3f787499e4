"""``chainlake gate``: the stages of the rollout, their gates, decisions and weekly report."""

from collections import defaultdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from chainlake.cli import options as o
from chainlake.cli.terminal import show
from chainlake.ops.rollout import gates
from chainlake.ops.rollout.gates import Verdict
from chainlake.ops.rollout.journal import Entry, Journal, decided, explained, read_journal
from chainlake.ops.rollout.report import decision_words, weekly_report
from chainlake.ops.rollout.rules import LAST_STAGE, WATCHED_STAGE
from ingest.errors import ChainlakeError, UsageError
from ingest.settings import Settings
from lake.reads import Reader, reader
from lake.store import Lake

LatestOption = Annotated[
    str,
    typer.Option("--date", help="Trade date to judge by, or latest: the last one whose numbers are all due."),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(gate)


@o.command
def gate(
    given: o.Given,
    stage: Annotated[
        int | None, typer.Option("--stage", min=1, max=LAST_STAGE, help="The stage that the gate opens.")
    ] = None,
    after: Annotated[
        bool, typer.Option("--after", help="Whether stage 1 may be kept, by the three sessions after the move to it.")
    ] = False,
    date: LatestOption = "latest",
    approve: Annotated[
        str | None, typer.Option("--approve", help='Record the move to --stage, as "name: reason".')
    ] = None,
    deviation: Annotated[
        str | None, typer.Option("--deviation", help='With --approve: what differs, as in "30/min, 14 at once".')
    ] = None,
    roll_back: Annotated[
        str | None, typer.Option("--roll-back", help='Record the way back from --stage, as "name: reason".')
    ] = None,
    explain_pacing: Annotated[
        tuple[str, str] | None,
        typer.Option("--explain-pacing", metavar="DATE CAUSE", help="Record the cause of a date's pacing violations."),
    ] = None,
    weekly: Annotated[bool, typer.Option("--weekly", help="Write and print the report of the date's week.")] = False,
    dry_run: o.DryRunOption = False,
) -> None:
    """Say whether the promotion rule to a stage holds, from the stored days. Exits 1 when it does not.

    Without --stage: the present stage, what is watched, and what is due next.
    """
    _check_options(stage, after, approve, deviation, roll_back)
    command = _GateCommand.open(given)
    if explain_pacing is not None:
        day, cause = o.session_from(explain_pacing[0]).trade_date, explain_pacing[1]
        command.record(explained(command.journal, day, cause, command.now), dry_run)
    elif weekly:
        _print_week(command, date, dry_run)
    elif roll_back is not None:
        command.roll_back(stage, roll_back, date, dry_run)
    elif approve is not None and stage is not None:
        command.approve(stage, approve, deviation, date, dry_run)
    elif stage is None and not after:
        command.print_position(date)
    else:
        command.print_gate(stage or WATCHED_STAGE, after, date)


def _check_options(
    stage: int | None, after: bool, approve: str | None, deviation: str | None, roll_back: str | None
) -> None:
    if approve is not None and roll_back is not None:
        raise UsageError("--approve and --roll-back: one decision at a time")
    if approve is not None and stage is None:
        raise UsageError("--approve needs --stage: say which stage is approved")
    if deviation is not None and approve is None:
        raise UsageError("--deviation is part of an approval: give --approve too")
    if after and stage not in (None, WATCHED_STAGE):
        raise UsageError(f"--after is for stage {WATCHED_STAGE}: no other stage is watched")


class _GateCommand:
    """One call of the command: its options, the lake, the journal, and the instant (UTC)."""

    def __init__(self, given: o.Given, settings: Settings, lake: Lake, journal: Journal, now: datetime) -> None:
        self.given, self.settings, self.lake, self.journal, self.now = given, settings, lake, journal, now

    @classmethod
    def open(cls, given: o.Given) -> "_GateCommand":
        settings = given.settings()
        lake = Lake.open(settings.lake.root)
        return cls(given, settings, lake, read_journal(Path(settings.state.dir)), datetime.now(UTC))

    # -- what is so ----------------------------------------------------------------------------------------------

    def print_gate(self, stage: int, after: bool, date: str) -> None:
        with reader(self.lake) as reads:
            # The gate to stage 1 is behind whoever stands there: its question is whether to stay.
            watching = after or (stage == WATCHED_STAGE and self.journal.stage == WATCHED_STAGE)
            verdict = self._watch(reads, date) if watching else self._promotion(reads, stage, date)
        if verdict is None:
            raise UsageError(
                f"--after: the rollout stands at stage {self.journal.stage}, and stage {WATCHED_STAGE} is watched"
            )
        o.print_result(verdict.as_dict(), self.given.json, lambda: _show(verdict))
        if not verdict.holds:
            raise typer.Exit(1)

    def print_position(self, date: str) -> None:
        with reader(self.lake) as reads:
            current = gates.position(reads, self.journal)
            watched = self._watch(reads, date)
            judged_by = self.day(reads, date, watching=False)
            ahead = self._promotion(reads, current.stage + 1, date) if current.stage < LAST_STAGE else None
        next_gate = gates.next_gate(current, judged_by)
        result: dict[str, Any] = {
            "stage": current.stage,
            "since": current.since,
            "decided": current.decided,
            "due": next_gate,
            "watch": watched.as_dict() if watched else None,
            "gate": ahead.as_dict() if ahead else None,
            "decisions": [entry.model_dump(mode="json", exclude_defaults=True) for entry in self.journal.entries],
        }

        def print_text() -> None:
            show.line(current.words)
            for entry in self.journal.entries[-5:]:
                show.line(f"  {decision_words(entry)}")
            for verdict in (watched, ahead):
                if verdict is not None:
                    _show(verdict)
            show.line(next_gate)

        o.print_result(result, self.given.json, print_text)
        if watched is not None and not watched.holds:
            raise typer.Exit(1)

    def _promotion(self, reads: Reader, stage: int, date: str) -> Verdict:
        return gates.promotion(reads, self.journal, stage, self.day(reads, date, watching=False))

    def _watch(self, reads: Reader, date: str) -> Verdict | None:
        return gates.watch(reads, self.journal, self.day(reads, date, watching=True))

    def day(self, reads: Reader, date: str, *, watching: bool) -> date:
        if date != "latest":
            return o.session_from(date, self.now).trade_date
        return gates.judged_by(self.lake, reads, self.now, self.settings, watching=watching)

    # -- what is decided -----------------------------------------------------------------------------------------

    def approve(self, stage: int, signed: str, deviation: str | None, date: str, dry_run: bool) -> None:
        if stage <= self.journal.stage:
            raise UsageError(f"stage {stage} is reached already: the rollout stands at stage {self.journal.stage}")
        with reader(self.lake) as reads:
            verdict = self._promotion(reads, stage, date)
        entry = decided("approve", stage, signed, deviation, verdict.results, self.now)
        failed = verdict.failed
        if stage != self.journal.stage + 1 and "stage" not in failed:
            failed = ["stage", *failed]
        if failed and not deviation:
            raise ChainlakeError(
                f"not approved, as the gate to stage {stage} does not hold ({', '.join(failed)}): "
                f"see chainlake gate --stage {stage}; or say with --deviation why it may be passed all the same"
            )
        self.record(entry, dry_run)

    def roll_back(self, stage: int | None, signed: str, date: str, dry_run: bool) -> None:
        present = self.journal.stage
        if present == 0 or stage not in (None, present):
            raise UsageError(
                f"--roll-back: the rollout stands at stage {present}; give that --stage, of 1 to {LAST_STAGE}"
            )
        with reader(self.lake) as reads:
            watched = self._watch(reads, date)
        results = watched.results if watched else ()
        self.record(decided("roll_back", present - 1, signed, None, results, self.now), dry_run)

    def record(self, entry: Entry, dry_run: bool) -> None:
        if not dry_run:
            self.journal = self.journal.append(entry)
        result = entry.model_dump(mode="json", exclude_defaults=True)
        words = decision_words(entry)
        o.print_result(
            result, self.given.json, lambda: show.line(f"would record: {words}" if dry_run else f"recorded: {words}")
        )


def _print_week(command: _GateCommand, date: str, dry_run: bool) -> None:
    with reader(command.lake) as reads:
        day = command.day(reads, date, watching=True)
    text = weekly_report(command.settings, command.lake, day, command.now, write=not dry_run)
    o.print_result({"report": text}, command.given.json, lambda: show.line(text.rstrip()))


def _show(verdict: Verdict) -> None:
    """Print a gate: a row for each rule, why those that fail do, and the verdict."""
    rows = [
        {
            "rule": result.rule,
            "value": result.value,
            "threshold": result.threshold,
            "days": _days(result.days),
            "result": "passed" if result.passed else "FAILED",
        }
        for result in verdict.results
    ]
    title = f"stage {verdict.stage}, watched" if verdict.watching else f"gate to stage {verdict.stage}"
    show.table(pl.DataFrame(rows), f"\n{title}")
    reasons: dict[str, list[str]] = defaultdict(list)
    for result in verdict.results:
        if result.reason:
            reasons[result.reason].append(result.rule)
    for reason, names in reasons.items():
        show.line(f"  {', '.join(names)}: {reason}")
    show.line(verdict.sentence)


def _days(days: tuple[date, ...]) -> str:
    if not days:
        return "–"
    return str(days[0]) if len(days) == 1 else f"{days[0]} to {days[-1]} ({len(days)})"
