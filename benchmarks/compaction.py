"""What a day takes on disk, and what packing it takes: ``python benchmarks/compaction.py [--contracts 250000]``.

One generated day of ``raw/option_quotes`` (250,000 contracts in 14 slots and the close view, all columns). In one run:

- appended: bytes a row as capture leaves it (unsorted, snappy, one commit a slot);
- merged: after the compaction of a hot day; packed: after the rewrite of a cold one (z-order, zstd, encodings);
- native: the appended rows as a table of a DuckDB database file;
- seconds and peak memory of the rewrite, in a process of its own: proof of the rows and checkpoint included.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import duckdb
import generated_lake

from lake.duck import load_delta
from lake.files import live_files
from lake.store import Lake

TABLE = "raw/option_quotes"
COMPACT = """
import json, re, sys, time
from datetime import date, timedelta
from lake.maintenance.compaction import candidates, compact
from lake.maintenance.lock import maintainer
from lake.store import Lake
lake, today, hot_from = Lake.open(sys.argv[1]), date.fromisoformat(sys.argv[2]), date.fromisoformat(sys.argv[3])
started = time.perf_counter()
with maintainer(lake, "benchmark") as hold:
    chosen = [each for each in candidates(lake, today, hot_from) if each.table == "raw/option_quotes"]
    done = list(compact(lake, chosen, hold))
# getrusage would tell the peak of the process that started this one, where that was higher.
(peak,) = re.findall(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
print(json.dumps({"seconds": round(time.perf_counter() - started, 1), "partitions": len(done),
    "peak_gb": round(int(peak) / 1048576, 2)}))
"""


def compact(lake: Lake, today: date, hot_from: date) -> dict[str, float]:
    command = [sys.executable, "-c", COMPACT, lake.root, str(today), str(hot_from)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def size(lake: Lake) -> dict[str, float]:
    table = lake.table(TABLE)
    assert table is not None
    files = live_files(table)
    rows = sum(file.rows for file in files)
    return {
        "rows": rows,
        "files": len(files),
        "bytes_per_row": round(sum(file.size for file in files) / rows, 1),
    }


def native(lake: Lake, folder: Path) -> float:
    """Bytes a row of the same rows, as they were appended, in a DuckDB database file."""
    path = folder / "native.duckdb"
    connection = duckdb.connect(str(path))
    load_delta(connection)
    connection.execute(f"create table option_quotes as select * from delta_scan('{lake.uri(TABLE)}')")
    (rows,) = connection.execute("select count(*) from option_quotes").fetchone() or (0,)
    connection.close()
    return round(path.stat().st_size / rows, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--contracts", type=int, default=250_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lake = generated_lake.create(Path(folder) / "lake")
        (session,) = generated_lake.sessions_from(date(2026, 3, 2), 1)
        generated_lake.record(lake, session, asked.contracts)
        day, tomorrow = session.trade_date, date.fromordinal(session.trade_date.toordinal() + 1)
        figures: dict[str, object] = {"appended": size(lake), "native": native(lake, Path(folder))}
        figures["merge"] = compact(lake, tomorrow, day)
        figures["merged"] = size(lake)
        figures["pack"] = compact(lake, tomorrow, tomorrow)
        figures["packed"] = size(lake)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
