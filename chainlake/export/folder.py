"""Folders that exports are written into: ours by a marker, each file replaced as a whole."""

import json
from pathlib import Path

from lake import storage
from lake.errors import UnusableRoot

MARKER = "chainlake-export.json"


def prepared(folder: Path, form: str) -> Path:
    """`folder`, made or found as one of earlier exports in `form`. Raises UnusableRoot for what is something else."""
    marker = folder / MARKER
    if marker.exists():
        found = json.loads(marker.read_text(encoding="utf-8")).get("format")
        if found != form:
            raise UnusableRoot(f"{folder} holds an export in the format {found}: choose another folder for {form}")
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UnusableRoot(f"{folder} is there and no export of Chainlake: choose a new or an empty folder")
    storage.write_object(str(folder), MARKER, (json.dumps({"format": form}) + "\n").encode())
    return folder


def write(file: Path, text: str) -> None:
    """Make or replace `file`: who reads it has the old content or the new one."""
    storage.write_object(str(file.parent), file.name, text.encode())
