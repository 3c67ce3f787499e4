"""Small lakes, the real dbt project over them, and a way to look at what it wrote."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pytest

from flows.models import BuildPaths, BuildResult, DbtProject, project_stamp
from lake.duck import connect
from lake.store import Lake
from tests.models.rows import CREATED, LATER, Day, Row, write_seeds


class SharedProject(DbtProject):
    """The dbt project, parsed once for all lakes of this process: of two lakes only the paths in it differ.

    dbt takes three seconds to parse it, and what a lake's own project keeps is of no use to the next lake.
    """

    _shared: ClassVar[dict[tuple[str | None, int], tuple[Any, BuildPaths]]] = {}

    def _parsed(self, paths: BuildPaths, target: str | None, options: Sequence[str]) -> Any:
        kind = target, project_stamp()
        if kind not in self._shared:
            self._shared[kind] = super()._parsed(paths, target, options), paths
        manifest, was = self._shared[kind]
        for source in manifest.sources.values():
            for meta in (source.meta, source.source_meta, source.config.meta):
                meta["external_location"] = meta["external_location"].replace(
                    was.variables["lake_root"], paths.variables["lake_root"]
                )
        for node in manifest.nodes.values():
            if node.resource_type == "seed":
                node.original_file_path = str(paths.seeds.resolve() / node.path)
        self._shared[kind] = manifest, paths
        return manifest


class SmallLake:
    """A lake with its seeds and state in one folder."""

    def __init__(self, folder: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self.folder = folder
        self.lake = Lake.create(folder / "lake", "simulated", CREATED)
        self.seeds = write_seeds(folder / "config")
        self._connection = connection
        self._project = SharedProject()

    def day(self, trade_date: date) -> Day:
        return Day(self.lake, trade_date)

    def reference(self, universe: Sequence[str] = ("AAPL",), actions: Sequence[Row] = ()) -> None:
        write_seeds(self.seeds, universe, actions)

    def build(self, dates: Sequence[date] | None, as_of: datetime = LATER, **variables: Any) -> BuildResult:
        paths = BuildPaths(self.lake.root, self.seeds, self.folder / "state")
        return self._project.build(paths, dates, as_of=as_of, variables=variables)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of `query`, in which ``clean.daily_clean`` and so on stand for the lake's tables."""
        for name in sorted(self.lake.table_names(), key=len, reverse=True):
            query = query.replace(f" {name.replace('/', '.')}", f" delta_scan('{self.lake.uri(name)}')")
        return self._connection.sql(query).fetchall()

    def one(self, query: str) -> Any:
        """The only value of `query`."""
        ((value,),) = self.rows(query)
        return value

    def content(self, table: str) -> list[tuple[Any, ...]]:
        """All rows of a table, in an order of their own."""
        return sorted(self.rows(f"select * from {table}"), key=repr)

    def files(self, name: str, day: date) -> set[str]:
        """Paths of the data files that hold a trade date of a table."""
        table = self.lake.table(name)
        assert table is not None
        return {uri for uri in table.file_uris() if f"trade_date={day}" in uri}


@pytest.fixture(scope="session")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = connect(threads=1)
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def small_lake(tmp_path_factory: pytest.TempPathFactory, duck: duckdb.DuckDBPyConnection) -> Callable[[str], SmallLake]:
    """Makes a new small lake."""

    def make(name: str) -> SmallLake:
        return SmallLake(tmp_path_factory.mktemp(name), duck)

    return make
