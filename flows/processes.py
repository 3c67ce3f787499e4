"""Processes of our own, which end with the block that starts them, also when SIGTERM ends that."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from ingest.errors import ChainlakeError

STOP_S = 20


class Terminated(ChainlakeError):
    """SIGTERM has ended the work; everything that it had started has ended too."""

    exit_code = 128 + signal.SIGTERM


@contextmanager
def ended_by_sigterm(stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Let SIGTERM cancel the task of the block, so that it ends what it has started. Raises Terminated then.

    `stop` is asked first: it says whether it has begun to end the block by itself. For the main thread.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    cancelled = False

    def on_signal() -> None:
        nonlocal cancelled
        if not cancelled and not stop():
            cancelled = True
            task.cancel()

    loop.add_signal_handler(signal.SIGTERM, on_signal)
    try:
        yield
    except asyncio.CancelledError:
        if not cancelled:
            raise
        raise Terminated("ended by SIGTERM; run the same command again to go on") from None
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


@asynccontextmanager
async def child(
    *arguments: str,
    log: Path | None = None,
    variables: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> AsyncIterator["subprocess.Popen[Any]"]:
    """Python with `arguments`, in this environment and `variables`: terminated at the end, killed `STOP_S` later.

    Its output is appended to `log`, and by default goes to where this process writes; `on_line` gets each line of that.
    """
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") if log else contextlib.nullcontext(subprocess.PIPE if on_line else None) as output:
        process = subprocess.Popen(  # noqa: S603, ASYNC220 - our own interpreter
            [sys.executable, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(variables or {})},
            text=True,
            errors="replace",
        )
    if process.stdout and on_line:
        threading.Thread(target=_pass_on, args=(process.stdout, on_line), daemon=True).start()
    try:
        yield process
    finally:
        process.terminate()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, STOP_S)
        finally:
            process.kill()


def _pass_on(lines: Iterator[str], on_line: Callable[[str], None]) -> None:
    for line in lines:
        on_line(line)
        # Whoever read our output may be gone: the child must not come to wait for a pipe that nobody empties.
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write(line)
            sys.stdout.flush()
