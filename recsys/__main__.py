"""Entry point of `python -m recsys`, the same program as `recsys`."""

import sys

from recsys.cli.app import main

sys.exit(main())
