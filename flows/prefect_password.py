"""The password of Prefect's server: whoever knows it can run commands as the user of the service.

It lies in the state folder, for its owner only, and in the environment file of an installation, where the services read
it. Prefect takes it as one string, ``user:password``.
"""

import os
import secrets
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from flows.loopback import is_loopback
from ingest.errors import UsageError

SERVER, CLIENT = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"
FILE = "prefect_password"
# Another process has made the file and not yet written it.
WRITTEN_WITHIN_S = 2.0


def password(state: Path, wanted: str | None = None) -> str:
    """The password of the server of a state folder: made there, or set to `wanted`, where there is none.

    Raises UsageError for a file that others can read, and for one that holds no password.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = state / FILE
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(file)
    made = wanted or f"chainlake:{secrets.token_urlsafe(32)}"
    with os.fdopen(descriptor, "w", encoding="utf-8") as new:
        new.write(f"{made}\n")
    return made


def password_variables(state: Path, environment: Mapping[str, str], api_url: str) -> dict[str, str]:
    """What server and clients need: the password in `environment`, else that of the state folder.

    The latter is for a server of this host only: no other is told it.
    """
    known = environment.get(CLIENT) or environment.get(SERVER)
    if known is None and not is_loopback(api_url):
        return {}
    return dict.fromkeys((CLIENT, SERVER), known or password(state))


def _read(file: Path) -> str:
    again = "delete it, and start the service again for a new password"
    if file.is_symlink():
        # An installation reads it as root, in a folder of the service's user.
        raise UsageError(f"{file} is a symbolic link: {again}")
    if stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise UsageError(f"{file} can be read by others: {again}")
    ends = time.monotonic() + WRITTEN_WITHIN_S
    while not (found := file.read_text(encoding="utf-8", errors="replace").strip()):
        if time.monotonic() > ends:
            raise UsageError(f"{file} is empty: {again}")
        time.sleep(0.05)
    if not found.isprintable() or "'" in found or ":" not in found:
        raise UsageError(f"{file} holds no line user:password without quotes: {again}")
    return found
