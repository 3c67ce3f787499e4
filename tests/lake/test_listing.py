"""What a folder holds while others make it."""

from pathlib import Path

import pytest
from pyarrow import fs

from lake.listing import listed


class MadeMeanwhile:
    """A disk on which another process makes the folder between its listing and the question whether it is there."""

    def __init__(self, times: int) -> None:
        self.left = times

    def get_file_info(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        """Not found, so many times."""
        if self.left:
            self.left -= 1
            raise FileNotFoundError(2, "Cannot list directory", selector.base_dir)
        return [fs.FileInfo(f"{selector.base_dir}/0.parquet", fs.FileType.File, size=1)]


def test_a_folder_that_is_made_while_it_is_listed_is_listed_again() -> None:
    disk = MadeMeanwhile(2)
    assert [info.path for info in listed(disk, "raw/sessions")] == ["raw/sessions/0.parquet"]  # type: ignore[arg-type]
    assert disk.left == 0


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert listed(fs.LocalFileSystem(), str(tmp_path / "none"), recursive=True) == []


def test_what_stays_unreadable_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        listed(MadeMeanwhile(99), "raw/sessions")  # type: ignore[arg-type]
