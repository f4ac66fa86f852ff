"""Places where a test may make the program die, fail or find the disk full; elsewhere they do nothing.

In: `RECSYS_FAILPOINTS=store.shard.commit.before=kill@2,...` in the environment when this module is first imported.
Out: `failpoint(name)`, called just before and just after whatever must not be left half done; without the variable it
is an empty function.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Mapping

from recsys.errors import ConfigError

log = logging.getLogger(__name__)

ENV = "RECSYS_FAILPOINTS"
ACTIONS = ("kill", "raise", "enospc")
_ENTRY = re.compile(r"(?P<name>[a-z0-9_.]+)=(?P<action>[a-z]+)(?:@(?P<nth>[1-9]\d*))?")


class InjectedError(Exception):
    """What `raise` raises: no error of the house, as an unforeseen one would be none."""


def parse_plan(text: str) -> dict[str, tuple[str, int]]:
    """Read `name=action@n,...`: the action at the n-th time the name is passed, the first where no n is given.

    Raises:
        ConfigError: an entry cannot be read, or names an action that does not exist.
    """
    plan = {}
    for entry in filter(None, text.replace(" ", "").split(",")):
        found = _ENTRY.fullmatch(entry)
        if found is None or found["action"] not in ACTIONS:
            raise ConfigError(
                f"{ENV}: {entry!r} cannot be read; write NAME={'|'.join(ACTIONS)}, with @N for the N-th time"
            )
        plan[found["name"]] = (found["action"], int(found["nth"] or 1))
    return plan


def arm(plan: Mapping[str, tuple[str, int]]) -> Callable[[str], None]:
    """A `failpoint` that counts how often each name is passed and does what the plan says."""
    passed: Counter[str] = Counter()

    def reach(name: str) -> None:
        passed[name] += 1
        action, nth = plan.get(name, ("", 0))
        if passed[name] != nth:
            return
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if action == "enospc":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        raise InjectedError(f"fail-point {name}")

    log.warning("fail-points are armed (%s): %s", ENV, ", ".join(plan))
    return reach


def _nothing(name: str) -> None:  # noqa: ARG001 - the name is what an armed one goes by
    return


_plan = parse_plan(os.environ.get(ENV, ""))
failpoint: Callable[[str], None] = arm(_plan) if _plan else _nothing
