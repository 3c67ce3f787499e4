"""The group ``chainlake ops``, to which each module of this folder adds its commands."""

import typer

ops = typer.Typer(
    name="ops",
    help="Operation: incidents and alerts, what is missing, and setting up Prefect and the services.",
    no_args_is_help=True,
)
