"""Delta Lake: table schemas, exactly-once writes, and DuckDB over them."""
