"""``chainlake ops …``: what the operator, and the one who installs, need."""

import typer

from chainlake.cli.commands.ops import incidents, install, service
from chainlake.cli.commands.ops.group import ops

__all__ = ["incidents", "install", "register"]


def register(app: typer.Typer) -> None:
    """Add the group, and `serve` beside it."""
    service.register(app)
    app.add_typer(ops, name="ops")
