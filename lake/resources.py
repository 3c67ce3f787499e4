"""Where the files are that ship with Chainlake: the dbt project, its profiles and the default configuration.

In a checkout they lie at its top, where people read and edit them. A wheel has them beside this module, put there by
``pyproject.toml`` (``tool.hatch.build.targets.wheel.sources``). Nothing is ever written into either place.
"""

from pathlib import Path

_PACKAGED = Path(__file__).resolve().parent / "_shipped"
# The checkout that this code runs from; None in an installed wheel.
CHECKOUT = None if _PACKAGED.is_dir() else Path(__file__).resolve().parents[1]
# Holds profiles.yml, and the folders below.
SHIPPED = CHECKOUT or _PACKAGED
DBT_PROJECT = SHIPPED / "dbt_project"
CONFIG = SHIPPED / "config"
