"""The nightly run: ingest, train if stale, embed, cluster, index, recommend, publish, report.

In: the options of `recsys run`, usually `-C FOLDER`. Out: its exit code, for cron, Airflow or a Kubernetes job.

    python -m recsys.jobs.nightly -C /srv/shop

Exit codes: 0 done; 4 a guard failed, the published recommendations stay; 75 try again later (another run uses the
store, or the database is unavailable); 143 stopped by a signal after a checkpoint. After 75 and 143 run it again; it
resumes where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from recsys.cli.app import main as recsys


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pipeline once and return the exit code."""
    options = list(sys.argv[1:] if arguments is None else arguments)
    return recsys(["run", *options])


if __name__ == "__main__":
    sys.exit(main())
