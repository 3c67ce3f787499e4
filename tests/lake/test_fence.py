"""The fence of the catalog: a function that nobody has reviewed is refused wherever it is written, and never runs."""

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from lake.catalog.connection import Limits, open_catalog, read
from lake.catalog.fence import reading_statement
from lake.catalog.functions import FUNCTIONS, TABLE_FUNCTIONS
from lake.catalog.macros import MACROS
from lake.errors import QueryRefused
from lake.store import Lake
from tests.small_lake import small_lake

SMALL = Limits(memory="500MB", threads=1, seconds=60)

# Read, and left out: what writes, waits, reads or opens what a string names, runs text, or keeps a state; then what is
# of DuckDB's inside only.
REVIEWED = set(
    """
    currval get_block_size getvariable json_deserialize_sql json_serialize_plan json_serialize_sql nextval
    setseed sleep_ms write_blob write_log
    can_cast_implicitly cast_to_type combine constant_or_null create_sort_key current_connection_id current_query
    current_query_id current_transaction_id finalize get_delta_test_expression get_type icu_sort_key in_search_path
    is_histogram_other_bin make_type parse_delta_filter_logline parse_duckdb_log_message remap_struct replace_type stats
    timetz_byte_comparable txid_current unpivot_list variant_bytes_to_variant variant_to_parquet_variant vector_type
    live_files live_files_differ
    st_asbinary st_astext st_aswkb st_aswkt st_crs st_geomfromwkb st_intersects_extent st_setcrs
    col_description format_pg_type format_type map_to_pg_oid obj_description shobj_description
    """.split()  # noqa: SIM905 - as a list it would fill pages
)
# Families: compression, collations, what clients made for PostgreSQL ask.
FAMILIES = ("__internal_", "icu_collate_", "has_", "inet_", "pg_")
REVIEWED_TABLE_FUNCTIONS = set(
    """
    arrow_scan arrow_scan_dumb checkpoint copy_dir delta_domain_metadata delta_filter_pushdown_log
    delta_filter_pushdown_log_tpcds delta_get_transaction_version delta_list_files delta_scan
    delta_set_transaction_version disable_logging disable_profiling duckdb_approx_database_count duckdb_connection_count
    duckdb_constraints duckdb_coordinate_systems duckdb_databases duckdb_dependencies duckdb_extensions
    duckdb_external_file_cache duckdb_indexes duckdb_keywords duckdb_log_contexts duckdb_logs duckdb_logs_parsed
    duckdb_memory duckdb_optimizers duckdb_prepared_statements duckdb_profiling_settings duckdb_secret_types
    duckdb_secrets duckdb_sequences duckdb_table_sample duckdb_temporary_files duckdb_variables enable_logging
    enable_profiling force_checkpoint glob histogram histogram_values icu_calendar_names json_execute_serialized_sql
    pandas_scan parquet_bloom_probe parquet_file_metadata parquet_full_metadata parquet_kv_metadata parquet_metadata
    parquet_scan parquet_schema pragma_collations pragma_database_size pragma_metadata_info pragma_platform pragma_show
    pragma_storage_info pragma_user_agent python_map_function query query_table read_blob read_csv read_csv_auto
    read_duckdb read_json read_json_auto read_json_objects read_json_objects_auto read_ndjson read_ndjson_auto
    read_ndjson_objects read_parquet read_text seq_scan sniff_csv summary test_all_types test_vector_types
    truncate_duckdb_logs which_secret
    """.split()  # noqa: SIM905 - as a list it would fill pages
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return small_lake(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="module")
def catalog(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_catalog(lake.root, SMALL) as connection:
        yield connection


def known(catalog: duckdb.DuckDBPyConnection, *kinds: str) -> set[str]:
    """Functions of this DuckDB with its extensions and the lake's macros, in lower case."""
    found = catalog.execute("SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type IN $1", [kinds])
    return {name.lower() for (name,) in found.fetchall()}


def test_each_function_of_this_duckdb_was_reviewed(catalog: duckdb.DuckDBPyConnection) -> None:
    """An upgrade fails here, with the names that have to be read and put into one list or the other."""
    names = {name for name in known(catalog, "scalar", "aggregate", "macro") if not name.startswith(FAMILIES)}
    families = {name for name in FUNCTIONS if name.startswith(FAMILIES)}
    assert names | families | {"unnest"} == FUNCTIONS | REVIEWED
    assert FUNCTIONS.isdisjoint(REVIEWED)
    assert families == {"pg_size_pretty", "pg_typeof"}


def test_each_table_function_of_this_duckdb_was_reviewed(catalog: duckdb.DuckDBPyConnection) -> None:
    there = {macro.name for macro in MACROS} & TABLE_FUNCTIONS
    assert known(catalog, "table", "table_macro") | there == TABLE_FUNCTIONS | REVIEWED_TABLE_FUNCTIONS
    assert TABLE_FUNCTIONS.isdisjoint(REVIEWED_TABLE_FUNCTIONS)


# {root} is the lake, {outside} a path elsewhere, {url} an address that listens; BAD a call that writes a file.
BAD = "write_blob('{outside}', 'x'::blob)"
WRITTEN_SOMEWHERE = [
    f"SELECT {BAD}",
    "SELECT write_blob('{root}/lake.json', 'broken'::blob)",
    "SELECT WRITE_BLOB('{outside}', 'x'::blob)",
    "SELECT \"write_blob\"('{outside}', 'x'::blob)",
    "SELECT main.write_blob('{outside}', 'x'::blob)",
    "SELECT system.main.write_blob('{outside}', 'x'::blob)",
    "SELECT ('{outside}').write_blob('x'::blob)",
    "SELECT p.write_blob('x'::blob) FROM (SELECT '{outside}' AS p)",
    f"SELECT /* */ {BAD} -- ;",
    f"EXPLAIN ANALYZE SELECT {BAD}",
    f"EXPLAIN (ANALYZE, FORMAT json) SELECT {BAD}",
    f"EXPLAIN ANALYZE (SELECT {BAD})",
    f"DESCRIBE SELECT {BAD}",
    f"SUMMARIZE SELECT {BAD}",
    f"VALUES ({BAD})",
    f"SELECT (SELECT {BAD})",
    f"SELECT 1 WHERE EXISTS (SELECT {BAD})",
    f"SELECT 1 UNION ALL SELECT {BAD}",
    f"WITH a AS MATERIALIZED (SELECT {BAD}) SELECT 1",
    f"WITH RECURSIVE a AS (SELECT 1 AS i UNION ALL SELECT i + {BAD} FROM a WHERE i < 2) FROM a",
    f"SELECT * FROM raw.sessions, LATERAL (SELECT {BAD})",
    f"SELECT * FROM raw.sessions JOIN ops.runs ON {BAD} IS NULL",
    f"SELECT 1 FROM raw.sessions WHERE {BAD} IS NULL",
    f"SELECT 1 FROM raw.sessions GROUP BY {BAD}",
    f"SELECT 1 FROM raw.sessions GROUP BY GROUPING SETS ((slot_30m), ({BAD}))",
    f"SELECT max(slot_30m) FROM raw.sessions HAVING {BAD} IS NULL",
    f"SELECT slot_30m FROM raw.sessions QUALIFY {BAD} IS NULL",
    f"SELECT slot_30m FROM raw.sessions ORDER BY {BAD}",
    f"SELECT slot_30m FROM raw.sessions LIMIT {BAD}",
    f"SELECT slot_30m FROM raw.sessions LIMIT 1 OFFSET {BAD}",
    f"SELECT list(slot_30m ORDER BY {BAD}) FROM raw.sessions",
    f"SELECT count(*) FILTER (WHERE {BAD} IS NULL) FROM raw.sessions",
    f"SELECT max(slot_30m) OVER (PARTITION BY {BAD}) FROM raw.sessions",
    f"SELECT max(slot_30m) OVER w FROM raw.sessions WINDOW w AS (ORDER BY {BAD})",
    f"SELECT sum(1) OVER (ROWS BETWEEN {BAD} PRECEDING AND CURRENT ROW) FROM raw.sessions",
    f"SELECT lag(1, {BAD}) OVER () FROM raw.sessions",
    f"SELECT * REPLACE ({BAD} AS slot_30m) FROM raw.sessions",
    f"SELECT COLUMNS(c -> {BAD} IS NULL) FROM raw.sessions",
    f"SELECT list_transform([1], x -> {BAD})",
    f"SELECT list_transform([1], lambda x: {BAD})",
    f"SELECT [{BAD} FOR x IN [1] IF true]",
    f"SELECT [x FOR x IN [1] IF {BAD} IS NULL]",
    f"SELECT {{{{'a': {BAD}}}}}, MAP {{{{1: {BAD}}}}}, [{BAD}]",
    f"SELECT [1, 2][{BAD}]",
    f"SELECT CASE WHEN {BAD} IS NULL THEN 1 END",
    f"SELECT TRY({BAD})",
    f"SELECT TRY_CAST({BAD} AS INT)",
    f"SELECT INTERVAL ({BAD}) DAY",
    f"SELECT {BAD} BETWEEN 1 AND 2",
    f"SELECT 1 IN (1, {BAD})",
    f"SELECT coalesce(NULL, {BAD})",
    f"PIVOT raw.sessions ON is_close IN (true, false) USING sum({BAD})",
    f"FROM range({BAD})",
    f"FROM unnest([{BAD}])",
    f"FROM chain(date '2026-11-18', 1, {BAD})",
    f"SELECT slot_at(date '2026-11-18', {BAD}::varchar)",
]
RUNS_TEXT = [
    "SELECT json_serialize_plan('from delta_scan(''{url}/' || 'x' || ''')')",
    "SELECT json_serialize_plan('select write_blob(''{outside}'', ''x''::blob)')",
    "FROM json_execute_serialized_sql(json_serialize_sql('select 1'))",
    "SELECT json_serialize_sql('select 1')",
    "PRAGMA json_execute_serialized_sql('{{}}')",
    f"FROM query('SELECT {BAD.replace(chr(39), chr(39) * 2)}')",
    "FROM query_table('{root}/lake.json')",
    "FROM histogram('{root}/lake.json', 'x')",
    "FROM histogram_values('{root}/lake.json', x)",
    "SELECT getvariable('x')",
]
READS_ELSEWHERE = [
    "FROM delta_scan('{url}/x')",
    "FROM delta_list_files('{url}/x')",
    "FROM copy_dir('{root}', '{outside}')",
    "FROM '{outside}.csv'",
    "FROM '{url}/x.csv'",
    "FROM '{root}/lake.json'",
    'FROM "{root}/lake".json',
    "FROM lake.json",
    "SELECT * FROM raw.sessions JOIN '{root}/lake.json' ON true",
    "DESCRIBE '{root}/lake.json'",
    "SUMMARIZE '{root}/lake.json'",
    "SHOW '{root}/lake.json'",
    "SELECT (FROM '{root}/lake.json' LIMIT 1)",
    "EXPLAIN ANALYZE FROM '{root}/lake.json'",
    # What the fence takes for the statement has to be what DuckDB runs.
    "--explain(\nEXPLAIN ANALYZE FROM '{root}/lake.json' WHERE '' <> ')\n SELECT 1 --'",
    "/*explain*/ EXPLAIN ANALYZE FROM '{root}/lake.json'",
    "EXPLAIN /* */ ANALYZE FROM '{root}/lake.json'",
    "EXPLAIN EXPLAIN ANALYZE FROM '{root}/lake.json'",
    "FROM parquet_metadata('{root}/x.parquet')",
    "FROM read_duckdb('{root}/lake.duckdb')",
    "FROM sniff_csv('{root}/lake.json')",
    "FROM glob('{root}/*')",
    "FROM which_secret('{url}', 's3')",
    "FROM duckdb_secrets()",
    "SELECT live_files('clean/intraday')",
]
NO_READS = [
    "COPY (SELECT 1) TO '{outside}'",
    f"COPY (SELECT {BAD}) TO '/dev/null'",
    "COPY raw.sessions FROM '{root}/lake.json'",
    "COPY FROM DATABASE memory TO x",
    "EXPORT DATABASE '{outside}'",
    "IMPORT DATABASE '{outside}'",
    "ATTACH '{outside}'",
    "ATTACH '{url}/x.duckdb'",
    "DETACH memory",
    "USE raw",
    "INSTALL spatial",
    "FORCE INSTALL httpfs",
    "LOAD '{outside}'",
    "UPDATE EXTENSIONS",
    "SET VARIABLE x = 1",
    f"SET VARIABLE x = {BAD}",
    "RESET enable_external_access",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "CALL enable_logging()",
    f"CALL range({BAD})",
    "CREATE SECRET (TYPE s3)",
    "CREATE TEMP TABLE t AS SELECT 1",
    "CREATE MACRO m(x) AS write_blob('{outside}', x)",
    "CREATE OR REPLACE MACRO main.abs(x) AS write_blob('{outside}', x)",
    "CREATE TYPE t AS INT",
    "CREATE SEQUENCE s",
    "ALTER VIEW raw.sessions RENAME TO x",
    "COMMENT ON VIEW raw.sessions IS 'x'",
    "DELETE FROM raw.sessions",
    "UPDATE raw.sessions SET slot_30m = 1",
    "MERGE INTO raw.sessions USING raw.sessions AS s ON true WHEN MATCHED THEN DELETE",
    "TRUNCATE raw.sessions",
    f"PREPARE p AS SELECT {BAD}",
    f"EXECUTE IMMEDIATE 'SELECT {BAD}'",
    "BEGIN",
    "CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "EXPLAIN ANALYZE CALL enable_logging()",
    "EXPLAIN ANALYZE ATTACH '{outside}'",
    "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
    f"SELECT 1; SELECT {BAD}",
]
OTHERS = [
    "SELECT sleep_ms(1)",
    "SELECT pg_sleep(1)",
    "SELECT setseed(0.5)",
    "SELECT write_log('x')",
    "SELECT nosuch(1)",
]


def content(root: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in root.rglob("*")
    }


@pytest.mark.parametrize("sql", WRITTEN_SOMEWHERE + RUNS_TEXT + READS_ELSEWHERE + NO_READS + OTHERS)
def test_a_hostile_statement_is_refused_before_it_runs(
    catalog: duckdb.DuckDBPyConnection, lake: Lake, tmp_path: Path, sql: str
) -> None:
    before = content(Path(lake.root))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        text = sql.format(root=lake.root, outside=tmp_path / "out", url=url)
        with pytest.raises(QueryRefused) as refusal:
            reading_statement(catalog, text)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert "\n" not in str(refusal.value)
    if sql in WRITTEN_SOMEWHERE:
        # Refused for that, and not because the statement is none.
        assert str(refusal.value).lower().startswith("write_blob() is not allowed here")
    assert list(tmp_path.iterdir()) == []
    assert content(Path(lake.root)) == before


READS = [
    "SELECT (SELECT count(*) FROM generate_series(1, 2)) FROM (FROM raw.sessions) UNION ALL SELECT 1",
    "SELECT [x * 2 FOR x IN [1, 2] IF x > 1], list_transform([1], x -> x + 1), [1, 2][1:], {'a': 1}.a, MAP {1: 2}[1]",
    "SELECT 'a' LIKE 'b', 'a' ILIKE 'b', 'a' SIMILAR TO 'a', 'a' ~ 'b', 'a' GLOB 'b', 'a' || 'b', 7 // 2, 2 ** 3, 5!",
    "SELECT extract(year FROM date '2026-11-18'), interval 3 day, now() AT TIME ZONE 'UTC', current_date, current_user",
    "SELECT position('a' IN 'ba'), substring('abc' FROM 2 FOR 1), trim(' a '), ('Abc').lower().upper(), if(true, 1, 2)",
    "SELECT coalesce(NULL, 1), ifnull(NULL, 1), nullif(1, 2),"
    " greatest(1, 2), TRY_CAST('x' AS INT), TRY(ln(1)), 1 IN (1)",
    "SELECT row_number() OVER w, lag(slot_30m) OVER w FROM raw.sessions WINDOW w AS (ORDER BY slot_30m) LIMIT 3",
    "SELECT max_by(slot_30m, sample_time), median(slot_30m), list(slot_30m ORDER BY slot_30m),"
    " count(DISTINCT slot_30m),"
    " quantile_cont(slot_30m, [0.5]), mode() WITHIN GROUP (ORDER BY slot_30m) FROM raw.sessions",
    "SELECT list_aggregate([1, 2], 'sum'), formatReadableSize(1), to_json({'a': 1}) ->> 'a', md5('x'), typeof(1)",
    "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3) FROM n",
    'WITH "a table" AS (SELECT 1 AS x) FROM "a table" AS t ASOF JOIN "a table" AS u ON t.x >= u.x',
    "UNPIVOT (SELECT 1 AS a, 2 AS b) ON a, b INTO NAME n VALUE v",
    "SELECT * EXCLUDE (slot_30m) FROM memory.raw.sessions USING SAMPLE 3",
    "SELECT COLUMNS('slot.*') FROM raw.sessions LIMIT 1",
    "SELECT unnest([1, 2]) AS i, generate_subscripts([1, 2], 1)",
    "SELECT 'b' COLLATE de AS x ORDER BY x",
    "FROM information_schema.tables",
    "SHOW TABLES FROM raw",
    "SHOW DATABASES",
    "EXPLAIN ANALYZE (SELECT 1)",
    "  explain (ANALYZE, FORMAT json) (SELECT 1) UNION ALL SELECT 2",
    "SELECT new_york(now()), slot_at(date '2026-11-18', '10:30')",
]


@pytest.mark.parametrize("sql", READS)
def test_what_analysts_write_runs(catalog: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert read(catalog, sql).num_columns > 0
