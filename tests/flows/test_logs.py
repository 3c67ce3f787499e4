"""Log files: whole lines from many processes, the New York day of each record, and what ends a process."""

import json
import logging
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chainlake.ops.monitoring.errorlog import error_log, lines_of
from flows.logs import DailyFile
from tests.chainlake.ops.monitoring.conftest import DAY

WRITERS, LINES = 4, 300
WRITER = """
import logging, sys
from pathlib import Path
import structlog
from flows.logs import configure
configure(Path(sys.argv[1]), verbose=False)
logging.getLogger().handlers = [h for h in logging.getLogger().handlers if "DailyFile" in type(h).__name__]
log = structlog.get_logger("ingest.test")
for number in range(int(sys.argv[3])):
    log.warning("line", writer=sys.argv[2], number=number, filling="x" * 9000)
    log.info("quiet", writer=sys.argv[2])
"""
FAILING = """
import sys
from pathlib import Path
from flows.logs import configure
configure(Path(sys.argv[1]), verbose=False)
raise RuntimeError("nobody expected this")
"""
LOGGING_AN_ERROR = """
import sys
from pathlib import Path
import structlog
from flows.logs import configure
configure(Path(sys.argv[1]), verbose=False)
def fail():
    password = "".join(["hun", "ter2"])
    raise RuntimeError("nobody expected this")
try:
    fail()
except RuntimeError:
    structlog.get_logger("flows.test").exception("went_wrong")
"""
BESIDE_ANOTHER = """
import logging, sys
from pathlib import Path
import structlog
from flows.logs import add_files
logging.basicConfig(format="%(name)s %(message)s")
add_files(Path(sys.argv[1]))
structlog.get_logger("ingest.test").info("batch_captured", slot="10:00", failed=0)
"""


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of its own."""
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True)


def test_lines_of_many_processes_do_not_interleave(tmp_path: Path) -> None:
    writers = [python(WRITER, str(tmp_path), str(number), str(LINES)) for number in range(WRITERS)]
    assert [writer.wait(timeout=120) for writer in writers] == [0] * WRITERS
    (file,) = (tmp_path / "run_logs" / "errors").iterdir()
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(records) == WRITERS * LINES, "warnings only, each once"
    for writer in range(WRITERS):
        assert [each["number"] for each in records if each["writer"] == str(writer)] == list(range(LINES))
    assert {len(each["filling"]) for each in records} == {9000}
    (whole,) = (tmp_path / "run_logs").glob("chainlake_*.jsonl")
    assert len(whole.read_text().splitlines()) == 2 * WRITERS * LINES


@pytest.mark.parametrize(
    ("instant", "name"),
    [
        ("2026-11-21T04:59:59", "errors_20261120.log"),
        ("2026-11-21T05:00:01", "errors_20261121.log"),
        # Daylight saving time ends on 1 November 2026, at 06:00 UTC.
        ("2026-11-01T03:59:59", "errors_20261031.log"),
        ("2026-11-02T04:59:59", "errors_20261101.log"),
    ],
)
def test_a_record_stands_in_the_file_of_its_new_york_day(tmp_path: Path, instant: str, name: str) -> None:
    handler = DailyFile(tmp_path, "errors", ".log")
    record = logging.LogRecord("ingest", logging.WARNING, "x.py", 1, "words", None, None)
    record.created = datetime.fromisoformat(instant).replace(tzinfo=UTC).timestamp()
    handler.handle(record)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_one_handler_goes_on_in_the_next_day_and_after_its_file_was_taken_away(tmp_path: Path) -> None:
    handler = DailyFile(tmp_path, "errors", ".log")
    record = logging.LogRecord("ingest", logging.WARNING, "x.py", 1, "words", None, None)
    for day in (20, 20, 21):
        record.created = datetime(2026, 11, day, 17, tzinfo=UTC).timestamp()
        handler.handle(record)
    assert {path.name: len(path.read_text().splitlines()) for path in tmp_path.iterdir()} == {
        "errors_20261120.log": 2,
        "errors_20261121.log": 1,
    }
    (tmp_path / "errors_20261121.log").unlink()
    handler.handle(record)
    assert (tmp_path / "errors_20261121.log").exists()


def test_what_ends_a_process_stands_in_the_error_log_as_one_line_and_on_the_terminal(tmp_path: Path) -> None:
    process = python(FAILING, str(tmp_path))
    _, terminal = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "RuntimeError: nobody expected this" in terminal
    (file,) = (tmp_path / "run_logs" / "errors").iterdir()
    (line,) = lines_of(file)
    assert (line.level, line.unhandled) == ("critical", True)
    assert "nobody expected this" in line.text


def test_an_exception_is_told_without_the_values_of_variables(tmp_path: Path) -> None:
    process = python(LOGGING_AN_ERROR, str(tmp_path))
    _, told = process.communicate(timeout=60)
    written = "".join(file.read_text() for file in tmp_path.rglob("*") if file.is_file())
    for words in (told, written):
        assert "RuntimeError: nobody expected this" in words
        assert "hunter2" not in words


def test_handlers_of_others_show_events_as_words(tmp_path: Path) -> None:
    """As Prefect's do, which has set up the process before `add_files`."""
    process = python(BESIDE_ANOTHER, str(tmp_path))
    _, told = process.communicate(timeout=60)
    assert told == "ingest.test batch_captured slot=10:00 failed=0\n"
    (file,) = (tmp_path / "run_logs").glob("chainlake_*.jsonl")
    assert json.loads(file.read_text())["slot"] == "10:00"


def test_the_error_log_of_a_day_is_where_the_requirements_say() -> None:
    assert error_log(Path("state"), DAY) == Path("state/run_logs/errors/errors_20261120.log")
