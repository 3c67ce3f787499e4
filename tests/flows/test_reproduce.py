"""A published day is rebuilt from its raw rows: equal to what was published, or the difference is shown.

One real lake: 2014-06-05 is published without open interest, with it, and once more when AAPL's 7:1 split of 06-09 has
restated it.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from chainlake.cli.terminal import show
from flows.maintenance import MaintenanceContext, run_retention
from flows.models import MODELLED
from flows.publication import BuildOutcome, publish
from flows.reproduce import reproduce
from flows.steps import PipelineContext, stage_seeds
from ingest.calendar.sessions import new_york
from ingest.errors import UsageError
from ingest.settings import LakeSettings, load
from lake.duck import connect
from lake.errors import LakeError
from lake.reads import reader
from lake.store import Lake
from tests.commands import run_chainlake
from tests.models.rows import CREATED, Day, contract, write_seeds

pytestmark = pytest.mark.long

DAY, NEXT, EX_DATE = date(2014, 6, 5), date(2014, 6, 6), date(2014, 6, 9)
SPLIT = {
    "symbol": "AAPL",
    "event_type": "split",
    "effective_date": "2014-06-09",
    "ratio_new": 7,
    "ratio_old": 1,
    "known_at": "2014-04-24T04:00:00Z",
}
BUILT, FILLED, RESTATED = new_york(DAY, time(17, 30)), new_york(NEXT, time(9, 35)), new_york(EX_DATE, time(17, 30))
CONTRACTS = [contract(1, 645.0), contract(2, 640.0, "P"), contract(3, 655.0), contract(4, 50.0, underlying="MSFT")]


@dataclass(frozen=True)
class Published:
    """The lake, and where its commands work."""

    lake: Lake
    context: PipelineContext
    folder: Path

    def roll_up(self, day: date | None, as_of: datetime) -> None:
        """Build and publish a date as `rollup` does, without the tests of the models, which take longest.

        No date only restates.
        """
        days = [day] if day else []
        stage_seeds(self.context, self.lake, days)
        paths = self.context.build_paths
        built = self.context.project.build(paths, days, as_of=as_of, tested=False)
        outcome = BuildOutcome(built.versions, restated=built.restated)
        publish(self.lake, built.dates, outcome, paths.seeds / "corporate_actions.csv", as_of)

    def versions(self) -> dict[str, int | None]:
        return {name: self.lake.version(name) for name in self.lake.table_names()}


def record(lake: Lake, trade_date: date) -> Day:
    day = Day(lake, trade_date)
    day.open(*CONTRACTS)
    # The third contract is never asked for: it ends in daily_unresolved.
    asked = [CONTRACTS[0], CONTRACTS[1], CONTRACTS[3]]
    day.write("raw/option_quotes", [day.quote(row, slot) for row in asked for slot in (0, 12, 13)])
    day.write("raw/option_quotes", [day.close_quote(CONTRACTS[0], bid=7.0, ask=7.2)])
    day.write("raw/underlying_quotes", [day.underlying(symbol, 13) for symbol in ("AAPL", "MSFT")])
    return day


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = tmp_path_factory.mktemp("published")
    seeds = write_seeds(folder / "config", ["AAPL", "MSFT"], [SPLIT])
    settings = load(
        lake={"root": str(folder / "lake")},
        state={"dir": folder / "state"},
        universe={"file": seeds / "universe.csv"},
        reference={"corporate_actions": seeds / "corporate_actions.csv"},
    )
    found = Published(Lake.create(folder / "lake", "simulated", CREATED), PipelineContext.prepare(settings), folder)
    day = record(found.lake, DAY)
    found.roll_up(DAY, BUILT)
    day.write("raw/open_interest", [day.open_interest(row, 10) for row in CONTRACTS[:2]])
    found.roll_up(DAY, FILLED)
    record(found.lake, EX_DATE)
    found.roll_up(EX_DATE, RESTATED)
    return found


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(threads=1) as made:
        yield made


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def chainlake(published: Published) -> Command:
    """Runs a command on the lake; gives its exit code and what it printed."""

    environment = {
        "CHAINLAKE_STATE__DIR": str(published.folder / "state"),
        "CHAINLAKE_UNIVERSE__FILE": str(published.folder / "config" / "universe.csv"),
        "CHAINLAKE_REFERENCE__CORPORATE_ACTIONS": str(published.folder / "config" / "corporate_actions.csv"),
    }

    def call(*arguments: str) -> tuple[int, str]:
        done = run_chainlake(*arguments, "--lake", published.lake.root, environment=environment)
        return done.returncode, done.stdout or done.stderr

    return call


def test_a_restated_day_comes_out_as_it_was_published(published: Published, capfd: pytest.CaptureFixture[str]) -> None:
    before = published.versions()
    result = reproduce(published.context, published.lake, DAY)
    assert {each.table: (each.only_published, each.only_rebuilt) for each in result.tables} == dict.fromkeys(
        MODELLED, (0, 0)
    )
    assert result.equal
    assert result.same_actions
    assert result.code_then == result.code_now
    # Its rows are those of the second publication, restated by the third.
    assert (result.built_at, result.published_at) == (FILLED, RESTATED)
    # Nine quotes of three contracts, one of four contracts without any.
    rows = {each.table: each.rows for each in result.tables}
    assert rows["clean/intraday"] == 9
    assert (rows["clean/daily_clean"], rows["clean/daily_unresolved"], rows["clean/daily_adjusted"]) == (3, 1, 3)
    assert rows["quality/slot_coverage"] == 2 * 14
    assert published.versions() == before
    assert not list((published.folder / "state" / "reproduce").glob("lake-*"))
    show.reproduction(result)
    assert capfd.readouterr().out.splitlines()[-2:] == [
        "built 2014-06-06 13:35:00 UTC, and restated for corporate actions since",
        "the day came out as it was published",
    ]


@pytest.mark.parametrize(
    ("moment", "row"),
    [
        # Conid 1: open interest, and its strike of 645 dollars, which the split makes 92.14 (OCC).
        ("2014-06-05 17:00", []),
        ("2014-06-05 18:00", [{"open_interest": None, "strike_adj": 645.0}]),
        ("2014-06-06 10:00", [{"open_interest": 10, "strike_adj": 645.0}]),
        ("2014-06-09 17:00", [{"open_interest": 10, "strike_adj": 645.0}]),
        ("2014-06-09 18:00", [{"open_interest": 10, "strike_adj": 92.14}]),
    ],
)
def test_sql_as_of_answers_with_what_was_known(chainlake: Command, moment: str, row: list[dict[str, object]]) -> None:
    statement = f"select open_interest, strike_adj from clean.daily_adjusted where conid = 1 and trade_date = '{DAY}'"
    code, printed = chainlake("sql", statement, "--as-of", moment, "--json")
    assert code == 0, printed
    assert json.loads(printed) == row


def test_sql_as_of_another_time_is_wrong_usage(chainlake: Command) -> None:
    code, printed = chainlake("sql", "select 1", "--as-of", "2014-04-10 17:29")
    assert (code, printed.count("\n")) == (2, 1)
    assert "the earliest instant that can be answered is 2014-04-10 17:30 New York" in printed


def test_a_day_that_was_never_published_cannot_be_reproduced(published: Published) -> None:
    with pytest.raises(UsageError, match=f"{NEXT} was never published"):
        reproduce(published.context, published.lake, NEXT)


def test_a_day_whose_raw_files_are_gone_is_refused_in_a_line(published: Published) -> None:
    files = Path(published.lake.uri("raw/option_quotes")) / f"trade_date={DAY}"
    aside = files.rename(published.folder / "aside")
    try:
        with pytest.raises(LakeError, match=f"raw/option_quotes of {DAY} at version .* is gone"):
            reproduce(published.context, published.lake, DAY)
    finally:
        aside.rename(files)


@pytest.fixture
def copied(published: Published, tmp_path: Path) -> Published:
    """A copy of the lake and its two files, which a test may change."""
    shutil.copytree(published.lake.root, tmp_path / "lake")
    shutil.copytree(published.folder / "config", tmp_path / "config")
    reference = {"corporate_actions": tmp_path / "config" / "corporate_actions.csv"}
    settings = published.context.settings.model_copy(
        update={
            "lake": LakeSettings(root=str(tmp_path / "lake")),
            "reference": published.context.settings.reference.model_copy(update=reference),
        }
    )
    return Published(Lake.open(tmp_path / "lake"), replace(published.context, settings=settings), tmp_path)


def test_a_day_that_was_retired_and_then_restated_is_held_against_what_built_it(copied: Published) -> None:
    """Vacuum comes a week after retention: until then the day can still be rebuilt."""
    lake, restated_again = copied.lake, RESTATED + timedelta(days=58)
    retired = run_retention(MaintenanceContext(lake, copied.context.settings, restated_again, clock_is_right=True)).rows
    assert [(row["table"], row["trade_date"]) for row in retired] == [
        (name, str(DAY)) for name in ("raw/option_quotes", "raw/underlying_quotes", "clean/intraday")
    ]
    write_seeds(copied.folder / "config", ["AAPL", "MSFT"], [SPLIT, {**SPLIT, "symbol": "MSFT", "ratio_new": 2}])
    copied.roll_up(None, restated_again)
    with reader(lake) as reads:
        last = reads.rows("ops/published", f"trade_date = date '{DAY}' order by published_at desc limit 1")[0]
        assert not reads.rows("clean/intraday", f"trade_date = date '{DAY}'")
    assert (last["published_at"], last["status"]) == (restated_again, "passed")

    result = reproduce(copied.context, lake, DAY)

    assert {each.table: (each.only_published, each.only_rebuilt) for each in result.tables} == dict.fromkeys(
        MODELLED, (0, 0)
    )
    assert (result.equal, result.built_at, result.published_at) == (True, FILLED, restated_again)
    rows = {each.table: each.rows for each in result.tables}
    assert (rows["clean/intraday"], rows["clean/daily_adjusted"]) == (9, 3)
    (intraday,) = [each for each in result.tables if each.table == "clean/intraday"]
    assert intraday.version < last["versions"]["clean/intraday"]


def test_a_planted_difference_is_shown(
    published: Published, connection: duckdb.DuckDBPyConnection, chainlake: Command
) -> None:
    """The last test: it publishes a day with one ask changed, one row doubled and other actions."""
    lake, name = published.lake, "clean/daily_clean"
    daily = pl.from_arrow(
        connection.execute(f"from delta_scan('{lake.uri(name)}') where trade_date = date '{DAY}'").to_arrow_table()
    )
    assert isinstance(daily, pl.DataFrame)
    changed = daily.with_columns(ask=pl.when(pl.col("conid") == 2).then(9.9).otherwise(pl.col("ask")))
    planted = pl.concat([changed, changed.filter(pl.col("conid") == 4)]).to_arrow()
    lake.replace_dates(name, planted.to_reader, [DAY])
    ((last,),) = connection.execute(
        f"select versions from delta_scan('{lake.uri('ops/published')}') where trade_date = date '{DAY}' "
        "order by published_at desc limit 1"
    ).fetchall()
    row = {
        "trade_date": DAY,
        "published_at": new_york(EX_DATE, time(18)),
        "status": "passed",
        "versions": list({**last, name: lake.version(name)}.items()),
        "code_version": "0.0.1",
        "actions_hash": "other",
        "run_id": "planted",
    }
    assert lake.append("ops/published", [row], "planted", 1)

    code, printed = chainlake("reproduce", "--date", str(DAY), "--json")

    assert code == 1, printed
    result = json.loads(printed)
    assert (result["equal"], result["same_actions"], result["code_then"]) == (False, False, "0.0.1")
    assert result["same_code"] is False
    assert {each["table"]: (each["only_published"], each["only_rebuilt"]) for each in result["tables"]} == {
        **dict.fromkeys(MODELLED, (0, 0)),
        name: (2, 1),
    }
    (found,) = [each for each in result["tables"] if each["table"] == name]
    assert found["columns"] == {"ask": 1}
    assert found["examples"] == [
        {"side": "published", "conid": 2, "ask": 9.9},
        {"side": "rebuilt", "conid": 2, "ask": 1.1},
        {"side": "published", "conid": 4, "ask": 1.1},
    ]
