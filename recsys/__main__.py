"""`python -m recsys` is the program `recsys`."""

import sys

from recsys.cli.app import main

sys.exit(main())
