"""The command line, `chainlake`. It needs no Prefect server."""

import sys

from ingest.errors import UsageError

try:
    from chainlake.cli.app import main
except UsageError as error:
    # An environment that nothing can run in: with both client libraries of IB, or with neither.
    print(f"chainlake: {error}", file=sys.stderr)  # noqa: T201
    sys.exit(UsageError.exit_code)

__all__ = ["main"]
