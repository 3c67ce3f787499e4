"""What a folder holds, also while other processes make and fill it."""

from pyarrow import fs
from tenacity import retry, retry_if_exception_type, stop_after_attempt


# On a disk pyarrow (26) lists first and then asks whether the folder is there: one that another process makes or fills
# between the two is "not found" although that is allowed.
@retry(retry=retry_if_exception_type(FileNotFoundError), stop=stop_after_attempt(5), reraise=True)
def listed(files: fs.FileSystem, folder: str, *, recursive: bool = False) -> list[fs.FileInfo]:
    """What is in `folder` of `files`; nothing when it is not there."""
    return list(files.get_file_info(fs.FileSelector(folder, recursive=recursive, allow_not_found=True)))
