"""systemd units. The text is pure: paths, jobs and systemd's version come in, files come out."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from chainlake.ops.install.files import File
from chainlake.ops.install.installation import InstallPaths, Job

SYSTEM_UNITS = Path("/etc/systemd/system")
# From this version on, the time between restarts can grow (systemd's NEWS).
GROWING_DELAYS = 254

# Nothing of these needs a namespace, which a user's own manager often may not make.
FOR_ALL = ("NoNewPrivileges=yes", "LockPersonality=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes")
FOR_THE_HOST = (
    "ProtectSystem=strict",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "RestrictNamespaces=yes",
    "SystemCallArchitectures=native",
    "ProtectHostname=yes",
    "ProtectClock=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "CapabilityBoundingSet=",
)


def units(paths: InstallPaths, wanted: list[Job], folder: Path, version: int) -> list[File]:
    """The unit files of `wanted` in `folder`, as the systemd of `version` understands them."""
    return [file for job in wanted for file in _unit_files(paths, job, folder, version)]


def _unit_files(paths: InstallPaths, job: Job, folder: Path, version: int) -> Iterator[File]:
    yield File(folder / f"{job.name}.service", _text(_service(paths, job, version)))
    if job.every_minutes:
        yield File(folder / f"{job.name}.timer", _text(_timer(job)))


def started(wanted: list[Job]) -> list[str]:
    """The units to enable, in their order: of a job that runs every so often that is the timer."""
    return [f"{job.name}.timer" if job.every_minutes else f"{job.name}.service" for job in wanted]


def _service(paths: InstallPaths, job: Job, version: int) -> dict[str, list[str]]:
    unit = [f"Description={_literal(job.description)}"]
    if paths.user:
        unit += ["Wants=network-online.target", "After=network-online.target"]
    for name in job.after:
        # A server that restarts takes no worker with it: the worker asks again.
        unit += [f"Wants={name}.service", f"After={name}.service"]
    # `:` in front: a $ in a path is a $.
    command = " ".join(_quoted(word) for word in job.command)
    service = ["Type=oneshot" if job.every_minutes else "Type=exec", f"ExecStart=:{command}"]
    if job.every_minutes:
        service += ["TimeoutStartSec=300"]
    else:
        unit += [
            "# However often it fails: an outage of a whole night must not be the end of it.",
            "StartLimitIntervalSec=0",
        ]
        service += _restarts(version)
    service += [
        f"WorkingDirectory={_literal(paths.work)}",
        *(f"Environment={_quoted(f'{name}={value}')}" for name, value in paths.environment.items()),
        "# Read after the lines above, and wins over them.",
        f"EnvironmentFile={_literal(paths.environment_file)}",
        f"SyslogIdentifier={job.name}",
        "LimitNOFILE=65536",
        "# Prefect's database lies beside its key; the lake and the logs are this user's alone, too.",
        "UMask=0077",
        *_stop(job),
        *_hardening(paths),
    ]
    sections = {"Unit": unit, "Service": service}
    if not job.every_minutes:
        sections["Install"] = [f"WantedBy={'multi-user.target' if paths.user else 'default.target'}"]
    return sections


def _restarts(version: int) -> list[str]:
    lines = ["Restart=always", "# Wrong settings do not get better by trying again.", "RestartPreventExitStatus=2"]
    if version < GROWING_DELAYS:
        return [*lines, "RestartSec=20"]
    return [*lines, "RestartSec=5", "RestartSteps=6", "RestartMaxDelaySec=300"]


def _stop(job: Job) -> list[str]:
    return [
        "# The signal goes to the program alone, which ends its flows; they commit what they have answers of.",
        "KillMode=mixed",
        "KillSignal=SIGTERM",
        f"TimeoutStopSec={job.stop_s}",
    ]


def _hardening(paths: InstallPaths) -> list[str]:
    if not paths.user:
        return [*FOR_ALL]
    written = dict.fromkeys(str(path) for path in (paths.state, paths.lake) if path)
    return [
        f"User={_literal(paths.user)}",
        *FOR_ALL,
        *FOR_THE_HOST,
        "# All that it writes; the rest of the file system is read-only for it.",
        f"ReadWritePaths={' '.join(_quoted(path) for path in written)}",
    ]


def _timer(job: Job) -> dict[str, list[str]]:
    return {
        "Unit": [f"Description={_literal(job.description)}"],
        "Timer": [f"OnCalendar=*:0/{job.every_minutes}", "AccuracySec=30s"],
        "Install": ["WantedBy=timers.target"],
    }


def _text(sections: dict[str, list[str]]) -> str:
    parts = ["\n".join([f"[{name}]", *lines]) for name, lines in sections.items()]
    return (
        "# Made by `chainlake ops install`, which writes it again: changes belong into a drop-in (systemctl edit).\n"
        + ("\n\n".join(parts) + "\n")
    )


def _literal(value: object) -> str:
    """A value that systemd takes as it stands, but for its own specifiers."""
    return str(value).replace("%", "%%")


def _quoted(word: str) -> str:
    """One word of a list; `InstallPaths` has refused what quoting cannot carry."""
    return f'"{_literal(word)}"'


def installed_version() -> int:
    """The version of this host's systemd; 0 where there is none."""
    try:
        output = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S607
    except (OSError, subprocess.CalledProcessError):
        return 0
    number = re.match(r"systemd (\d+)", output)
    return int(number.group(1)) if number else 0
