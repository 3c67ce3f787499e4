"""A copy of a lake, made while it is written to, from which the lake can be had back.

Data files are copied first, then the commits that name them, in order: whenever it stops, the copy is the lake as it
was at some commit of each table. Nothing that is there is copied again, so that a second backup takes what is new.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pyarrow import fs

from lake import storage
from lake.errors import LakeError
from lake.listing import listed
from lake.maintenance.lock import maintainer
from lake.store import MANIFEST, Lake

LOG = "/_delta_log/"
POINTER = "_last_checkpoint"
# What belongs to this lake's processes, and not to its data.
LEFT_OUT = ("maintainer", "lake.duckdb")


@dataclass(frozen=True, slots=True)
class Copied:
    """What a backup did: files and bytes that were copied, and files that were there already."""

    files: int
    bytes: int
    kept: int


def back_up(lake: Lake, target: str, on_file: Callable[[str], None] = lambda name: None) -> Copied:
    """Bring the copy of `lake` at `target`, a folder or ``s3://`` root, up to date; make it when there is none.

    Holds the lock on maintenance, so that no file vanishes meanwhile; capture and dbt go on. Raises MaintainerBusy,
    LakeError when `target` holds something else, and OSError when it cannot be written.
    """
    target = storage.checked(target)
    if storage.absolute(target) == storage.absolute(lake.root):
        raise LakeError(f"{target} is the lake itself: name another place")
    _require_same_lake(lake, target)
    source_files, source = storage.filesystem(lake.root)
    target_files, place = storage.filesystem(target)
    with maintainer(lake, "backup"):
        # The pointer is read before the list is made: what it points to is in the list.
        pointers = {name: content for name in lake.table_names() if (content := _pointer(lake.root, name))}
        logs = {name: size for name, size in _files(source_files, source) if LOG in name and POINTER not in name}
        there = dict(_files(target_files, place))
        data = {name: size for name, size in _files(source_files, source) if LOG not in name and name != MANIFEST}
        files = size = kept = 0
        for name, length in [*sorted(data.items()), *sorted(logs.items())]:
            if name.startswith(LEFT_OUT):
                continue
            if there.get(name) == length:
                kept += 1
                continue
            on_file(name)
            _copy(source_files, f"{source}/{name}", target_files, f"{place}/{name}")
            files, size = files + 1, size + length
        for table, content in pointers.items():
            storage.write_object(f"{target}/{table}/_delta_log", POINTER, content)
        storage.write_object(target, MANIFEST, storage.read_object(lake.root, MANIFEST))
    return Copied(files, size, kept)


def _require_same_lake(lake: Lake, target: str) -> None:
    try:
        manifest = json.loads(storage.read_object(target, MANIFEST))
    except FileNotFoundError:
        if storage.table_names(target):
            raise LakeError(f"{target} has tables but no {MANIFEST}: name an empty place, or a backup") from None
        return
    own = json.loads(storage.read_object(lake.root, MANIFEST))
    if any(manifest.get(key) != own[key] for key in ("origin", "created_at")):
        raise LakeError(f"{target} is no backup of {lake.root}, but another lake: name an empty place")


def _pointer(root: str, table: str) -> bytes | None:
    try:
        return storage.read_object(f"{root}/{table}/_delta_log", POINTER)
    except FileNotFoundError:
        return None


def _files(files: fs.FileSystem, folder: str) -> Iterator[tuple[str, int]]:
    for info in listed(files, folder, recursive=True):
        if info.type == fs.FileType.File:
            yield info.path.removeprefix(f"{folder}/"), info.size


def _copy(source_files: fs.FileSystem, source: str, target_files: fs.FileSystem, target: str) -> None:
    """Copy one file; what has its final name is whole."""
    if isinstance(target_files, fs.LocalFileSystem):
        target_files.create_dir(target.rpartition("/")[0])
        draft = f"{target}.copying"
        fs.copy_files(source, draft, source_files, target_files, use_threads=False)
        target_files.move(draft, target)
    else:
        fs.copy_files(source, target, source_files, target_files, use_threads=False)
