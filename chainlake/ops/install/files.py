"""Files that an installation writes: shown, or put in their places."""

import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chainlake.ops.install.environment_file import PRIVATE
from ingest.errors import UsageError

Outcome = Literal["written", "unchanged", "kept", "kept, now readable by its owner only"]


@dataclass(frozen=True, slots=True)
class File:
    """A file to be there: its text, its mode, and whether one that is there already stays as it is."""

    path: Path
    text: str
    mode: int = 0o644
    keep: bool = False


def place(file: File, owner: str | None = None) -> Outcome:
    """Put `file` in its place, whole or not at all. Raises UsageError where this user may not."""
    try:
        return _place(file, owner)
    except PermissionError:
        raise UsageError(
            f"{file.path} cannot be written by this user: run the command with sudo, or with --dry-run to see the files"
        ) from None


def folder(path: Path, owner: str | None = None) -> None:
    """Make a folder that only its owner enters, unless it is there. Raises UsageError."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if owner:
            for each in missing:
                shutil.chown(each, owner)
    except PermissionError:
        raise UsageError(f"{path} cannot be made by this user: run the command with sudo") from None


def _place(file: File, owner: str | None) -> Outcome:
    if file.path.exists():
        if file.keep:
            return _tighten(file)
        if file.path.read_text(encoding="utf-8") == file.text:
            return "unchanged"
    file.path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.path.parent, prefix=f".{file.path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as new:
            new.write(file.text)
        Path(name).chmod(file.mode)
        if owner:
            shutil.chown(name, owner)
        Path(name).replace(file.path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return "written"


def _tighten(file: File) -> Outcome:
    mode = stat.S_IMODE(file.path.stat().st_mode)
    if file.mode == PRIVATE and mode & 0o077:
        file.path.chmod(PRIVATE)
        return "kept, now readable by its owner only"
    return "kept"
