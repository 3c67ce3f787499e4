"""The command mcp: a read-only server for assistants."""

from importlib.util import find_spec
from typing import Annotated

import typer

from chainlake.cli import options as o
from chainlake.cli.terminal import show
from flows.loopback import holder, is_taken
from ingest.errors import UsageError
from ingest.settings import load

PORT = 8765


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(mcp)


@o.command
def mcp(
    given: o.Given,
    http: Annotated[
        bool, typer.Option("--http", help="Serve on loopback HTTP instead of standard input and output.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of --http.", min=1, max=65535)] = PORT,
    timeout: Annotated[float, typer.Option(help="Seconds after which a question is stopped.", min=0.1)] = 30.0,
    memory: Annotated[str, typer.Option(help="Memory limit of a question.")] = "1GB",
) -> None:
    """Serve the lake to an assistant, read-only (MCP): `chainlake mcp --lake /data/lake`.

    An assistant starts this command itself and talks to it on standard input and output; docs/mcp.md has the
    configuration of two of them. Needs the extra: pip install "chainlake[mcp]".
    """
    if find_spec("mcp") is None:
        raise UsageError('the MCP library is not installed: pip install "chainlake[mcp]"')
    # Loaded when they are wanted: the library takes a second, which every other command would wait for.
    from chainlake.mcp.questions import Bounds, Questions
    from chainlake.mcp.server import build_server, serve_http, serve_stdio

    # Not `given.settings()`, which begins the log files of a state folder: an assistant starts this anywhere.
    settings = load(given.config, **({"lake": {"root": given.lake}} if given.lake else {}))
    bounds = Bounds(seconds=timeout, memory=memory)
    server = build_server(Questions(settings.lake.root, bounds, settings.maintenance.as_of_days))
    if not http:
        serve_stdio(server)
        return
    if is_taken(port):
        raise UsageError(f"port {port} of 127.0.0.1 is taken by {holder(port)}: choose another --port")
    show.line(f"http://127.0.0.1:{port}/mcp serves {settings.lake.root}; Ctrl-C ends it")
    serve_http(server, port)
