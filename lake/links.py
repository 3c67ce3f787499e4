"""Symbolic links within a lake on a disk: what they lead to may not be deleted as a part of it."""

import os
from pathlib import Path

from lake.storage import is_object_store


def outside(root: str, name: str) -> str | None:
    """The first file or folder of table `name` that a symbolic link leads out of a folder `root` by; None: none.

    The root itself may be a link. An object store has none.
    """
    if is_object_store(root):
        return None
    real, table = Path(root).resolve(), Path(root) / name
    inside = [table, *(Path(folder) / each for folder, folders, files in os.walk(table) for each in (*folders, *files))]
    links = (path for path in inside if path == table or path.is_symlink())
    return next((str(path) for path in links if not path.resolve().is_relative_to(real)), None)
