"""How full the file systems are that hold the lake and the state folder, and how large its tables."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lake import storage
from lake.files import sizes
from lake.store import Lake


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """One file system: a path on it, bytes used and free (for us), and the share used, in per cent as `df` says it."""

    path: str
    used: int
    free: int

    @property
    def used_pct(self) -> float:
        """Used, in per cent of what is used or can be."""
        return 100 * self.used / max(1, self.used + self.free)


@dataclass(frozen=True, slots=True)
class TableSize:
    """A table: its Delta version, and how many data files, and bytes in them, that version consists of."""

    name: str
    version: int
    files: int
    bytes: int


def table_sizes(lake: Lake) -> list[TableSize]:
    """Every table of the lake, from its log. Raises Damaged or LakeError when one cannot be opened."""
    found = []
    for name in lake.table_names():
        table = lake.table(name)
        if table is not None:
            each = sizes(table)
            found.append(TableSize(name, table.version(), len(each), sum(each)))
    return found


def usage(places: Iterable[str]) -> list[DiskUsage]:
    """The file systems of `places`, each once. One that is not there yet is told of by its nearest folder that is.

    An object store has no bound that could be asked for, and is left out.
    """
    found: dict[int, DiskUsage] = {}
    for place in places:
        if storage.is_object_store(place):
            continue
        path = Path(place).absolute()
        while not path.exists():
            path = path.parent
        disk = shutil.disk_usage(path)
        found.setdefault(path.stat().st_dev, DiskUsage(place, disk.used, disk.free))
    return list(found.values())
