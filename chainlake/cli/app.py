"""The application: its commands, and how failures become one line and an exit code."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import structlog
import typer
from rich.text import Text

from chainlake.cli.commands import (
    backup,
    capacity,
    capture,
    doctor,
    export,
    gate,
    gateway,
    maintenance,
    mcp,
    metrics,
    ops,
    probe_history,
    quality,
    schedule,
    start,
    stored,
)
from chainlake.cli.terminal import show
from flows.loopback import no_proxy
from flows.models import InputRefused, ModelError
from ingest.errors import ChainlakeError, UsageError
from lake.code_version import code_version
from lake.errors import LakeError, LakeMissing, NewerSchema, OriginMismatch, QueryRefused, UnusableRoot
from lake.text import printable

log = structlog.get_logger(__name__)

USAGE = (InputRefused, LakeMissing, NewerSchema, OriginMismatch, QueryRefused, UnusableRoot)


def _show_version(wanted: bool) -> None:
    if wanted:
        show.line(f"chainlake {code_version()}")
        raise typer.Exit


app = typer.Typer(
    name="chainlake",
    help="Records the option chain that Interactive Brokers shows today, because the broker does not keep it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    shown: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and exit.")
    ] = False,
) -> None:
    """Options of the program itself."""


for module in (
    start,
    gateway,
    capture,
    stored,
    export,
    mcp,
    metrics,
    capacity,
    probe_history,
    maintenance,
    backup,
    quality,
    gate,
    doctor,
    schedule,
    ops,
):
    module.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script; `arguments` None: those of the process.

    Exit codes: 0 done, 1 failure, 2 wrong usage, 3 broker not reached.
    """
    os.environ.update(no_proxy(os.environ))
    try:
        app(arguments, prog_name=None if arguments is None else "chainlake")
    except ChainlakeError as error:
        fail(str(error), error.exit_code)
    except USAGE as error:
        fail(str(error), UsageError.exit_code)
    except (LakeError, ModelError) as error:
        fail(str(error), 1)
    except OSError as error:
        # A full disk, a folder without write permission, a file that vanished: the message names the file.
        fail(f"{error}: nothing that was committed is lost; fix it and run the same command again", 1)
    except KeyboardInterrupt:
        fail("stopped; run the same command again to go on", 130)
    except BaseException as error:
        # What no code expected of Delta or DuckDB: one line all the same, and the log has the rest.
        storage = sys.modules.get("lake.storage")
        if storage is None or not storage.is_native(error):
            raise
        log.info("storage_engine_failed", exc_info=True)
        fail(
            f"the lake could not be read or written: {storage.plain(error)}; `chainlake doctor` looks at each table", 1
        )


def fail(message: str, code: int) -> None:
    """Say what was wrong in one line and exit with `code`."""
    show.err.print(Text.assemble(("chainlake:", "bold red"), " ", printable(" ".join(message.split()))), soft_wrap=True)
    sys.exit(code)
