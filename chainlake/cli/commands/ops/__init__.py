"""``chainlake ops …``: what the person on duty, and the one who installs, need."""

import typer

ops = typer.Typer(
    name="ops",
    help="On duty: incidents and alerts; and setting up Prefect and the services.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    # Here, as they add their commands to the group above.
    from chainlake.cli.commands.ops import incidents, install, service  # noqa: F401

    service.register(app)
    app.add_typer(ops, name="ops")
