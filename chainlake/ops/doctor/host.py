"""Checks of the host: versions, time, sleep, disk, the state folder, Prefect and alerts."""

import base64
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chainlake.ops.doctor.check import Check, fail, guarded, ok, one_line, warn
from chainlake.ops.incidents.alerts import VARIABLE, Channel
from flows.prefect_environment import missing
from flows.prefect_password import CLIENT
from ingest.broker.library import LIBRARY
from ingest.recovery import left_behind
from ingest.settings import Settings
from lake.duck import extension
from lake.errors import LakeError
from lake.maintenance import disk
from lake.resources import CHECKOUT, SHIPPED
from lake.storage import is_object_store, require_links

PYTHONS = ((3, 11), (3, 14))
# What decides whether rows are right; the lock pins everything.
LIBRARIES = (
    *("dbt-core", "dbt-duckdb", "deltalake", "duckdb", "pandas-market-calendars", "polars", "prefect", "pyarrow"),
    LIBRARY.replace("_", "-"),
)
SLEEP_TARGETS = ("sleep.target", "suspend.target", "hibernate.target")
ANSWER_S = 5
INSTALL = "make setup" if CHECKOUT else "pip install --force-reinstall chainlake"


def host_checks() -> list[Check]:
    """Checks that need no settings."""
    return [
        *guarded("python", _python),
        *guarded("libraries", _libraries),
        *guarded("duckdb extensions", _extensions),
        *guarded("time zone", _time_zone),
        *guarded("time sync", _time_sync),
        *guarded("sleep", _sleep),
        *guarded("prefect", _prefect),
        *guarded("alerts", _alerts),
    ]


def place_checks(settings: Settings) -> list[Check]:
    """Checks of the places that the settings name."""
    return [
        *guarded("disk", lambda: _disk(settings)),
        *guarded("hard links", lambda: _hard_links(settings.lake.root)),
        *guarded("state", lambda: _state(Path(settings.state.dir))),
        *guarded("journals", lambda: _journals(settings)),
        *guarded("object store", lambda: _object_store(settings)),
    ]


# -- versions ----------------------------------------------------------------------------------------------------------


def _python() -> Iterator[Check]:
    here = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        yield ok("python", here)
    else:
        yield fail(
            "python",
            f"{here}; 3.11 to 3.13 are supported",
            f"{INSTALL} with PYTHON=python3.12" if CHECKOUT else "install Chainlake with one of them",
        )


def _libraries() -> Iterator[Check]:
    # A wheel has no lock: what it requires is what pip has installed.
    lock = SHIPPED / ("requirements.lock" if LIBRARY == "ib_insync" else "requirements-ib_async.lock")
    pins = pinned(lock.read_text()) if lock.exists() else {}
    found, absent, others = [], [], []
    for name in LIBRARIES:
        try:
            installed = version(name)
        except PackageNotFoundError:
            absent.append(name)
            continue
        found.append(f"{name} {installed}")
        if pins.get(canonicalize_name(name), installed) != installed:
            others.append(f"{name} {installed}, pinned {pins[canonicalize_name(name)]}")
    if absent:
        yield fail("libraries", f"not installed: {', '.join(absent)}", INSTALL)
    elif others:
        yield warn("libraries", "; ".join(others), "make setup installs what is pinned and was tested")
    else:
        yield ok("libraries", ", ".join(found))


def pinned(lock: str) -> dict[str, str]:
    """The versions in the text of a lock file, by canonical name, as they hold for this interpreter."""
    pins: dict[str, str] = {}
    for line in lock.splitlines():
        # A pin goes on, in lines that are indented, with the hashes of its files.
        if line and not line.startswith(("#", " ")):
            requirement = Requirement(line.removesuffix("\\"))
            if requirement.marker is None or requirement.marker.evaluate():
                pins[canonicalize_name(requirement.name)] = next(iter(requirement.specifier)).version
    return pins


