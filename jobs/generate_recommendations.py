"""Compute and publish recommendations with the existing models.

Run it between nightly runs to take new events into account.

In: the options of `recsys recommend`, usually `-C FOLDER`. Out: its exit code; after 75 and 143 run it again.

    python -m recsys.jobs.generate_recommendations -C /srv/shop
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from recsys.cli.app import main as recsys


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute and publish the recommendations once and return the exit code."""
    options = list(sys.argv[1:] if arguments is None else arguments)
    return recsys(["recommend", *options])


if __name__ == "__main__":
    sys.exit(main())
