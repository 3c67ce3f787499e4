"""The file with what may not stand anywhere else: alert URLs, and credentials of an object store or a database.

systemd reads it by itself; on macOS `chainlake.ops.install.run` does. Lines of ``NAME='value'`` mean the same to both,
and to a shell.
"""

import os
import re
import shlex
import shutil
import stat
import tempfile
from pathlib import Path

from flows.prefect_password import CLIENT, SERVER
from ingest.errors import UsageError

PRIVATE = 0o600
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

TEMPLATE = """\
# What Chainlake's services need and no settings file may hold. Only its owner may read this file (mode 0600).
# One NAME='value' a line; take away the "#" to set one, then restart the services.
# For commands by hand:  set -a; . '{path}'; set +a

# Where alerts go, separated by spaces: docs/alerts.md lists services. `chainlake ops test-alert` tries them.
# CHAINLAKE_ALERT_URLS='mailtos://user:password@smtp.example.com?from=lake@example.com&to=operator@example.com'

# A lake in an object store: docs/object-store.md.
# AWS_ACCESS_KEY_ID=''
# AWS_SECRET_ACCESS_KEY=''
# AWS_REGION='us-east-1'
# AWS_ENDPOINT_URL=''

# A proxy of this network. Prefect is on this host: NO_PROXY has to go on naming it, whatever else it names.
# HTTPS_PROXY='http://proxy.example.com:3128'
# NO_PROXY='127.0.0.1,localhost,::1'

# Prefect's history in PostgreSQL instead of SQLite: docs/install.md.
# PREFECT_SERVER_DATABASE_CONNECTION_URL='postgresql+asyncpg://prefect:password@127.0.0.1/prefect'
"""
# Before the two variables in the file.
PREFECT_NOTE = """\
# Of Prefect's server and page: whoever knows it can run commands as the user of the services. Made by
# `chainlake ops install`; the state folder has it too, for commands by hand (docs/install.md says how to change it).
"""


def template(path: Path) -> str:
    """The commented file, as it is when it is made."""
    return TEMPLATE.format(path=path)


def add_password(path: Path, password: str) -> bool:
    """Let the services know the password of Prefect's server, as far as the file does not; whether it was added.

    All that the file holds stays, and so do its owner and mode. Raises UsageError for a file that cannot be right.
    """
    absent = {SERVER, CLIENT} - read(path).keys()
    if not absent:
        return False
    text = path.read_text(encoding="utf-8")
    lines = "".join(f"{name}='{password}'\n" for name in sorted(absent))
    before = path.stat()
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as new:
            new.write(f"{text.rstrip()}\n\n{PREFECT_NOTE}{lines}")
        if (before.st_uid, before.st_gid) != (os.getuid(), os.getgid()):
            shutil.chown(name, before.st_uid, before.st_gid)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return True


def parse(text: str) -> dict[str, str]:
    """The variables in an environment file. Raises UsageError with the number of a line that cannot be right."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith(("#", ";")):
            continue
        name, equals, rest = stripped.partition("=")
        if not equals or not NAME.fullmatch(name):
            raise UsageError(f"line {number} is no NAME='value'")
        try:
            words = shlex.split(rest)
        except ValueError:
            raise UsageError(f"line {number}: the quotes around the value of {name} do not match") from None
        if len(words) > 1:
            raise UsageError(f"line {number}: put the value of {name} into single quotes")
        found[name] = words[0] if words else ""
    return found


def read(path: Path) -> dict[str, str]:
    """The variables of the file. Raises UsageError where it is missing, readable for others, or wrong."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): run `chainlake ops install` again") from None
    if mode & 0o077:
        raise UsageError(f"{path} can be read by others (mode {mode:04o}): chmod 600 '{path}'")
    try:
        return parse(text)
    except UsageError as error:
        raise UsageError(f"{path}, {error}") from None
