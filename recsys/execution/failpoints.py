"""Fail points: places where a test can kill the program or raise an error; no effect otherwise.

In: `RECSYS_FAILPOINTS=store.shard.commit.before=kill@2,...` in the environment when this module is first imported.
Out: `failpoint(name)`, called just before and just after each step that must not be left half done; without the
variable it is an empty function.
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

ENV_VARIABLE = "RECSYS_FAILPOINTS"
ACTIONS = ("kill", "raise", "enospc")
_ENTRY = re.compile(r"(?P<name>[a-z0-9_.]+)=(?P<action>[a-z]+)(?:@(?P<nth>[1-9]\d*))?")


class InjectedError(Exception):
    """Error raised by the action `raise`; not a RecsysError, like any unexpected error."""


def parse_plan(text: str) -> dict[str, tuple[str, int]]:
    """Parse `name=action@n,...`: the action runs at the n-th call of the name, by default the first.

    Raises:
        ConfigError: an entry cannot be parsed, or its action does not exist.
    """
    plan = {}
    for entry in filter(None, text.replace(" ", "").split(",")):
        match = _ENTRY.fullmatch(entry)
        if match is None or match["action"] not in ACTIONS:
            raise ConfigError(
                f"{ENV_VARIABLE}: {entry!r} cannot be read; write NAME={'|'.join(ACTIONS)}, with @N for the N-th time"
            )
        plan[match["name"]] = (match["action"], int(match["nth"] or 1))
    return plan


def arm(plan: Mapping[str, tuple[str, int]]) -> Callable[[str], None]:
    """Return a `failpoint` that counts the calls of each name and runs the actions of the plan."""
    calls: Counter[str] = Counter()

    def run_action(name: str) -> None:
        calls[name] += 1
        action, nth = plan.get(name, ("", 0))
        if calls[name] != nth:
            return
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if action == "enospc":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        raise InjectedError(f"fail-point {name}")

    log.warning("fail-points are armed (%s): %s", ENV_VARIABLE, ", ".join(plan))
    return run_action


def _do_nothing(name: str) -> None:  # noqa: ARG001 - same signature as an armed failpoint
    return


_plan = parse_plan(os.environ.get(ENV_VARIABLE, ""))
failpoint: Callable[[str], None] = arm(_plan) if _plan else _do_nothing
