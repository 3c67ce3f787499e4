"""Rebuild a published day from the raw rows it was made of, and hold the result against what was published.

The rebuild reads raw and ops at the versions that the publication names, takes corporate actions as they were known at
its instant, and writes its models into a scratch lake. Nothing in the lake changes.
"""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import duckdb
import pyarrow as pa

from flows.models import MODELLED, BuildPaths, clock_variables
from flows.steps import PipelineContext, stage_seeds
from ingest.errors import UsageError
from ingest.settings import StateSettings
from lake.catalog.as_of import changed, changes_of
from lake.code_version import code_version, same_code
from lake.duck import connect, delta_scan
from lake.errors import LakeError
from lake.maintenance.retention import INTRADAY
from lake.reads import reader
from lake.store import Lake
from lake.tables import BY_NAME

DAILY = "clean/daily_clean"
QUOTES = "raw/option_quotes"
# What identifies a row of one trade date.
KEYS = {
    "clean/intraday": ("conid", "slot_30m"),
    "clean/daily_clean": ("conid",),
    "clean/daily_unresolved": ("conid",),
    "clean/daily_adjusted": ("conid",),
    "quality/slot_coverage": ("underlying", "slot_30m"),
    "quality/daily_metrics": ("metric",),
}
# Rows of a difference that are shown.
EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Comparison:
    """One table of the day: how its published rows and the rebuilt ones differ.

    `columns`: in how many rows of one key a column differs (0: only one side has the column). `examples`: the first
    rows that only one side has, with ``side`` (published or rebuilt), the key and the columns that differ.
    """

    table: str
    version: int
    rows: int
    only_published: int
    only_rebuilt: int
    columns: dict[str, int]
    examples: tuple[dict[str, Any], ...]

    @property
    def equal(self) -> bool:
        """Whether both sides have the same rows, each as often, in the same columns."""
        return not (self.only_published or self.only_rebuilt or self.columns)


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A day, rebuilt. `built_at`: the publication whose build made the day; later ones restated it (`published_at`)."""

    trade_date: date
    published_at: datetime
    built_at: datetime
    status: str
    code_then: str
    code_now: str
    same_actions: bool
    tables: tuple[Comparison, ...]

    @property
    def equal(self) -> bool:
        """Whether every table came out as it was published."""
        return all(table.equal for table in self.tables)

    @property
    def same_code(self) -> bool:
        """Whether the code that published the day is known to be the one that rebuilt it."""
        return same_code(self.code_then, self.code_now)


def reproduce(context: PipelineContext, lake: Lake, day: date) -> Reproduction:
    """Rebuild `day` as its latest publication describes it, and compare.

    A day that was restated since it was built takes two builds: the day as of its own publication, and its adjusted
    rows as of the latest. Raises UsageError for a day that was never published, LakeError when its raw rows or what was
    published are gone, ModelError when dbt cannot build.
    """
    built, last = _publications(lake, day)
    _require_raw(lake, day, built["versions"])
    state = context.state.resolve() / "reproduce"
    apart = replace(context, settings=context.settings.model_copy(update={"state": StateSettings(dir=state)}))
    stage_seeds(apart, lake, [day])
    paths = replace(apart.build_paths, lake_root=lake.root)
    with tempfile.TemporaryDirectory(prefix="lake-", dir=state) as folder:
        scratch = Lake.create(folder, lake.origin, last["published_at"])
        rebuild = _Rebuild(apart, paths, lake, scratch, day)
        rebuild.run(built, [day])
        if last is not built:
            rebuild.run(last, [])
        with closing(connect(root=lake.root)) as connection:
            connection.execute("SET temp_directory = ?", [f"{folder}/spill"])
            tables = [
                _compare(connection, lake, scratch, day, name, _version_to_compare(name, built, last))
                for name in MODELLED
            ]
    return Reproduction(
        trade_date=day,
        published_at=last["published_at"],
        built_at=built["published_at"],
        status=last["status"],
        code_then=last["code_version"],
        code_now=code_version(),
        same_actions=last["actions_hash"]
        == hashlib.sha256((paths.seeds / "corporate_actions.csv").read_bytes()).hexdigest(),
        tables=tuple(tables),
    )


def _publications(lake: Lake, day: date) -> tuple[dict[str, Any], dict[str, Any]]:
    """The publication whose build made the day as it stands, and the latest, which may have restated it."""
    with reader(lake) as reads:
        rows = reads.rows("ops/published", f"trade_date = date '{day}' order by published_at, run_id")
    if not rows:
        raise UsageError(f"{day} was never published in {lake.root}: run `chainlake rollup --date {day}` first")
    last = rows[-1]
    if unnamed := [name for name in MODELLED if name not in last["versions"]]:
        raise LakeError(f"the publication of {day} names no version of {', '.join(unnamed)}: roll the day up again")
    changes = changes_of(lake, DAILY)
    stands = last["versions"][DAILY]
    built = next(
        row for row in rows if row is last or not changed(changes, day, row["versions"].get(DAILY, -1), stands)
    )
    return built, last


def _version_to_compare(name: str, built: Mapping[str, Any], last: Mapping[str, Any]) -> int:
    """The version at which a table has the day as it was published.

    A restatement names the versions of its own time. Retention may have taken intraday rows before it, which the
    publication that built them still names.
    """
    published = built if name in INTRADAY else last
    version_of: int = published["versions"][name]
    return version_of


def _require_raw(lake: Lake, day: date, versions: Mapping[str, int]) -> None:
    with closing(connect(root=lake.root)) as connection:
        for name in (name for name in versions if name.startswith("raw/")):
            # A count of rows alone would be answered by the log, with the files gone.
            column = BY_NAME[name].columns[-1].name
            query = f'select count(*), count("{column}") from {_scan(lake, name, versions[name])} where {_on(day)}'
            try:
                ((rows, _),) = connection.execute(query).fetchall()
            except duckdb.Error:
                raise LakeError(
                    f"{name} of {day} at version {versions[name]}, of which it was made, is gone (vacuumed): "
                    "the day cannot be rebuilt"
                ) from None
            if name == QUOTES and not rows:
                raise LakeError(f"{name} had no quotes of {day} when it was published: there is nothing to rebuild")


@dataclass(frozen=True, slots=True)
class _Rebuild:
    """Builds of one day of `lake` into the lake `scratch`."""

    context: PipelineContext
    paths: BuildPaths
    lake: Lake
    scratch: Lake
    day: date

    def run(self, publication: Mapping[str, Any], dates: Sequence[date]) -> None:
        """Do once more what the build of a publication did to the day.

        A publication does not keep `close.deadline` and its likes: those in force now are taken.
        """
        versions = publication["versions"]
        _show_later_dates(self.lake, self.scratch, self.day, versions[DAILY])
        self.context.project.build(
            self.paths,
            dates,
            as_of=publication["published_at"],
            variables={
                **clock_variables(self.context.settings),
                "models_root": self.scratch.root,
                "source_versions": {name: version for name, version in versions.items() if name in BY_NAME},
            },
            tested=False,
        )


def _show_later_dates(lake: Lake, scratch: Lake, day: date, daily_version: int) -> None:
    """Put one row of each later date into daily_clean: an action counts once a date of its time is there."""
    from lake.dbt.delta_plugin import delta_schema  # imports dbt, which takes two seconds

    daily = _scan(lake, DAILY, daily_version)
    with closing(connect(root=lake.root)) as connection:
        later = [
            found
            for (found,) in connection.execute(
                f"select distinct trade_date from {daily} where trade_date > date '{day}' order by 1"
            ).fetchall()
        ]
        if not later:
            return
        rows = connection.execute(
            " union all ".join(f"(select * from {daily} where {_on(each)} limit 1)" for each in later)
        ).to_arrow_table()
    typed = rows.cast(delta_schema(rows.schema, ()))

    def stream() -> pa.RecordBatchReader:
        return typed.to_reader()

    scratch.replace_dates(DAILY, stream, later)


def _compare(
    connection: duckdb.DuckDBPyConnection, lake: Lake, scratch: Lake, day: date, name: str, published: int
) -> Comparison:
    sides = {
        "published": f"from {_scan(lake, name, published)} where {_on(day)}",
        "rebuilt": f"from {delta_scan(scratch.uri(name))} where {_on(day)}",
    }
    try:
        columns = {side: [row[0] for row in connection.execute(f"describe {sides[side]}").fetchall()] for side in sides}
        common = [column for column in columns["published"] if column in columns["rebuilt"]]
        for side, rows in sides.items():
            connection.execute(f"create or replace temp view {side} as select {_listed(common)} {rows}")
        ((count,),) = connection.execute("select count(*) from published").fetchall()
        ((only_published, only_rebuilt),) = connection.execute(
            "select (select count(*) from (from published except all from rebuilt)), "
            "(select count(*) from (from rebuilt except all from published))"
        ).fetchall()
        alone = dict.fromkeys(sorted(set(columns["published"]) ^ set(columns["rebuilt"])), 0)
        if not only_published and not only_rebuilt:
            return Comparison(name, published, count, 0, 0, alone, ())
        differing = _differing(connection, common, KEYS[name])
        examples = _examples(connection, [*KEYS[name], *differing], KEYS[name])
    except duckdb.Error as error:
        reason = " ".join(str(error).split("\n")[0].split())
        raise LakeError(f"{name} of {day} as published (version {published}) cannot be read: {reason}") from None
    return Comparison(name, published, count, only_published, only_rebuilt, alone | differing, tuple(examples))


def _differing(connection: duckdb.DuckDBPyConnection, columns: Sequence[str], key: Sequence[str]) -> dict[str, int]:
    """In how many rows of one key each column differs; only columns that do."""
    others = [column for column in columns if column not in key]
    counts = ", ".join(f'count(*) filter (published."{each}" is distinct from rebuilt."{each}")' for each in others)
    ((*found,),) = connection.execute(f"select {counts} from published join rebuilt using ({_listed(key)})").fetchall()
    return {column: count for column, count in zip(others, found, strict=True) if count}


def _examples(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[str], key: Sequence[str]
) -> list[dict[str, Any]]:
    halves = [
        f"select {_listed(columns)}, '{side}' as side from (from {side} except all from {other})"
        for side, other in (("published", "rebuilt"), ("rebuilt", "published"))
    ]
    rows = connection.execute(
        f"select side, {_listed(columns)} from ({' union all '.join(halves)}) order by {_listed(key)}, side "
        f"limit {EXAMPLES}"
    ).to_arrow_table()
    found: list[dict[str, Any]] = rows.to_pylist()
    return found


def _scan(lake: Lake, name: str, delta_version: int) -> str:
    return delta_scan(lake.uri(name), delta_version)


def _on(day: date) -> str:
    return f"trade_date = date '{day}'"


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)
