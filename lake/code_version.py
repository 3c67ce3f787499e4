"""Which code runs: the version of the installed package, or the commit of the checkout.

An editable installation keeps the version of the day on which it was made, so a checkout is asked each time.
"""

import os
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lake.resources import CHECKOUT

# As in pyproject.toml, so that a wheel and the checkout it was built from agree.
DESCRIBE = ("describe", "--tags", "--long", "--always", "--dirty", "--match", "v[0-9]*")
DESCRIBED = re.compile(
    r"(?:v(?P<tag>.+)-(?P<distance>\d+)-g)?(?P<commit>[0-9a-f]{7,40})(?P<dirty>-dirty)?",
)
COMMIT = re.compile(r"\+g(?P<commit>[0-9a-f]{7,40})(?P<dirty>\.d\w+)?")
GIT_TIMEOUT_S = 10


@cache
def code_version() -> str:
    """The version of this code, by PEP 440: ``0.2.0``, or ``0.2.0.post1.dev3+g1a2b3c4`` three commits after it.

    ``.dirty`` at its end marks a checkout with changes that are not committed; a wheel built from one has their date
    (``.d20260102``). It is that of the first call: code which changes on disk does not change in this process.
    """
    installed = _installed()
    described = _described(CHECKOUT) if CHECKOUT else None
    return version_of(described, installed) if described else installed


def version_of(described: str, installed: str) -> str:
    """The version for what ``git describe`` says of a checkout whose metadata say `installed`."""
    found = DESCRIBED.fullmatch(described)
    if found is None:
        return installed
    if found["tag"] and found["distance"] == "0" and not found["dirty"]:
        return found["tag"]
    if found["tag"]:
        base = f"{found['tag']}.post1.dev{found['distance']}"
    else:
        released = re.match(r"\d+(\.\d+)*", installed)
        base = f"{released[0] if released else '0'}.dev0"
    return f"{base}+g{found['commit']}{'.dirty' if found['dirty'] else ''}"


def same_code(one: str, other: str) -> bool:
    """Whether two versions are known to be one code: a release, or a commit without changes. Git shortens commits."""
    first, second = COMMIT.search(one), COMMIT.search(other)
    if first is None or second is None:
        return one == other
    if first["dirty"] or second["dirty"]:
        return False
    shorter, longer = sorted((first["commit"], second["commit"]), key=len)
    return longer.startswith(shorter)


def _installed() -> str:
    try:
        return version("chainlake")
    except PackageNotFoundError:
        return "0"


def _described(checkout: Path) -> str | None:
    """None for a source archive, where there is no git, or where git refuses (another user's checkout)."""
    if not (checkout / ".git").exists():
        return None
    # A git hook's GIT_DIR names whatever repository is being committed to.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(checkout), *DESCRIBE],  # noqa: S607 - the user's git
            capture_output=True,
            text=True,
            env=environment,
            timeout=GIT_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
