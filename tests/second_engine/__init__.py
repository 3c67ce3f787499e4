"""A second engine: rollup, open interest and adjustment in polars, written from the design's words alone.

It answers to nothing but those words; the dbt project is held against it row for row.
"""
