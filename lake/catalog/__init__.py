"""The lake as analysts read it: views, macros, as-of, and frames. Reads only.

`open_catalog`, `query`, `read` and `write_catalog` can be imported from here; who imports the package alone, as the
confined process of a user's SQL does before it is confined, loads neither DuckDB nor Delta.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lake.catalog.connection import open_catalog, query, read, write_catalog

__all__ = ["open_catalog", "query", "read", "write_catalog"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from lake.catalog import connection

        return getattr(connection, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
