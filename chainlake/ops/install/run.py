"""Starts a service on macOS: ``python -m chainlake.ops.install.run --environment-file FILE --log FILE -- PROGRAM …``.

launchd does without three things that systemd has: a file for the environment, logs that rotate, and a word against
sleep. The program is a child: its output goes through a rotating log, and signals go to it.
"""

import argparse
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType
from typing import IO

from chainlake.ops.install.environment_file import read
from flows.loopback import no_proxy
from ingest.errors import UsageError

LOG_BYTES = 10_000_000
LOGS_KEPT = 5
# Flows that outlive the program hold its output open; they are not waited for.
OUTPUT_S = 5


def main() -> int:
    """Run the program to its end. Returns its exit code, 128 + n for signal n, 2 for a wrong environment file."""
    parser = argparse.ArgumentParser(prog="python -m chainlake.ops.install.run", description=__doc__)
    parser.add_argument("--environment-file", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--awake", action="store_true", help="keep the Mac awake as long as the program runs")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    try:
        environment = {**os.environ, **read(given.environment_file)}
        environment |= no_proxy(environment)
    except UsageError as error:
        sys.stderr.write(f"chainlake: {error}\n")
        return error.exit_code
    return run(given.command, environment, given.log, given.awake)


def run(command: list[str], environment: dict[str, str], log: Path, awake: bool = False) -> int:
    """Run `command`, its output in `log`. SIGTERM and SIGINT are passed on to it."""
    child = subprocess.Popen(  # noqa: S603
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )

    def forward(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    caffeine = _stay_awake() if awake else None
    assert child.stdout is not None
    copying = threading.Thread(target=_copy, args=(child.stdout, log), daemon=True)
    copying.start()
    code = child.wait()
    copying.join(OUTPUT_S)
    if caffeine:
        caffeine.terminate()
        caffeine.wait()
    return code if code >= 0 else 128 - code


def _stay_awake() -> "subprocess.Popen[bytes] | None":
    """Against idle sleep, and on mains power against any other, until this process ends. Not on other systems."""
    caffeinate = shutil.which("caffeinate")
    return subprocess.Popen([caffeinate, "-is", "-w", str(os.getpid())]) if caffeinate else None  # noqa: S603


def _copy(output: IO[bytes], log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(log, maxBytes=LOG_BYTES, backupCount=LOGS_KEPT, encoding="utf-8")
    for line in output:
        text = line.decode("utf-8", "replace").rstrip("\n")
        handler.emit(logging.LogRecord("service", logging.INFO, "", 0, text, None, None))


if __name__ == "__main__":
    sys.exit(main())
