"""An installation, from what the user said and what the host is: the files it takes, and the commands that follow."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chainlake.ops.install import environment_file, launchd, systemd
from chainlake.ops.install.files import File
from chainlake.ops.install.installation import InstallPaths, Mode, jobs, local_lake, path_variables, within
from ingest.errors import UsageError
from ingest.settings import load
from lake.location import settings_file

Manager = Literal["systemd", "launchd"]


@dataclass(frozen=True, slots=True)
class Installation:
    """Files to write, folders to make, whose both are, and what to run afterwards."""

    paths: InstallPaths
    files: tuple[File, ...]
    folders: tuple[Path, ...]
    # Of the environment file on macOS and of the folders; the unit files stay with who installs.
    owner: str | None
    next_commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Host:
    """What of the host matters: homes, the user's id, and systemd's version."""

    home: Path
    config_home: Path
    uid: int
    systemd_version: int = 0


def this_host(user: str | None = None) -> Host:
    """The host that this runs on, as `user` (default: who runs this) has it. Raises UsageError for an unknown user."""
    import pwd

    if user is None:
        home = Path.home()
        config_home = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        return Host(home, config_home, os.getuid(), systemd.installed_version())
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise UsageError(f"--user {user}: there is no such user on this host; make it, or name another") from None
    home = Path(entry.pw_dir)
    return Host(home, home / ".config", entry.pw_uid, systemd.installed_version())


def paths(manager: Manager, work: Path, config: Path | None, user: str | None, host: Host) -> InstallPaths:
    """The paths of an installation. Raises UsageError for unreadable settings and unusable paths."""
    programs = Path(sys.prefix) / "bin"
    for name in ("python", "chainlake", "prefect"):
        if not (programs / name).exists():
            raise UsageError(f"there is no {name} in {programs}: run `make setup` in the checkout")
    if not work.is_dir():
        raise UsageError(f"--prefix {work}: there is no such folder; run `chainlake init {work}` first")
    named = config or settings_file(work)
    settings = load(named)
    folder = host.config_home / "chainlake"
    if user and manager == "systemd":
        # systemd reads it itself, before it becomes the user.
        folder = Path("/etc/chainlake")
    return InstallPaths(
        programs=programs,
        work=work,
        config=within(Path.cwd(), named) if named else None,
        state=within(work, settings.state.dir),
        lake=local_lake(settings, work),
        environment_file=folder / "chainlake.env",
        user=user,
        variables=path_variables(settings, work),
    )


def plan(manager: Manager, mode: Mode, at: InstallPaths, host: Host) -> Installation:
    """What installing takes. Pure."""
    secrets = File(
        at.environment_file, environment_file.template(at.environment_file), environment_file.PRIVATE, keep=True
    )
    wanted = jobs(at, mode)
    if manager == "systemd":
        folder = systemd.SYSTEM_UNITS if at.user else host.config_home / "systemd" / "user"
        files = systemd.units(at, wanted, folder, host.systemd_version)
        commands = _systemctl(at, mode, systemd.started(wanted))
    else:
        folder = launchd.DAEMONS if at.user else host.home / "Library" / "LaunchAgents"
        files = launchd.plists(at, wanted, folder)
        domain = "system" if at.user else f"gui/{host.uid}"
        commands = _launchctl(domain, mode, [str(file.path) for file in files])
    folders = [at.state, at.state / "run_logs" / "services", *([at.lake] if at.lake else [])]
    return Installation(at, (secrets, *files), tuple(folders), at.user, tuple(commands))


def _systemctl(at: InstallPaths, mode: Mode, units: list[str]) -> list[str]:
    systemctl = "sudo systemctl" if at.user else "systemctl --user"
    first, *others = units
    commands = [] if at.user else ["loginctl enable-linger"]
    commands += [f"{systemctl} daemon-reload", f"{systemctl} enable --now {first}"]
    return [*commands, *_then(mode), f"{systemctl} enable --now {' '.join(others)}", "chainlake doctor"]


def _launchctl(domain: str, mode: Mode, files: list[str]) -> list[str]:
    launchctl = "sudo launchctl" if domain == "system" else "launchctl"
    first, *others = [f"{launchctl} bootstrap {domain} '{file}'" for file in files]
    return [first, *_then(mode), *others, "chainlake doctor"]


def _then(mode: Mode) -> list[str]:
    # `chainlake serve` does it by itself.
    return ["chainlake ops bootstrap"] if mode == "worker" else []
