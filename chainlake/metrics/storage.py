"""Tables and disks: bytes, files and versions from the Delta log, and what is free beside them."""

from collections.abc import Iterator

from chainlake.metrics.families import Value
from chainlake.metrics.sources import Sources
from lake.maintenance.disk import table_sizes, usage


def tables(sources: Sources) -> Iterator[Value]:
    """What each table consists of, at its latest version."""
    for size in table_sizes(sources.lake):
        label = (size.name,)
        yield Value("chainlake_table_bytes", size.bytes, label)
        yield Value("chainlake_table_files", size.files, label)
        yield Value("chainlake_table_version", size.version, label)


def disks(sources: Sources) -> Iterator[Value]:
    """The file systems of the lake and of the state folder; an object store has no bound that could be asked for."""
    for place, path in (("lake", sources.lake.root), ("state", str(sources.state))):
        for disk in usage([path]):
            yield Value("chainlake_disk_free_bytes", disk.free, (place,))
            yield Value("chainlake_disk_used_ratio", disk.used_pct / 100, (place,))
