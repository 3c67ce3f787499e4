"""A step that is at work can be seen, and one that was killed cannot."""

import subprocess
import sys
from pathlib import Path

from flows.active_steps import active_step, active_steps, step_key
from tests.chainlake.ops.monitoring.conftest import DAY

AT_WORK = """
import sys
from datetime import date
from pathlib import Path
from flows.active_steps import active_step
with active_step(Path(sys.argv[1]), "snapshot", date(2026, 11, 20), 3):
    print("at work", flush=True)
    sys.stdin.read()
"""


def test_a_step_is_seen_while_it_works(tmp_path: Path) -> None:
    assert active_steps(tmp_path) == set()
    with active_step(tmp_path, "snapshot", DAY, 3), active_step(tmp_path, "discover", DAY):
        assert active_steps(tmp_path) == {step_key("snapshot", DAY, 3), step_key("discover", DAY)}
    assert active_steps(tmp_path) == set()


def test_two_of_a_kind_are_seen_until_the_last_has_ended(tmp_path: Path) -> None:
    with active_step(tmp_path, "snapshot", DAY, 3):
        with active_step(tmp_path, "snapshot", DAY, 3):
            pass
        with active_step(tmp_path, "snapshot", DAY, 3):
            assert active_steps(tmp_path) == {step_key("snapshot", DAY, 3)}


def test_a_step_that_was_killed_is_not_seen(tmp_path: Path) -> None:
    command = [sys.executable, "-c", AT_WORK, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    assert active_steps(tmp_path) == {step_key("snapshot", DAY, 3)}
    process.kill()
    process.wait()
    assert active_steps(tmp_path) == set()
    assert list((tmp_path / "active_steps").iterdir()) == []
