"""polars with ADBC writing a frame into SQLite, round by round, in an environment of its own.

In: a Parquet file; on stdin the path of a database with an empty table recommendations_all, one a line. Out: for each
a line of JSON with the seconds. Imports nothing of ours; needs polars, pyarrow and adbc-driver-sqlite:

    PEERS_PYTHON benchmarks/writeback_peer.py FRAME.parquet
"""

from __future__ import annotations

import json
import sys
import time
from importlib import metadata


def main() -> int:
    import polars as pl

    frame = pl.read_parquet(sys.argv[1])
    names = ("polars", "adbc-driver-sqlite")
    print(json.dumps({"versions": {name: metadata.version(name) for name in names}}), flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        frame.write_database(
            "recommendations_all", f"sqlite:///{line.strip()}", engine="adbc", if_table_exists="append"
        )
        print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