def _extensions() -> Iterator[Check]:
    absent = [name for name in ("delta", "httpfs") if extension(name) is None]
    if absent:
        yield warn(
            "duckdb extensions",
            f"no wheel of {' and '.join(absent)} for this platform: DuckDB downloads what it needs",
            "run it once with network access; docs/reference/catalog.md",
        )
    else:
        yield ok("duckdb extensions", "delta and httpfs come from wheels, nothing is downloaded")


# -- time and sleep ----------------------------------------------------------------------------------------------------


def _time_zone() -> Iterator[Check]:
    yield ok("time zone", f"the host is on {'/'.join(time.tzname)}; everything is scheduled on New York clocks")


def _time_sync() -> Iterator[Check]:
    answer = _output_of("timedatectl", "show", "-p", "NTPSynchronized", "--value") if sys.platform == "linux" else None
    if answer is not None and answer.strip() == "no":
        yield warn(
            "time sync", "the clock is not synchronized", "start systemd-timesyncd or chrony: a slot is an instant"
        )
    elif answer is not None and answer.strip() == "yes":
        yield ok("time sync", "the clock is synchronized")
    else:
        yield ok("time sync", "not known on this host; the clock check against the gateway tells")


def _sleep() -> Iterator[Check]:
    if sys.platform == "darwin":
        yield mac_sleep(_output_of("pmset", "-g") or "")
    else:
        answer = _output_of("systemctl", "is-enabled", *SLEEP_TARGETS, may_fail=True)
        yield linux_sleep(answer or "", any(Path("/sys/class/power_supply").glob("BAT*")))


def mac_sleep(pmset: str) -> Check:
    """What the output of ``pmset -g`` says about sleep."""
    minutes = re.search(r"^\s*sleep\s+(\d+)", pmset, re.MULTILINE)
    if minutes is None:
        return ok("sleep", "not known on this host")
    if minutes[1] == "0":
        return ok("sleep", "this Mac does not go to sleep by itself")
    return warn(
        "sleep",
        f"this Mac sleeps after {minutes[1]} idle minutes: slots would be missed",
        "sudo pmset -a sleep 0 disablesleep 1, or the service of chainlake ops install --launchd, which keeps it awake",
    )


def linux_sleep(targets: str, has_battery: bool) -> Check:
    """What ``systemctl is-enabled`` says of the sleep targets, on a host with or without a battery."""
    states = targets.split()
    if not states:
        return ok("sleep", "not known on this host: no systemd")
    if all(state.startswith("masked") for state in states):
        return ok("sleep", "the sleep targets of systemd are masked")
    if has_battery:
        return warn(
            "sleep",
            "this host has a battery and may be suspended: slots would be missed",
            f"sudo systemctl mask {' '.join(SLEEP_TARGETS)}",
        )
    return ok("sleep", "no battery; nothing suspends this host unless asked to")


