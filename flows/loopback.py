"""This host's own addresses: they are asked directly, and whoever has a port of theirs can be named."""

import contextlib
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

HOSTS = ("127.0.0.1", "localhost", "::1")
LISTENING = "0A"


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this one."""
    return urlsplit(url).hostname in HOSTS


def no_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep loopback from the proxy of ``HTTP_PROXY``, beside the hosts that `environment` excepts.

    Libraries read one of the two spellings, and not all the same.
    """
    excepted = f"{environment.get('no_proxy', '')},{environment.get('NO_PROXY', '')}".split(",")
    hosts = ",".join(dict.fromkeys([*(host.strip() for host in excepted if host.strip()), *HOSTS]))
    return {"NO_PROXY": hosts, "no_proxy": hosts}


def is_taken(port: int) -> bool:
    """Whether a program listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        # As servers do: connections that have ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def holder(port: int) -> str:
    """Who listens on a port: process and command, else its user, else "another program" (other systems than Linux)."""
    found = _listener(port)
    if found is None:
        return "another program"
    user, inode = found
    for process in Path("/proc").glob("[0-9]*"):
        # Processes of other users do not show their files.
        with contextlib.suppress(OSError):
            if any(_leads_to(each, f"socket:[{inode}]") for each in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                return f"process {process.name} ({command.strip()[:100]})"
    return f"a program of user id {user}"


def _leads_to(link: Path, target: str) -> bool:
    try:
        return str(link.readlink()) == target
    except OSError:
        return False


def _listener(port: int) -> tuple[str, str] | None:
    """User id and inode of the socket that listens on a port, as Linux tells everybody."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    return fields[7], fields[9]
    return None
