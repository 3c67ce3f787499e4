"""Processes of our own, which end with the block that starts them."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

STOP_S = 20


@asynccontextmanager
async def child(
    *arguments: str, log: Path | None = None, variables: Mapping[str, str] | None = None
) -> AsyncIterator["subprocess.Popen[Any]"]:
    """Python with `arguments`, in this environment and `variables`: terminated at the end, killed `STOP_S` later.

    Its output is appended to `log`, and by default goes to where this process writes.
    """
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") if log else contextlib.nullcontext() as output:
        process = subprocess.Popen(  # noqa: S603, ASYNC220 - our own interpreter
            [sys.executable, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(variables or {})},
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, STOP_S)
        process.kill()