def _output_of(*command: str, may_fail: bool = False) -> str | None:
    """What a command of the host prints; None where there is no such command, or it fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 or may_fail else None


# -- services ----------------------------------------------------------------------------------------------------------


def _prefect() -> Iterator[Check]:
    yield prefect_check(os.environ)


def prefect_check(environment: Mapping[str, str]) -> Check:
    """Whether the Prefect server of ``PREFECT_API_URL`` answers, and is kept from talking to others."""
    url = environment.get("PREFECT_API_URL", "")
    if not url:
        return ok("prefect", "PREFECT_API_URL is not set: nothing is scheduled from this shell")
    parts = urlsplit(url)
    # Never the whole URL: it may hold a key.
    where = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    start = "start it: chainlake serve, or the service (docs/install.md)"
    if parts.scheme not in ("http", "https"):
        return fail("prefect", "PREFECT_API_URL is no http address", "http://127.0.0.1:4200/api is the usual one")
    api = url.rstrip("/")
    try:
        healthy = _status(f"{api}/health") == 200
        lets_everybody_in = _status(f"{api}/admin/version") == 200
        # Who does not ask for the password is not told it.
        password = None if lets_everybody_in else environment.get(CLIENT)
        refused = password is not None and _status(f"{api}/admin/version", password) in (401, 403)
    except (OSError, ValueError, urllib.error.URLError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return fail("prefect", f"no server at {where} ({one_line(Exception(str(reason)))})", start)
    if not healthy:
        return fail("prefect", f"the server at {where} is not healthy", "look at its log")
    if lets_everybody_in:
        return fail(
            "prefect",
            f"the server at {where} asks for no password: whoever reaches it can run commands as its user",
            "start it as a service of chainlake ops install, or by chainlake serve (docs/install.md)",
        )
    if refused:
        return fail("prefect", f"the server at {where} refuses the password of this shell", f"correct {CLIENT}")
    if absent := missing(environment):
        return warn(
            "prefect",
            f"the server at {where} answers; not set here: {', '.join(absent)}",
            "use the environment file of chainlake ops install: without them Prefect asks hosts elsewhere",
        )
    return ok("prefect", f"the server at {where} answers")


def _status(url: str, password: str | None = None) -> int:
    """The HTTP status of an answer, with basic authentication if there is a password (``user:password``)."""
    request = urllib.request.Request(url)  # noqa: S310 - http or https
    if password is not None:
        # Not passed on to where the answer may point.
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(password.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as answer:
        return answer.code


def _alerts() -> Iterator[Check]:
    channel = Channel.from_environment()
    if channel.not_understood:
        yield fail(
            "alerts", f"not understood: {', '.join(channel.not_understood)}", f"correct {VARIABLE} (docs/alerts.md)"
        )
    elif channel.kinds:
        yield ok("alerts", f"{', '.join(channel.kinds)}; chainlake ops test-alert sends a message")
    else:
        yield warn("alerts", "alerts go to the log and TODO.now.md only", f"set {VARIABLE} (docs/alerts.md)")


# -- places ------------------------------------------------------------------------------------------------------------


def _disk(settings: Settings) -> Iterator[Check]:
    bound = settings.maintenance.disk_used_pct
    for each in disk.usage([settings.lake.root, str(settings.state.dir)]):
        found = f"{each.path}: {each.used_pct:.0f} % used, {each.free / 1e9:,.1f} GB free"
        if each.used_pct > bound:
            yield fail("disk", f"{found}, over {bound:g} %", "chainlake retention and chainlake vacuum, or more room")
        else:
            yield ok("disk", found)


def _hard_links(root: str) -> Iterator[Check]:
    if is_object_store(root):
        return
    try:
        require_links(root)
    except LakeError as error:
        yield fail("hard links", one_line(error), "set lake.root to a folder there")
    else:
        yield ok("hard links", "the file system of the lake makes them")


def _state(folder: Path) -> Iterator[Check]:
    place = folder
    while not place.exists():
        place = place.absolute().parent
    if not os.access(place, os.W_OK | os.X_OK):
        yield fail("state", f"{place} cannot be written to", "give it to the user of the service, or set state.dir")
        return
    if folder.exists() and folder.stat().st_mode & stat.S_IWOTH:
        yield warn("state", f"everybody can write to {folder}", f"chmod o-w {folder}")
        return
    if folder.exists() and folder.stat().st_mode & stat.S_IRWXO:
        yield warn("state", f"everybody can look into {folder}, where logs and reports are", f"chmod o-rwx {folder}")
        return
    yield ok("state", f"{folder} can be written to" if folder.exists() else f"{folder} is made when it is needed")


def _journals(settings: Settings) -> Iterator[Check]:
    left = left_behind(Path(settings.state.dir))
    if left:
        names = ", ".join(path.name for path in left[:3])
        yield warn(
            "journals",
            f"{len(left)} interrupted runs have left answers in {left[0].parent}: {names}",
            "the next capture, or chainlake ops watch, puts them into the lake",
        )
    else:
        yield ok("journals", "no interrupted run has left answers on this host")


def _object_store(settings: Settings) -> Iterator[Check]:
    if is_object_store(settings.lake.root):
        yield ok("object store", "the lake is in an object store, whose room nobody can ask for")
