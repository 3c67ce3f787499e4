"""What an installation consists of: its paths, and the programs that run for it."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from flows.loopback import no_proxy
from flows.prefect_environment import API_URL, prefect_environment
from ingest.errors import UsageError
from ingest.settings import Settings
from lake.resources import SHIPPED

Mode = Literal["serve", "worker"]
WATCH_MINUTES = 10
# What systemd cannot take in every setting that holds a path: some are unquoted, and one is a file pattern.
UNQUOTABLE = frozenset("\\\"'*?[]")


@dataclass(frozen=True, slots=True)
class InstallPaths:
    """Where an installation is; absolute paths.

    `programs` is the environment's bin folder, `work` the folder with config/, state/ and data/ in which everything
    runs. With `user` the services are the host's and run as that user; without, they are those of who installs.
    `lake` is None for one in an object store.
    """

    programs: Path
    work: Path
    config: Path | None
    state: Path
    lake: Path | None
    environment_file: Path
    user: str | None = None
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in (self.programs, self.work, self.config, self.state, self.lake, self.environment_file):
            if path is not None:
                refuse_unquotable(path)

    def program(self, name: str) -> str:
        """A program of the environment."""
        return str(self.programs / name)

    @property
    def environment(self) -> dict[str, str]:
        """What every program gets: Prefect's part, and which settings are meant. Nothing in it is secret."""
        config = {"CHAINLAKE_CONFIG": str(self.config)} if self.config else {}
        # The spelling that an environment file has, so that what is excepted there is excepted.
        direct = {"NO_PROXY": no_proxy({})["NO_PROXY"]}
        return prefect_environment(self.state) | direct | config | self.variables


@dataclass(frozen=True, slots=True)
class Job:
    """A program that the host runs: for ever, or once every so many minutes. `after` names jobs that start before."""

    name: str
    description: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    every_minutes: int | None = None
    stop_s: int = 60


def jobs(paths: InstallPaths, mode: Mode) -> list[Job]:
    """The programs of a mode, in the order in which they start."""
    server = Job(
        "chainlake-server",
        "Prefect server of Chainlake",
        (paths.program("prefect"), "server", "start", "--host", *_address(API_URL)),
    )
    # A flow that is asked to stop gets 30 s from its worker.
    runner = {
        "serve": Job(
            "chainlake",
            "Chainlake: every flow, in one process",
            (paths.program("chainlake"), "serve"),
            stop_s=90,
        ),
        "worker": Job(
            "chainlake-worker",
            "Worker that runs Chainlake's flows",
            (paths.program("prefect"), "worker", "start", "--pool", "chainlake"),
            after=(server.name,),
            stop_s=90,
        ),
    }[mode]
    watch = Job(
        "chainlake-watch",
        "A look at Chainlake from outside of Prefect, which finds services that are down",
        (paths.program("chainlake"), "ops", "watch"),
        every_minutes=WATCH_MINUTES,
    )
    return [runner, watch] if mode == "serve" else [server, runner, watch]


def _address(url: str) -> tuple[str, str, str]:
    parts = urlsplit(url)
    return str(parts.hostname), "--port", str(parts.port)


def refuse_unquotable(path: Path) -> None:
    """Raise UsageError for a path that a unit cannot name. Spaces, %, $, & and letters of any language can be named."""
    text = str(path)
    if not path.is_absolute():
        raise UsageError(f"{text!r} is no absolute path")
    if UNQUOTABLE & set(text) or not text.isprintable() or text != text.strip():
        raise UsageError(
            f"{text!r}: services cannot be made for a path with quotes, backslashes, brackets, wildcards, control "
            "characters, or a space at its end; rename the folder"
        )


def path_variables(settings: Settings, work: Path) -> dict[str, str]:
    """Settings that are paths, made absolute, for services of another folder than the checkout.

    Flows run in the checkout, where a relative path would mean another file.
    """
    if work == SHIPPED:
        return {}
    found = {
        "CHAINLAKE_STATE__DIR": str(within(work, settings.state.dir)),
        "CHAINLAKE_UNIVERSE__FILE": str(_reference(work, settings.universe.file)),
        "CHAINLAKE_REFERENCE__CORPORATE_ACTIONS": str(_reference(work, settings.reference.corporate_actions)),
        "CHAINLAKE_REFERENCE__RATES": str(_reference(work, settings.reference.rates)),
    }
    lake = local_lake(settings, work)
    return found | ({"CHAINLAKE_LAKE__ROOT": str(lake)} if lake else {})


def local_lake(settings: Settings, work: Path) -> Path | None:
    """The folder of the lake; None for an object store."""
    return None if "://" in settings.lake.root else within(work, settings.lake.root)


def within(work: Path, path: Path | str) -> Path:
    """`path` as it is seen from `work`, without `..`."""
    return Path(os.path.normpath(work / path))


def _reference(work: Path, path: Path) -> Path:
    here = within(work, path)
    return here if here.exists() else within(SHIPPED, path)
