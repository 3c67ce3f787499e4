"""The commits of a table's log as files: those that a crash of the host or a partial copy has damaged.

A commit is a file of JSON lines, and none is empty. deltalake 1.6.6 and DuckDB 1.5.5 read an empty one as a commit of
nothing: its rows vanish without a word. What was cut short they refuse, in a text of many lines.
"""

import json
import re
from pathlib import Path

from pyarrow import fs

from lake.listing import listed

LOG = "_delta_log"
COMMIT = re.compile(r"(\d{20})\.json")
CHECKPOINT = re.compile(r"(\d{20})\.checkpoint[.\w-]*\.parquet")
REMEDY = "have that file back from a backup (docs/backup.md)"
NEWEST = (
    f"{REMEDY}; where there is none, delete it: the table is then as it was before that commit, and what the commit "
    "brought is missing"
)


def empty_commit(table: Path, version: int | None = None) -> str | None:
    """What is to say of an empty commit among those that make `version` (None: the latest) of the table in a folder.

    A quick look: those before the last checkpoint say nothing about the table any more.
    """
    log = table / LOG
    if version is None:
        numbers = (COMMIT.fullmatch(file.name) for file in log.iterdir())
        version = max((int(match[1]) for match in numbers if match), default=-1)
    for number in range(version, -1, -1):
        commit = log / f"{number:020}.json"
        try:
            if not commit.stat().st_size:
                return _told(str(commit), "is empty", NEWEST if number == version else REMEDY)
        except FileNotFoundError:
            return None
        if (log / f"{number:020}.checkpoint.parquet").exists():
            return None
    return None


def damage(files: fs.FileSystem, table: str) -> str | None:
    """What is wrong with the log of the table in folder `table` of `files`, with the remedy; None: nothing.

    Empty commits are found in the whole log; those since the last checkpoint are read, and none of them may be missing.
    """
    found = listed(files, f"{table}/{LOG}")
    commits = {int(match[1]): info for info in found if (match := COMMIT.fullmatch(info.base_name))}
    if not commits:
        return None
    newest = max(commits)
    for number, info in sorted(commits.items()):
        if not info.size:
            return _told(info.path, "is empty", NEWEST if number == newest else REMEDY)
    checkpoints = [int(match[1]) for info in found if (match := CHECKPOINT.fullmatch(info.base_name))]
    since = max(checkpoints, default=min(commits) - 1) + 1
    for number in range(since, newest + 1):
        if number not in commits:
            return _told(f"{table}/{LOG}/{number:020}.json", "is missing", REMEDY)
        if not _is_whole(files, commits[number].path):
            return _told(commits[number].path, "is cut short", NEWEST if number == newest else REMEDY)
    return None


def _is_whole(files: fs.FileSystem, path: str) -> bool:
    with files.open_input_stream(path) as stream:
        content = bytes(stream.readall())
    try:
        return all(isinstance(json.loads(line), dict) for line in content.splitlines() if line.strip())
    except ValueError:
        return False


def _told(file: str, what: str, remedy: str) -> str:
    return f"the commit {file} {what}: {remedy}"
