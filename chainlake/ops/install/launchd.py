"""launchd property lists. Pure: paths and jobs come in, files come out."""

import plistlib
from pathlib import Path
from typing import Any

from chainlake.ops.install.files import File
from chainlake.ops.install.installation import InstallPaths, Job

DAEMONS = Path("/Library/LaunchDaemons")
THROTTLE_S = 30
# macOS gives a program 256 open files.
OPEN_FILES = 65536
# What a service writes is its user's alone: Prefect's database lies beside its key.
UMASK = 0o077


def label(job: Job) -> str:
    """The name by which launchctl knows a job."""
    return f"org.{job.name.replace('-', '.')}"


def plists(paths: InstallPaths, wanted: list[Job], folder: Path) -> list[File]:
    """The property lists of `wanted` in `folder`."""
    return [File(folder / f"{label(job)}.plist", _text(_plist(paths, job))) for job in wanted]


def _text(plist: dict[str, Any]) -> str:
    return plistlib.dumps(plist, sort_keys=False).decode()


def _plist(paths: InstallPaths, job: Job) -> dict[str, Any]:
    logs = paths.state / "run_logs" / "services"
    # What the starter itself has to say, such as an environment file that is readable for others. Some lines at most.
    starter = str(logs / f"{job.name}.launchd.log")
    # launchd has no file for the environment and does not rotate logs; nothing secret belongs into its files.
    command = [
        paths.program("python"),
        *("-m", "chainlake.ops.install.run"),
        *("--environment-file", str(paths.environment_file)),
        *("--log", str(logs / f"{job.name}.log")),
        # A Mac that sleeps captures nothing. The look every ten minutes need not wake it.
        *([] if job.every_minutes else ["--awake"]),
        *("--", *job.command),
    ]
    plist: dict[str, Any] = {
        "Label": label(job),
        "ProgramArguments": command,
        "WorkingDirectory": str(paths.work),
        "EnvironmentVariables": paths.environment,
        "StandardOutPath": starter,
        "StandardErrorPath": starter,
        "ExitTimeOut": job.stop_s,
        "Umask": UMASK,
        "SoftResourceLimits": {"NumberOfFiles": OPEN_FILES},
    }
    if paths.user:
        plist["UserName"] = paths.user
    if job.every_minutes:
        plist["StartInterval"] = job.every_minutes * 60
    else:
        # launchd has no order of jobs and no growing delays: a worker without a server ends, and is started again.
        plist |= {"RunAtLoad": True, "KeepAlive": True, "ThrottleInterval": THROTTLE_S}
    return plist
