"""One maintainer of a lake at a time.

Two OPTIMIZE runs at once double every row and both report success (deltalake 1.6.6, docs/maintenance.md), so whatever
rewrites or deletes files holds this lock. On a local disk it is a lock of the operating system, which dies with its
process. In an object store it is a lease: a Delta log whose every commit is a conditional put, so that of two
processes that want to take, renew or take over the lease one succeeds. No host has to believe the clock of another: a
lease that was not given back is taken over only by who has seen it stand still for as long as it lasts.
"""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import structlog
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from lake import storage
from lake.errors import LakeError, LakeMissing
from lake.store import Lake

log = structlog.get_logger(__name__)

LOCK_FILE = "maintainer.lock"
LEASE = "maintainer"
LEASE_KEY = "chainlake.maintainer"
# A lease whose holder has died is free after this long, or twice as long; it is renewed four times as often.
LEASE_S = 120.0
# How often a lease is looked at while it is seen to stand still.
LOOKS = 8


class MaintainerBusy(LakeError):
    """Somebody else maintains the lake."""


class LeaseLost(LakeError):
    """The lease has run out, or somebody has taken it over: the work has to stop before its next commit."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who maintains a lake, since when (UTC), and with what."""

    host: str
    pid: int
    since: str
    doing: str

    def __str__(self) -> str:
        return f"{self.doing} on {self.host} (PID {self.pid}, since {self.since})"


class Hold:
    """The lock, held. Ask `require` before every commit."""

    def require(self) -> None:
        """Raise LeaseLost unless the lock is still ours. A lock of the operating system always is."""


@contextmanager
def maintainer(lake: Lake, doing: str, lease_s: float = LEASE_S) -> Iterator[Hold]:
    """Be the one maintainer of `lake` while the block lasts. Raises MaintainerBusy, which names the holder."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    holder = Holder(socket.gethostname(), os.getpid(), now, doing)
    if storage.is_object_store(lake.root):
        with _leased(lake, holder, lease_s) as lease:
            yield lease
    else:
        with _locked(Path(lake.root), holder):
            yield Hold()


def _busy(lake_root: str, holder: object) -> MaintainerBusy:
    return MaintainerBusy(f"{lake_root} is being maintained: {holder}; wait until it is done, then try again")


# -- a local disk ------------------------------------------------------------------------------------------------------


@contextmanager
def _locked(root: Path, holder: Holder) -> Iterator[None]:
    if not root.is_dir():
        raise LakeMissing(f"no lake at {root}")
    # The file stays when the work is done: taking it away would let two processes lock two files of one name.
    with (root / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise _busy(str(root), file.read().strip() or "by a process that has just begun") from None
        file.truncate(0)
        file.write(f"{holder}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


# -- an object store ---------------------------------------------------------------------------------------------------


@dataclass
class _Lease(Hold):
    """A lease in the Delta log at `uri`; its last commit says who has it, and until when (seconds since 1970)."""

    root: str
    holder: Holder
    seconds: float
    token: str = field(default_factory=lambda: uuid4().hex)
    _until: float = 0
    # The same by a clock that nobody sets.
    _until_monotonic: float = 0
    _table: DeltaTable | None = None
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def uri(self) -> str:
        return f"{self.root}/{LEASE}"

    def take(self) -> None:
        """Take the lease when it is free, or was seen not to be renewed any more. Raises MaintainerBusy."""
        found = self._state()
        if found.get("until", 0):
            lasts = found.get("seconds", LEASE_S)
            if 0 < found["until"] - time.time() <= lasts:
                raise _busy(self.root, Holder(**found["holder"]))
            # It has run out, or its holder's clock stands elsewhere than ours.
            self._watch(found, lasts)
        try:
            self._put(time.time() + self.seconds)
        except CommitFailedError:
            raise _busy(self.root, "by a process that has just begun") from None

    def _watch(self, found: dict[str, Any], lasts: float) -> None:
        """Return when the lease that `found` tells of stands still for `lasts` seconds. Raises MaintainerBusy."""
        log.info("lease_watched", root=self.root, holder=str(Holder(**found["holder"])), seconds=lasts)
        since = time.monotonic()
        while time.monotonic() - since < lasts:
            time.sleep(lasts / LOOKS)
            now = self._state()
            if now != found:
                if not now.get("until", 0):
                    return
                raise _busy(self.root, Holder(**now["holder"]))

    def _state(self) -> dict[str, Any]:
        """What the last commit says, which the next one of ours has to follow."""
        self._table = self._opened()
        with storage.explained(self.root):
            found: dict[str, Any] = json.loads(self._table.history(1)[0].get(LEASE_KEY, "{}"))
        return found

    def require(self) -> None:
        if self._ended.is_set() or time.time() >= self._until or time.monotonic() >= self._until_monotonic:
            raise LeaseLost(
                f"the lease on the maintenance of {self.root} was lost: nothing was committed after that; check the "
                "connection to the object store and run the same command again"
            )

    def keep(self) -> None:
        """Renew until `free`, or until somebody else has the lease. Runs in a thread of its own."""
        while not self._ended.wait(self.seconds / 4):
            try:
                self._put(time.time() + self.seconds)
            except CommitFailedError:
                self._ended.set()
            except (DeltaError, OSError) as error:
                # A passing failure of the store; `require` notices when it lasts.
                log.warning("lease_not_renewed", root=self.root, error=str(error).splitlines()[0])

    def stop(self) -> None:
        """End the renewals."""
        self._ended.set()

    def free(self) -> None:
        """Give the lease back, unless somebody else has it already."""
        try:
            self._put(0)
        except (CommitFailedError, DeltaError, OSError) as error:
            log.warning("lease_not_given_back", root=self.root, error=str(error).splitlines()[0])

    def _opened(self) -> DeltaTable:
        options = storage.delta_options(self.root)
        with storage.explained(self.root):
            try:
                return DeltaTable(self.uri, storage_options=options)
            except TableNotFoundError:
                # Of several that find no lease one makes it.
                with suppress(CommitFailedError):
                    DeltaTable.create(
                        self.uri,
                        schema=_EMPTY.schema,
                        mode="ignore",
                        storage_options=options,
                        commit_properties=CommitProperties(max_commit_retries=0),
                    )
                return DeltaTable(self.uri, storage_options=options)

    def _put(self, until: float) -> None:
        """Write the next state of the lease: a compare-and-swap, as a commit that is not retried is for one only."""
        assert self._table is not None
        state = {"holder": asdict(self.holder), "token": self.token, "until": until, "seconds": self.seconds}
        began = time.monotonic()
        write_deltalake(
            self._table,
            _EMPTY,
            mode="append",
            commit_properties=CommitProperties(custom_metadata={LEASE_KEY: json.dumps(state)}, max_commit_retries=0),
        )
        self._until, self._until_monotonic = until, began + self.seconds


_EMPTY = pa.table({"nothing": pa.array([], pa.string())})


@contextmanager
def _leased(lake: Lake, holder: Holder, seconds: float) -> Iterator[Hold]:
    lease = _Lease(lake.root, holder, seconds)
    lease.take()
    renewals = threading.Thread(target=lease.keep, name="maintainer-lease", daemon=True)
    renewals.start()
    try:
        yield lease
    finally:
        lost = lease._ended.is_set()
        lease.stop()
        renewals.join()
        if not lost:
            lease.free()
