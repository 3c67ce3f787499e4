"""How full the file systems are that hold the lake and the state folder."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lake import storage


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
