"""Gateways, started as a user starts them: by the command, in a process of their own."""

import json
import re
import socket
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

REPOSITORY = Path(__file__).resolve().parents[2]
COMMANDS = REPOSITORY / ".venv" / "bin"
HOST = "127.0.0.1"
_PORTS = re.compile(r" on 127\.0\.0\.1:(\d+), control port (\d+)")
# A CSV file of a recorded day as the Parquet file that the gateway replays.
_TO_PARQUET = "import sys, polars; polars.read_csv(sys.argv[1], try_parse_dates=True).write_parquet(sys.argv[2])"


class Gateway:
    """A running ``chainlake gateway`` on free ports; ends with its `with` block."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._stack = ExitStack()
        self.port = 0
        self._control_port = 0

    def __enter__(self) -> Self:
        log = self._stack.enter_context(tempfile.TemporaryFile("w+"))
        command = [str(COMMANDS / "chainlake"), "gateway", "--port", "0", "--control-port", "0", *self._options]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=log, text=True)
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)
        assert process.stdout is not None
        line = self._stack.enter_context(process.stdout).readline()
        found = _PORTS.search(line)
        if found is None:
            process.wait(10)
            log.seek(0)
            said = line + log.read()
            self._stack.close()
            raise RuntimeError(f"no gateway by {' '.join(command)}: {said}")
        self.port, self._control_port = int(found[1]), int(found[2])
        return self

    def __exit__(self, *reason: object) -> None:
        self._stack.close()

    def control(self, **request: Any) -> dict[str, Any]:
        """Send one request to the control port, and return the answer."""
        with socket.create_connection((HOST, self._control_port), 10) as peer, peer.makefile("rw") as lines:
            lines.write(json.dumps(request) + "\n")
            lines.flush()
            answer: dict[str, Any] = json.loads(lines.readline())
        assert answer["ok"], answer
        return answer

    def set_clock(self, at: str) -> None:
        """Set the market clock to an instant in UTC, written as 2026-11-20T15:00:00Z."""
        self.control(op="set", at=at)

    def fault(self, name: str, /, **terms: Any) -> None:
        """Add a fault."""
        self.control(op="fault", fault={"fault": name, **terms})


def parquet_of(day: Path, folder: Path) -> Path:
    """The Parquet file of a day written as CSV; made by the main environment, since a client's has nothing for it."""
    file = folder / f"{day.stem}.parquet"
    subprocess.run([COMMANDS / "python", "-c", _TO_PARQUET, day, file], check=True)
    return file
