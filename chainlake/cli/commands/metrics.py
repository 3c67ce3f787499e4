"""The command metrics: the state of the lake and of the day for Prometheus."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import chainlake.metrics
from chainlake.cli import options as o
from chainlake.cli.terminal import show
from flows.loopback import holder, is_taken
from ingest.errors import UsageError
from lake.store import Lake

PORT = 9464
# Not in config/: dbt takes the YAML files of a folder of seeds for its own.
FOLDER = Path(chainlake.metrics.__file__).parent
SHIPPED = {"board": FOLDER / "grafana.json", "alerts": FOLDER / "prometheus-alerts.yaml"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(metrics)


@o.command
def metrics(
    given: o.Given,
    output: Annotated[
        Path | None, typer.Option("--output", help="File to replace, for node_exporter's textfile collector: *.prom.")
    ] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Serve on 127.0.0.1 until stopped.")] = False,
    port: Annotated[int, typer.Option(help="Port of --serve.", min=1, max=65535)] = PORT,
    at: Annotated[
        str | None, typer.Option("--at", help="As of '2026-11-20 17:30', New York time; default: now.")
    ] = None,
    shipped: Annotated[
        str | None, typer.Option("--print", help="Print a file for Prometheus instead: board (Grafana) or alerts.")
    ] = None,
) -> None:
    """Say how lake and day are, for Prometheus: `chainlake metrics --output /var/lib/node_exporter/chainlake.prom`.

    Slots due, captured and missed, contracts, errors, incidents, publications, tables and disks. Reads only.
    """
    if shipped is not None:
        sys.stdout.write(_shipped(shipped))
        return
    if serve and output:
        raise UsageError("--serve and --output: choose one")
    if output and output.suffix != ".prom":
        raise UsageError(f"--output {output}: give it the ending .prom, as node_exporter reads no other")
    if output and not output.parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {output.parent}")
    # prometheus_client is loaded when it is wanted.
    from chainlake.metrics import exposition

    settings = given.settings()
    instant = o.instant_from("--at", at) if at else None
    collector = exposition.LakeCollector(settings, Lake.open(settings.lake.root), instant)
    if output:
        exposition.write_textfile(collector, output)
    elif not serve:
        sys.stdout.write(exposition.as_text(collector))
    elif is_taken(port):
        raise UsageError(f"port {port} of 127.0.0.1 is taken by {holder(port)}: choose another --port")
    else:
        where = f"http://127.0.0.1:{port}/metrics"
        exposition.serve(collector, port, lambda: show.line(f"{where} serves {settings.lake.root}; Ctrl-C ends it"))


def _shipped(name: str) -> str:
    if name not in SHIPPED:
        raise UsageError(f"--print {name!r}: use {' or '.join(SHIPPED)}")
    return SHIPPED[name].read_text(encoding="utf-8")
