"""One key, one instrument: whatever corporate actions can be written into the file, or a line of it is refused."""

from collections import defaultdict
from datetime import date
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ingest.corporate_actions import wrong_lines
from tests.models.rows import LATER, Day, Row, write_seeds
from tests.second_engine.instruments import DATES, World, worlds
from tests.second_engine.lakes import Bench

SETTINGS = settings(
    deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck), derandomize=True
)


def many(number: int) -> st.SearchStrategy[list[World]]:
    return st.tuples(*(worlds(k) for k in range(number))).map(list)


@settings(SETTINGS, max_examples=2)
@given(made=many(60))
def test_a_key_stands_for_one_instrument(bench: Bench, made: list[World]) -> None:
    _keys_stay_apart(bench, made)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(SETTINGS, max_examples=20)
@given(made=many(250))
def test_a_key_stands_for_one_instrument_in_many_worlds(bench: Bench, made: list[World]) -> None:
    _keys_stay_apart(bench, made)


def _keys_stay_apart(bench: Bench, made: list[World]) -> None:
    accepted = [world for world in made if not _refused(bench.small.folder / "refused", world)]
    rows = _record(bench, accepted)
    assert bench.disagreements(DATES, LATER) == []
    keys: dict[str, set[int]] = defaultdict(set)
    histories: dict[int, set[str]] = defaultdict(set)
    for conid, key in bench.small.rows("select conid, adjusted_contract_key from clean.daily_adjusted"):
        keys[key].add(conid)
        histories[conid].add(key)
    assert len(histories) == len({row["conid"] for _, row, _ in rows})
    assert {key: conids for key, conids in keys.items() if len(conids) > 1} == {}
    # And a contract that stays in its series has one key over splits, dividends and changes of symbol.
    whole = {row["conid"] for _, row, _ in rows} - {row["conid"] for _, row, followed in rows if not followed}
    assert len(whole) > 100
    assert {conid: histories[conid] for conid in whole if len(histories[conid]) > 1} == {}
    assert bench.small.rows("select strike_adj from clean.daily_adjusted where strike_adj <= 0") == []


def _refused(folder: Path, world: World) -> bool:
    """Whether the lines of a world contradict each other; the wrong ones are named."""
    write_seeds(folder, actions=world.actions)
    lines = [wrong.line for wrong in wrong_lines(folder / "corporate_actions.csv")]
    assert set(lines) <= set(range(2, 2 + len(world.actions)))
    return bool(lines)


def _record(bench: Bench, accepted: list[World]) -> list[tuple[date, Row, bool]]:
    bench.fill({}, ["W000A"], [action for world in accepted for action in world.actions])
    conids = count(1)
    rows = [row for world in accepted for row in world.rows(conids)]
    for trade_date in DATES:
        day = Day(bench.small.lake, trade_date)
        listed = [row for when, row, _ in rows if when == trade_date]
        day.open(*listed)
        day.write("raw/option_quotes", [day.close_quote(row) for row in listed])
        symbols = sorted({row["underlying"] for row in listed})
        day.write("raw/underlying_quotes", [day.underlying(one, day.close_slot, view="close") for one in symbols])
        day.write("raw/open_interest", [day.open_interest(row, 10) for row in listed])
    return rows
