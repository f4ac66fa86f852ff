"""The lists: score all users with the models at hand and publish. Run it between nights to catch up with new events.

In: the options of `recsys recommend`, above all `-C FOLDER`. Out: its exit code; 75 and 143 mean call again.

    python -m recsys.jobs.generate_recommendations -C /srv/shop
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from recsys.cli.app import main as recsys


def main(arguments: Sequence[str] | None = None) -> int:
    """Score, write and publish once, and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return recsys(["recommend", *given])


if __name__ == "__main__":
    sys.exit(main())
