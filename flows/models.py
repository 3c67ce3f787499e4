"""Runs the dbt project in this process: raw tables in, clean and quality tables out, contracts tested.

A build replaces exactly the trade dates it is given, plus the dates of ``clean/daily_adjusted`` that corporate actions
now reach. Tables are written whatever the tests say; what failed is in the result.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeGuard

from flows.seeds import ACTIONS, UNIVERSE, refusal_of
from ingest.calendar.sessions import UTC, next_session, previous_session
from ingest.open_interest.enrichment import filled_by
from ingest.settings import Settings
from lake import resources
from lake.storage import absolute
from lake.store import RESTATED, Lake
from lake.tables import BY_NAME
from lake.vocabulary import PublicationStatus

if TYPE_CHECKING:
    from dbt.cli.main import dbtRunner, dbtRunnerResult
    from dbt_common.exceptions import CompilationError

PROJECT = resources.DBT_PROJECT
# Tables that a build reads, at one version each, and tables that it writes, as <schema>/<table>.
SOURCES = tuple(BY_NAME)
MODELLED = (
    "clean/intraday",
    "clean/daily_clean",
    "clean/daily_unresolved",
    "clean/daily_adjusted",
    "quality/slot_coverage",
    "quality/daily_metrics",
)
DAILY = "clean/daily_clean"
ADJUSTED = "clean/daily_adjusted"


class Runner(Protocol):
    """Runs dbt commands in this process, as dbtRunner does."""

    def invoke(self, args: list[str]) -> "dbtRunnerResult":
        """Run the command `args`."""
        ...


# Makes a runner of the parsed project.
RunnerOf = Callable[[Any], Runner]


class ModelError(Exception):
    """The models could not be built; the message is one line for the user and names dbt's log."""


class InputRefused(ModelError):
    """What the build was given cannot be right, such as a line of corporate_actions.csv; nothing was built."""


@dataclass(frozen=True, slots=True)
class NodeResult:
    """One seed, model or test of a build."""

    name: str
    resource_type: str
    status: str
    elapsed_s: float
    message: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One test that did not pass: `count` rows contradict it (None when it could not be evaluated)."""

    name: str
    message: str
    count: int | None


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build did. `versions`: of the raw and ops tables it read, and of the tables it wrote.

    `left_alone`: dates that were asked for, and whose quotes are gone. `restatements`: underlyings by earlier date of
    daily_adjusted that corporate actions put into other terms.
    """

    dates: tuple[date, ...]
    left_alone: tuple[date, ...]
    restatements: dict[date, tuple[str, ...]]
    nodes: tuple[NodeResult, ...]
    failures: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    versions: dict[str, int]
    elapsed_s: float
    log: Path

    @property
    def restated(self) -> tuple[date, ...]:
        """The dates of daily_adjusted that were replaced beside those of the build."""
        return tuple(sorted(self.restatements))

    @property
    def status(self) -> PublicationStatus:
        """The status with which the dates may be published."""
        if self.failures:
            return "failed"
        return "warned" if self.warnings else "passed"


@dataclass(frozen=True, slots=True)
class BuildPaths:
    """Where a build reads and writes.

    `seeds` is the folder of ``universe.csv`` and ``corporate_actions.csv``; dbt's own files go to ``<state>/dbt``.
    """

    lake_root: str | Path
    seeds: Path
    state: Path

    @property
    def workspace(self) -> Path:
        """The folder of dbt's own files."""
        return self.state.resolve() / "dbt"

    @property
    def log(self) -> Path:
        """The log that dbt writes."""
        return self.workspace / "logs" / "dbt.log"

    @property
    def variables(self) -> dict[str, str]:
        """The paths as variables of the project and its profile, which fall back to the environment without them."""
        return {
            "lake_root": absolute(self.lake_root),
            "seeds": str(self.seeds.resolve()),
            "dbt_database": str(self.workspace / "chainlake.duckdb"),
        }


def clock_variables(settings: Settings) -> dict[str, str]:
    """The operational times of `settings` as the variables of dbt_project.yml that a build has to be given.

    They live in the settings; the project states their defaults for a dbt that is started from the shell.
    """
    return {
        "close_deadline": settings.close.deadline.isoformat(),
        "open_interest_due": filled_by(settings).isoformat(),
    }


