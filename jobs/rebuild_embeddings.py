"""The space of products: embed what changed, group it, index it. Run it after the catalogue or the model has changed.

In: the options every command shares, above all `-C FOLDER`. Out: the exit code of the first step that failed, else 0.

    python -m recsys.jobs.rebuild_embeddings -C /srv/shop
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from recsys.cli.app import main as recsys

STEPS = ("embed", "cluster", "index")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps one after the other; the first that fails ends the job."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for step in STEPS:
        code = recsys([step, *given])
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
