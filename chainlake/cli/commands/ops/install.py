"""``chainlake ops install``: services of this host for this installation."""

import os
import pwd
import sys
from pathlib import Path
from typing import Annotated

import typer

from chainlake.cli import options as o
from chainlake.cli.commands.ops.group import ops
from chainlake.cli.terminal import show
from chainlake.ops.install import environment_file
from chainlake.ops.install.files import folder, place
from chainlake.ops.install.installation import Mode, within
from chainlake.ops.install.plan import Installation, Manager, paths, plan, this_host
from flows.prefect_password import CLIENT, FILE, SERVER, password
from ingest.errors import UsageError


@ops.command("install")
def install(
    systemd: Annotated[bool, typer.Option("--systemd", help="Linux: units for systemd.")] = False,
    launchd: Annotated[bool, typer.Option("--launchd", help="macOS: property lists for launchd.")] = False,
    mode: Annotated[
        Mode, typer.Option(help="serve: all in one process; worker: a Prefect server and a worker.")
    ] = "serve",
    prefix: Annotated[
        Path, typer.Option("--prefix", help="Folder with config/, state/ and data/; default: this one.")
    ] = Path(),
    user: Annotated[
        str | None, typer.Option("--user", help="Make services of the host that run as this user; needs sudo.")
    ] = None,
    config: o.ConfigOption = None,
    json: o.JsonOption = False,
    dry_run: o.DryRunOption = False,
) -> None:
    """Write services for this installation's paths, and say the commands that start them.

    The file for secrets is made once, for its owner only. What it holds is kept; a password for Prefect is added.
    """
    if systemd == launchd:
        raise UsageError("say which: --systemd (Linux) or --launchd (macOS)")
    manager: Manager = "systemd" if systemd else "launchd"
    if not dry_run and (sys.platform == "darwin") != launchd:
        raise UsageError(f"{manager} does not run this host: add --dry-run to see the files")
    host = this_host(user)
    installation = plan(manager, mode, paths(manager, within(Path.cwd(), prefix), config, user, host), host)
    outcomes = {} if dry_run else _write(installation, manager)
    result = {
        "files": [
            {"path": str(file.path), "mode": f"{file.mode:04o}", "result": outcomes.get(file.path, "not written")}
            | ({"text": file.text} if dry_run else {})
            for file in installation.files
        ],
        "next": list(installation.next_commands),
    }
    o.print_result(result, json, lambda: _print_installation(installation, outcomes))


def _write(installation: Installation, manager: Manager) -> dict[Path, str]:
    for path in installation.folders:
        folder(path, installation.owner)
    outcomes: dict[Path, str] = {}
    secrets = installation.paths.environment_file
    for file in installation.files:
        # systemd reads the file as root; on macOS the user's own process does.
        owner = installation.owner if file.path == secrets and manager == "launchd" else None
        if file.path == secrets:
            folder(secrets.parent, owner)
        outcomes[file.path] = place(file, owner)
    if _share_password(installation):
        outcomes[secrets] = f"{outcomes[secrets]}, with a password for Prefect"
    return outcomes


def _share_password(installation: Installation) -> bool:
    """Give the services the password of the state folder; or that folder theirs, as commands by hand look there."""
    secrets, state = installation.paths.environment_file, installation.paths.state
    known = environment_file.read(secrets)
    theirs = known.get(CLIENT) or known.get(SERVER)
    ours = password(state, theirs)
    if installation.owner:
        # The folder is that user's, who may have put a link there meanwhile.
        os.chown(state / FILE, pwd.getpwnam(installation.owner).pw_uid, -1, follow_symlinks=False)
    return environment_file.add_password(secrets, theirs or ours)


def _print_installation(installation: Installation, outcomes: dict[Path, str]) -> None:
    for file in installation.files:
        if outcomes:
            _print(f"{outcomes[file.path]:9} {file.path}")
        else:
            _print(
                f"# {file.path}  (mode {file.mode:04o}{', kept where it is there' if file.keep else ''})\n{file.text}"
            )
    if installation.paths.config is None:
        _print(f"There is no {installation.paths.work}/config/chainlake.toml: `chainlake init` writes one to edit.")
    _print(f"\nAlert URLs and other secrets belong into {installation.paths.environment_file}. Then:")
    for command in installation.next_commands:
        _print(f"  {command}")


def _print(text: str) -> None:
    show.out.print(text, soft_wrap=True)