class DbtProject:
    """The dbt project, with what dbt has parsed of it: a second build of the same paths need not parse again.

    `runner` makes what runs dbt's build, by default dbt's own.
    """

    # dbt keeps its configuration in globals of its own, so one build at a time runs in a process.
    _one_build: ClassVar = threading.Lock()

    def __init__(self, runner: RunnerOf | None = None) -> None:
        self._runner = runner or _dbt
        self._manifest: Any = None
        self._manifest_of: tuple[BuildPaths, str | None, int] | None = None

    def build(
        self,
        paths: BuildPaths,
        dates: Sequence[date] | None,
        *,
        as_of: datetime | None = None,
        target: str | None = None,
        variables: Mapping[str, Any] | None = None,
        tested: bool = True,
    ) -> BuildResult:
        """Build the models of `dates` in the lake of `paths`, then test them unless `tested` is false.

        `dates` None stands for every date whose raw rows are still there; an empty list only restates what corporate
        actions reach. A date whose quotes are gone is left alone, even when it is asked for. `as_of` (aware, default
        now) is the instant at which actions are known and numbers are due. `target` names an output of
        ``profiles.yml``; `variables`, such as `clock_variables`, overrides those of ``dbt_project.yml``.

        Raises InputRefused, and builds nothing, for a wrong line of ``corporate_actions.csv``; ModelError when dbt
        cannot run or a table could not be written; LakeMissing when there is no lake. Blocks: call it from async code
        by ``asyncio.to_thread``.
        """
        started = time.monotonic()
        lake = Lake.open(absolute(paths.lake_root))
        _check_inputs(paths.seeds.resolve(), as_of)
        listed = None if dates is None else sorted(set(dates))
        given = _variables(lake, listed, as_of) | dict(variables or {})
        with self._one_build:
            paths.workspace.mkdir(parents=True, exist_ok=True)
            before = _versions(lake, MODELLED)
            try:
                outcome = self._invoke(paths, target, given, tested)
            finally:
                from lake.dbt.delta_plugin import release_database  # imports dbt: see _dbt

                release_database()
            nodes = _nodes(outcome, paths.log)
        _require_tables(nodes, paths.log)
        replaced = lake.replaced_dates(DAILY, since=before.get(DAILY))
        built = replaced if listed is None else replaced & set(listed)
        return BuildResult(
            dates=tuple(sorted(built)),
            left_alone=tuple(sorted(set(listed or ()) - built)),
            restatements=_restatements(lake.notes(ADJUSTED, RESTATED, since=before.get(ADJUSTED))),
            nodes=nodes,
            failures=_findings(outcome, "fail", "error"),
            warnings=_findings(outcome, "warn"),
            versions=given["source_versions"] | _versions(lake, MODELLED),
            elapsed_s=time.monotonic() - started,
            log=paths.log,
        )

    def _invoke(
        self, paths: BuildPaths, target: str | None, given: Mapping[str, Any], tested: bool
    ) -> "dbtRunnerResult":
        options = _options(paths, target)
        manifest = self._parsed(paths, target, options)
        without = _without("unit_test", *([] if tested else ["test"]))
        variables = json.dumps({**paths.variables, **given})
        return self._runner(manifest).invoke(["build", *without, "--vars", variables, *options])

    def _parsed(self, paths: BuildPaths, target: str | None, options: Sequence[str]) -> Any:
        """The parsed project, kept for the next build of these paths unless a file of it has changed.

        It is parsed with the paths only: dbt would parse again whenever another variable (a trade date) differs.
        """
        stamp = project_stamp()
        if self._manifest_of != (paths, target, stamp):
            parsed = _dbt().invoke(["parse", "--vars", json.dumps(paths.variables), *options])
            if not parsed.success:
                raise ModelError(f"the dbt project cannot be read: {_reason(parsed)}; see {paths.log}")
            self._manifest, self._manifest_of = parsed.result, (paths, target, stamp)
        return self._manifest


def project_stamp() -> int:
    """When a file of the dbt project was last changed, in nanoseconds: what was parsed before is out of date."""
    return max(path.stat().st_mtime_ns for path in _project_files())


def _variables(lake: Lake, dates: Sequence[date] | None, as_of: datetime | None) -> dict[str, Any]:
    """What the models are to know of the dates that are built, and the versions of the tables that they read."""
    return {
        "source_versions": _versions(lake, SOURCES),
        "trade_dates": None if dates is None else [day.isoformat() for day in dates],
        "as_of": None if as_of is None else as_of.astimezone(UTC).isoformat(),
        "next_sessions": {day.isoformat(): next_session(day).trade_date.isoformat() for day in dates or ()},
        "previous_sessions": {day.isoformat(): previous_session(day).trade_date.isoformat() for day in dates or ()},
    }


