"""Which statements a user's SQL may consist of: one that reads the catalog's views, with functions that are known.

DuckDB's own parser says what a statement is made of, so that a function is found wherever it is written: in a subquery,
a CTE, a lambda, a PIVOT, with a schema, as a method of a value or in quotes.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from lake.catalog.functions import FUNCTIONS, TABLE_FUNCTIONS
from lake.errors import QueryRefused

# EXPLAIN ANALYZE runs its statement, so that is what has to be a read. Only words, and only at the very beginning:
# what DuckDB takes for the statement is then exactly the rest.
_EXPLAIN = re.compile(r"\s*explain\b(\s+analyze\b)?(\s*\((\s*(analyze|format\s+\w+)\s*,?)+\))?", re.IGNORECASE)
# As a name of a table these make DuckDB look for a file, or for the variable of a program.
_PLACE = re.compile(r"[./\\:*?]")
_SCHEMAS = frozenset({"", "raw", "ops", "clean", "quality", "main", "information_schema", "pg_catalog", "temp"})
_CATALOGS = frozenset({"", "memory", "system", "temp"})


def reading_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """`sql` when it is a single statement that only reads from the views of the catalog. Runs nothing of it.

    Raises QueryRefused, with one line, for anything else.
    """
    try:
        kinds = [str(statement.type).rpartition(".")[2] for statement in connection.extract_statements(sql)]
    except duckdb.Error as error:
        raise QueryRefused(one_line(error)) from None
    if len(kinds) != 1:
        raise QueryRefused(f"one statement at a time, not {len(kinds)} (PIVOT needs ON … IN (…) to count as one)")
    explain = _EXPLAIN.match(sql) if kinds == ["EXPLAIN"] else None
    # DuckDB serializes statements that only read, and says so of all others.
    answer = connection.execute("SELECT json_serialize_sql(?)", [sql[explain.end() :] if explain else sql]).fetchone()
    tree = json.loads(answer[0]) if answer else {"error": True}
    if tree["error"]:
        raise QueryRefused(
            f"{kinds[0]} is not a read: the lake is read-only here; use SELECT, DESCRIBE, SHOW or EXPLAIN"
        )
    if (what := next(_refused(tree), None)) is not None:
        raise QueryRefused(f"{what} is not allowed here: select from the lake's tables; SHOW ALL TABLES lists them")
    return sql


def _refused(node: Any, allowed: frozenset[str] = FUNCTIONS) -> Iterator[str]:
    """What in a parse tree is not allowed, in words. `allowed` are the functions that the node itself may call."""
    if isinstance(node, list):
        for child in node:
            yield from _refused(child)
    if not isinstance(node, dict):
        return
    if node.get("type") == "BASE_TABLE" and not _is_of_the_catalog(node):
        yield f"reading {node['table_name']!r}"
    name = node.get("function_name")
    if name is not None and name.lower() not in allowed:
        yield f"{name}()"
    for key, child in node.items():
        in_from = key == "function" and node.get("type") == "TABLE_FUNCTION"
        yield from _refused(child, TABLE_FUNCTIONS if in_from else FUNCTIONS)


def _is_of_the_catalog(table: dict[str, str]) -> bool:
    return (
        _PLACE.search(table["table_name"]) is None
        and table["schema_name"].lower() in _SCHEMAS
        and table["catalog_name"].lower() in _CATALOGS
    )


def one_line(error: Exception) -> str:
    """The message of an error of DuckDB or the lake in one line, without excerpt of the statement and stack trace."""
    message = re.split(r"\n\nLINE|\n\nStack Trace:|\n\s*0: |\n\nAt:", str(error), maxsplit=1)[0]
    message = re.sub(r"^Invalid Input Error: Python exception .*? UDF: \w+: ", "", message)
    text = " ".join(message.split())
    if isinstance(error, duckdb.CatalogException):
        text += " (SHOW ALL TABLES lists what there is)"
    if isinstance(error, duckdb.InternalException):
        text += f" (a fault of DuckDB {duckdb.__version__}, not of the query: word it differently)"
    return text
