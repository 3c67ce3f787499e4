"""The clients. An environment has one of them: which one is for the environment to say, not for the tests."""

from importlib.util import find_spec

from driver import Client

NAMES = ("ib_insync", "ib_async", "ibapi")


def installed() -> str:
    """The name of the client of this environment."""
    found = [name for name in NAMES if find_spec(name)]
    if len(found) != 1:
        raise RuntimeError(f"an environment holds one of {', '.join(NAMES)}; this one holds {found or 'none'}")
    return found[0]


def new_client() -> Client:
    """A client, not connected yet."""
    if installed() == "ibapi":
        from drivers.official import OfficialClient

        return OfficialClient()
    from drivers.insync_family import InsyncClient

    return InsyncClient()
