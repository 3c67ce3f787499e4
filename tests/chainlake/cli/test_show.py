"""What is printed: whole, as it is, and nothing that a terminal would obey."""

import io

import polars as pl
import pytest
from rich.console import Console

from chainlake.cli.terminal import show

WIDE = pl.DataFrame({f"column_{number}": [f"value {number}", "x" * 30] for number in range(20)})


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> io.StringIO:
    """What goes to a terminal of 80 columns, or into a pipe where the test says so."""
    file = io.StringIO()
    terminal = getattr(request, "param", True)
    console = Console(file=file, force_terminal=terminal, width=80, color_system=None, markup=False, emoji=False)
    monkeypatch.setattr(show, "out", console)
    return file


@pytest.mark.parametrize("printed", [False], indirect=True)
def test_a_pipe_gets_every_value_whole_and_a_row_a_line(printed: io.StringIO) -> None:
    show.table(WIDE, "wide")
    lines = printed.getvalue().splitlines()
    (row,) = [line for line in lines if "value 0" in line]
    assert all(f"value {number} " in row for number in range(20))
    assert sum("x" * 30 in line for line in lines) == 1


def test_many_columns_are_printed_value_by_value_on_a_narrow_terminal(printed: io.StringIO) -> None:
    show.table(WIDE, "wide")
    lines = printed.getvalue().splitlines()
    assert "column_7   value 7" in lines
    assert lines.count(f"column_19  {'x' * 30}") == 1
    assert max(map(len, lines)) <= 80


def test_a_long_text_is_folded_not_cut(printed: io.StringIO) -> None:
    words = " ".join(f"word{number}" for number in range(60))
    show.table(pl.DataFrame({"conid": [7], "message": [words]}))
    shown = printed.getvalue()
    assert "…" not in shown
    assert [word for word in words.split() if word not in shown] == []


@pytest.mark.parametrize("text", ["[/x]", "[red]42[/red]", ":smile:", "[link=http://a]b", "a\x1b[2Jb"])
def test_text_is_no_markup_and_no_command(printed: io.StringIO, text: str) -> None:
    seen = text.replace("\x1b", r"\x1b")
    show.table(pl.DataFrame({text: [text]}), seen)
    show.line(text)
    assert printed.getvalue().count(seen) == 4
    assert "\x1b[2J" not in printed.getvalue()


def test_json_is_whole_and_plain(printed: io.StringIO) -> None:
    show.as_json({"a": "[/]\x9b" + "y" * 200})
    assert "[/]\\u009b" + "y" * 200 in printed.getvalue()