def _versions(lake: Lake, names: Sequence[str]) -> dict[str, int]:
    """The versions of those tables that are there."""
    return {name: version for name in names if (version := lake.version(name)) is not None}


def _dbt(manifest: Any = None) -> "dbtRunner":
    # dbt takes two seconds to import: commands that build nothing shall not wait for it.
    from dbt.cli.main import dbtRunner

    return dbtRunner(manifest=manifest)


def _check_inputs(seeds: Path, as_of: datetime | None) -> None:
    if as_of is not None and as_of.tzinfo is None:
        raise ModelError(f"as_of {as_of} has no time zone: give an aware instant")
    for name in (UNIVERSE, ACTIONS):
        if not (seeds / name).is_file():
            raise ModelError(
                f"{seeds / name} is missing: `chainlake init` writes one, or name its folder in the settings"
            )
        # dbt asks this too (macro check_seeds), but only after it has read the files in its own way.
        if refusal := refusal_of(str(seeds / name)):
            raise InputRefused(refusal)
    if not (PROJECT / "dbt_project.yml").is_file():
        raise ModelError(f"no dbt project at {PROJECT}: install Chainlake again")


def _options(paths: BuildPaths, target: str | None) -> list[str]:
    options = ["--project-dir", str(PROJECT), "--profiles-dir", str(resources.SHIPPED)]
    options += ["--target-path", str(paths.workspace / "target"), "--log-path", str(paths.log.parent)]
    options += ["--log-level", "none", "--log-level-file", "debug", "--no-use-colors", "--no-write-json"]
    options += ["--no-send-anonymous-usage-stats"]
    return [*options, "--target", target] if target else options


def _without(*resource_types: str) -> list[str]:
    return [word for kind in resource_types for word in ("--exclude-resource-type", kind)]


def _project_files() -> Iterator[Path]:
    yield resources.SHIPPED / "profiles.yml"
    yield PROJECT / "dbt_project.yml"
    for folder in ("models", "macros", "tests"):
        yield from (path for path in (PROJECT / folder).rglob("*") if path.suffix in {".sql", ".yml"})


def _restatements(notes: Sequence[str]) -> dict[date, tuple[str, ...]]:
    return {
        date.fromisoformat(day): tuple(underlyings) for note in notes for day, underlyings in json.loads(note).items()
    }


def _nodes(outcome: "dbtRunnerResult", log: Path) -> tuple[NodeResult, ...]:
    results = getattr(outcome.result, "results", None)
    if outcome.exception is not None or results is None:
        if _is_refusal(outcome.exception):
            raise InputRefused(_one_line(outcome.exception.msg))
        raise ModelError(f"dbt cannot run: {_reason(outcome)}; see {log}")
    return tuple(
        NodeResult(
            name=result.node.name,
            resource_type=str(result.node.resource_type),
            status=str(result.status),
            elapsed_s=result.execution_time,
            message=_one_line(result.message or ""),
        )
        for result in results
    )


def _require_tables(nodes: Sequence[NodeResult], log: Path) -> None:
    """A table that was not written is no matter of quality: nothing may be published after it."""
    broken = [node for node in nodes if node.resource_type != "test" and node.status in {"error", "fail"}]
    if broken:
        first = broken[0]
        others = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise ModelError(f"{first.resource_type} {first.name} failed{others}: {first.message}; see {log}")


def _findings(outcome: "dbtRunnerResult", *statuses: str) -> tuple[Finding, ...]:
    return tuple(
        Finding(result.node.name, _one_line(result.message or ""), result.failures)
        for result in getattr(outcome.result, "results", ())
        if str(result.node.resource_type) == "test" and str(result.status) in statuses
    )


def _is_refusal(exception: BaseException | None) -> "TypeGuard[CompilationError]":
    """Whether a macro that runs at the start of a build raised it.

    What the project's own checks refuse is the user's to correct; dbt's log adds nothing to it.
    """
    from dbt_common.exceptions import CompilationError  # imports dbt: see _dbt

    return isinstance(exception, CompilationError) and any(
        getattr(node, "resource_type", None) == "operation" for node in (exception.node, *exception.stack)
    )


def _reason(outcome: "dbtRunnerResult") -> str:
    from lake.dbt.delta_plugin import DatabaseInUse  # imports dbt: see _dbt

    exception = outcome.exception
    if exception is None:
        return "it gave no reason"
    return _one_line(exception.msg if isinstance(exception, DatabaseInUse) else str(exception))


def _one_line(message: str) -> str:
    return " ".join(message.split())
