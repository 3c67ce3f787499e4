"""Where the lake is, for whoever does not name it: one rule for the command line, Python, the dashboard and dbt.

`ingest.settings` merges all settings in the same order; a test holds the two together.
"""

import os
import tomllib
from pathlib import Path

from lake.errors import LakeError

ROOT_VARIABLE = "CHAINLAKE_LAKE__ROOT"
CONFIG_VARIABLE = "CHAINLAKE_CONFIG"
DEFAULT_ROOT = "data/lake"
DEFAULT_CONFIG = Path("config/chainlake.toml")


def lake_root(given: str | Path | None = None, home: Path = Path()) -> str:
    """The root of the lake: `given`, else CHAINLAKE_LAKE__ROOT, else ``lake.root`` of the settings, else ``data/lake``.

    `home` is the folder in which the settings file and a relative root of it are looked for, by default the current
    one. Raises LakeError when the settings file cannot be read.
    """
    if chosen := given or os.environ.get(ROOT_VARIABLE):
        return str(chosen)
    root = _configured(home) or DEFAULT_ROOT
    return root if "://" in root else str(home / root)


def settings_file(home: Path = Path()) -> Path | None:
    """The settings file in force: the one that CHAINLAKE_CONFIG names, even if it is missing, else that of `home`."""
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    file = home / DEFAULT_CONFIG
    return file if file.exists() else None


def _configured(home: Path) -> str | None:
    file = settings_file(home)
    if file is None:
        return None
    try:
        root = tomllib.loads(file.read_text(encoding="utf-8-sig")).get("lake", {}).get("root")
    except (OSError, ValueError, AttributeError) as error:
        raise LakeError(f"the settings file {file} cannot be read ({error}): name the lake, or mend the file") from None
    return None if root is None else str(root)
