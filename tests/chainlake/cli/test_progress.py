"""What a person sees while a slot is captured: bars on a terminal, and nothing where there is none."""

import logging
import math
import re
import sys
from datetime import date
from io import StringIO

import pytest
from rich.console import Console

from chainlake.cli.terminal.progress import SlotProgress, slot_progress
from ingest.calendar.sessions import session_on
from ingest.capture import Failure, Outcome, QuoteRequest
from ingest.contracts import OptionContract

DAY = session_on(date(2026, 11, 20))
assert DAY is not None
BELL = DAY.slots[0].sample_time
CONTRACT = OptionContract(
    1, "AAPL", "AAPL  261218C00250000", "AAPL", date(2026, 12, 18), date(2026, 12, 18), "C", 250.0, 100.0, "SMART"
)
REQUEST = QuoteRequest(CONTRACT, "101", lambda quote, elapsed: True)
ANSWERED = Outcome(REQUEST, BELL, None, None, None, 0.2, 1)
LOST = Outcome(REQUEST, BELL, None, None, Failure("disconnected", "lost"), 0.2, 1)


def drawn(console: Console, progress: SlotProgress) -> list[str]:
    """The lines of the bars as they stand, without colours and bars."""
    assert isinstance(console.file, StringIO)
    # Its own thread draws ten times a second.
    with progress._progress.live._lock:
        console.file.truncate(0)
        progress._progress.refresh()
        written = console.file.getvalue()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written).replace("\r", "\n")
    return [re.sub(r"[━╸╺\s]+", " ", line).strip() for line in plain.splitlines() if line.strip("\0 ")]


def terminal() -> Console:
    return Console(file=StringIO(), force_terminal=True, width=120)


def test_the_bars_tell_what_is_done_failed_and_left_and_count_a_batch_that_is_handed_over_once() -> None:
    console = terminal()
    with slot_progress("slot 09:30", console) as progress:
        progress.slot_began({"01-top": 10, "02-energy": 5}, lambda: 1685.4, lambda: 49.0)
        progress.batch_began("01-top", "one:4001", 10)
        progress.batch_began("02-energy", "two:4001", 5)
        for _ in range(4):
            progress.settled("01-top", ANSWERED)
        progress.settled("01-top", LOST)
        slot, first, second = drawn(console, progress)
        assert slot.startswith("slot 09:30 5/15 ")
        assert slot.endswith("of 49.0/s, 1 failed, window ends in 28:05")
        assert first.startswith("01-top 5/10 ")
        assert first.endswith("one:4001")
        assert second.startswith("02-energy 0/5 ")
        # five were never asked, and the one that was lost is asked once more
        progress.batch_ended("01-top")
        progress.batch_began("01-top", "two:4001", 6)
        slot, _, again = drawn(console, progress)
        assert slot.startswith("slot 09:30 5/16 ")
        assert again.startswith("01-top 0/6 ")
        assert again.endswith("two:4001")


def test_a_clock_that_stands_still_has_no_end_of_the_window() -> None:
    console = terminal()
    with slot_progress("slot 09:30", console) as progress:
        progress.slot_began({"all": 3}, lambda: math.inf, lambda: 24.5)
        assert drawn(console, progress) == ["slot 09:30 0/3 0.0 of 24.5/s, 0 failed"]


def test_warnings_go_above_the_bars_and_to_stderr_again_afterwards() -> None:
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    try:
        console = terminal()
        with slot_progress("slot 09:30", console):
            logging.getLogger("elsewhere").warning("gateway_lost")
        assert "gateway_lost\n" in str(console.file.getvalue())  # type: ignore[attr-defined]
        assert handler.stream is sys.stderr
    finally:
        logging.getLogger().removeHandler(handler)


def test_without_a_terminal_nothing_is_drawn(capfd: pytest.CaptureFixture[str]) -> None:
    console = Console(file=StringIO(), force_terminal=False)
    with slot_progress("slot 09:30", console) as progress:
        progress.slot_began({"all": 1}, lambda: 1.0, lambda: 1.0)
        progress.batch_began("all", "one:4001", 1)
        progress.settled("all", ANSWERED)
        progress.batch_ended("all")
    assert console.file.getvalue().strip() == ""  # type: ignore[attr-defined]
    assert capfd.readouterr() == ("", "")
