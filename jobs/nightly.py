"""The night: ingest from the source, train when stale, embed, cluster, index, recommend, publish, report.

In: the options of `recsys run`, above all `-C FOLDER`. Out: its exit code, for cron, Airflow or a Kubernetes job.

    python -m recsys.jobs.nightly -C /srv/shop

0 done; 4 the guards refused the new lists, the old ones stay; 75 try again later (another run holds the store, or the
database is away); 143 stopped by a signal after a checkpoint. After 75 and 143 the same call goes on where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from recsys.cli.app import main as recsys


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chain once and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return recsys(["run", *given])


if __name__ == "__main__":
    sys.exit(main())
