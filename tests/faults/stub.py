"""The process that is broken: it runs one piece of the program, with fail-points armed.

In: what `RECSYS_FAILPOINTS` would be, the name of the work, its arguments, a pipe. Out: what the work says through the
pipe; exit codes of the command line.
"""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any

from recsys.cli.context import _describe_error
from recsys.db.engine import fetch_rows
from recsys.errors import LeaseHeldError, RecsysError
from recsys.execution import failpoints
from recsys.execution import signals as stop
from recsys.store.background_writer import BackgroundWriter
from recsys.store.store import Store
from tests.faults import night as nights

RECORD = "record"
"""In the place of fail-points: pass none, and say at the end how often each was passed."""


def work(armed: str, what: str, arguments: tuple[Any, ...], pipe: Connection) -> None:
    """Run `module:function` with the arguments and `say`, or `pipe` where it wants to be told more on the way.

    The process leaves with the exit code the command line would have.
    """
    passed: Counter[str] = Counter()
    if armed:
        arm((lambda name: passed.update([name])) if armed == RECORD else failpoints.arm(failpoints.parse_plan(armed)))
    module, _, function = what.partition(":")
    try:
        with stop.handle_signals():
            do = getattr(import_module(module), function)
            talk = {"pipe": pipe} if "pipe" in inspect.signature(do).parameters else {"say": pipe.send}
            do(*arguments, **talk)
    except Exception as error:
        message, code = _describe_error(error)
        pipe.send(("error", message))
        sys.exit(code)
    if armed == RECORD:
        pipe.send(passed)


def arm(failpoint: Callable[[str], None]) -> None:
    """Do in this process, which was forked with the program loaded, what the environment does when it is loaded."""
    for name, module in list(sys.modules.items()):
        if name.startswith("recsys.") and hasattr(module, "failpoint"):
            module.failpoint = failpoint  # type: ignore[attr-defined]


def exit_code(what: Callable[[], None], *, armed: str) -> int:
    """Run something in this process with fail-points armed; the exit code the command line would leave with."""
    before = failpoints.failpoint
    if armed:
        arm(failpoints.arm(failpoints.parse_plan(armed)))
    try:
        what()
    except Exception as error:
        return _describe_error(error)[1]
    finally:
        arm(before)
    return 0


class Child:
    """A process at work, and what it has said."""

    def __init__(
        self, context: ForkServerContext, what: str, *arguments: Any, armed: str = "", daemon: bool = True
    ) -> None:
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=work, args=(armed, what, arguments, theirs), daemon=daemon)
        self.process.start()
        theirs.close()
        self.said: list[Any] = []
        self.code: int | None = None

    def hear(self, *, timeout: float = 120) -> Any:
        """The next thing it says.

        Raises:
            EOFError: it is gone.
        """
        if not self.pipe.poll(timeout):
            raise TimeoutError(f"the process said nothing for {timeout} s after {self.said[-3:]}")
        self.said.append(self.pipe.recv())
        return self.said[-1]

    def kill(self, *, after: int, pause: float) -> None:
        """SIGKILL when it has said `after` things and `pause` seconds have gone by, or when it has ended."""
        try:
            for _ in range(after):
                self.hear()
            time.sleep(pause)
        except EOFError:
            pass
        self.process.kill()
        self.ended()

    def ended(self, *, timeout: float = 120) -> int:
        """Wait for the end; the exit code, negative for a signal."""
        try:
            while True:
                self.hear(timeout=timeout)
        except (EOFError, ConnectionResetError):
            pass
        self.process.join(timeout)
        assert self.process.exitcode is not None, "the process does not end"
        self.pipe.close()
        self.code = self.process.exitcode
        return self.code


@contextmanager
def taken(url: str) -> Iterator[Any]:
    """The store of a process that is gone; a PostgreSQL server needs a moment to notice that its client is."""
    for _ in range(200):
        try:
            store = Store.open(url)
            break
        except LeaseHeldError:
            time.sleep(0.02)
    else:
        store = Store.open(url)
    with store:
        yield store


def night(url: str, version: str, *, say: Any) -> None:
    """A whole night; see `tests.faults.night`."""
    with Store.open(url) as store:
        say("open")
        nights.night(store, version, say=say)


def lease(url: str, *, say: Any) -> None:
    """Hold the store until somebody ends it."""
    with Store.open(url):
        say("held")
        time.sleep(600)


def publisher(url: str, *, pipe: Connection) -> None:
    """Publish every run whose id comes through the pipe, without the store's lease; None ends it."""
    with Store.open(url, lease=False) as store:
        pipe.send("ready")
        while (run_id := pipe.recv()) is not None:
            try:
                store.publish(run_id, guards=nights.GUARDS, expected_users=nights.USERS)
                pipe.send(run_id)
            except RecsysError as error:
                pipe.send((type(error).__name__, str(error)))


def reader(url: str, sizes: dict[str, int], *, pipe: Connection) -> None:
    """Read all lists again and again, in one statement and user by user, until told to stop.

    Says in the end how many times it read, what was wrong, and the seconds of each read, sorted.
    """
    wrong, seconds = [], []
    users = [f"u{number:04d}" for number in (0, nights.USERS - 1)]
    with Store.open(url, lease=False) as store:
        pipe.send("ready")
        while not pipe.poll():
            began = time.perf_counter()
            found = fetch_rows(
                store.engine, "SELECT run_id, reason, COUNT(*) FROM recommendations GROUP BY run_id, reason", {}
            )
            seconds.append(time.perf_counter() - began)
            if [(reason, count) for _, reason, count in found] not in [[item] for item in sizes.items()]:
                wrong.append(found)
            some = store.recommendations(users)  # several statements, one state
            if some["reason"].n_unique() != 1 or some.height != 2 * (3 + len(some["reason"][0])):
                wrong.append(some.rows())
    pipe.send((len(seconds), wrong, sorted(seconds)))


def stopping_night(url: str, version: str, at: int, busy: bool, *, pipe: Connection) -> None:
    """A whole night that stays at its step number `at`: busy writing, or until it is told to go on."""
    said: list[str] = []
    with Store.open(url) as store:

        def spoken(step: str) -> None:
            said.append(step)
            if len(said) == at:
                pipe.send(step)
                while busy:
                    nights.embed(store, version + "b" * (len(said) % 2))
                    said.append("again")
                pipe.recv()

        nights.night(store, version, say=spoken)


def working() -> None:
    """A minute in short pieces: Python hears of a signal between them, but not in a sleep that it came just before."""
    for _ in range(600):
        time.sleep(0.1)


def stopped_run(url: str, version: str, at: int, writing: bool, *, say: Any) -> None:
    """Score as `recsys recommend` does, and wait to be stopped at shard `at`: before it is handed over, or after."""
    with (
        Store.open(url) as store,
        store.begin_run("recommend", nights.manifest(version)) as run,
        BackgroundWriter(run) as writer,
    ):
        for shard in range(nights.SHARDS):
            frame = nights.scored(shard, version)
            if shard == at and not writing:
                say(shard)
                working()
            writer.write(shard, frame, n_users=nights.USERS_IN_SHARD)
            if shard == at and writing:
                say(shard)
                working()


def command(arguments: list[str], environment: dict[str, str], *, say: Any) -> None:
    """A command line of the program."""
    from recsys.cli.app import main

    os.environ.update(environment)
    code = main(arguments)
    if code:
        sys.exit(code)
