"""Update embeddings, clusters and index. Run it after the catalogue or the model has changed.

In: the options shared by all commands, usually `-C FOLDER`. Out: the exit code of the first failed step, else 0.

    python -m recsys.jobs.rebuild_embeddings -C /srv/shop
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from recsys.cli.app import main as recsys

STEPS = ("embed", "cluster", "index")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps in order and stop at the first that fails."""
    options = list(sys.argv[1:] if arguments is None else arguments)
    for step in STEPS:
        code = recsys([step, *options])
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
