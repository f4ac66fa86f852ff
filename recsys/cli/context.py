"""One call of one command: the options every command shares, and what happens to its result or its error.

In: a function `(call, own options) -> Report`. Out: a Typer command with the shared options appended, an exit code.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from recsys.execution import torchrun as crew

if TYPE_CHECKING:
    from recsys.config import Settings
    from recsys.execution.progress import StageTimer
    from recsys.pipeline.project import Project
    from recsys.pipeline.result import CommandResult

BUG = 70

SHARED: Mapping[str, Any] = {
    "project_dir": (Annotated[Path, typer.Option("-C", "--project-dir", help="Project folder.")], Path()),
    "database": (Annotated[str | None, typer.Option(help="Database URL [env: RECSYS_DATABASE].")], None),
    "json": (Annotated[bool, typer.Option("--json", help="Print one JSON document.")], False),
    "quiet": (Annotated[bool, typer.Option("-q", "--quiet", help="Only errors and data.")], False),
    "verbose": (Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more; twice for details.")], 0),
    "debug": (Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")], False),
}


@dataclass
class CommandContext:
    """The shared options of one call, and what was warned about while it ran."""

    command: str
    project_dir: Path
    database: str | None
    json: bool
    quiet: bool
    verbose: int
    debug: bool
    warnings: list[str] = field(default_factory=list)

    def settings(self, flags: Mapping[str, Any] | None = None, *, project: Path | None = None) -> Settings:
        """All layers of settings with this command's flags on top.

        Raises:
            UsageError: there is no project here and no database is named either.
            ConfigError: see `recsys.config.read`.
        """
        from recsys.config import FILE, read
        from recsys.errors import UsageError

        folder = project or self.project_dir
        layered = read(folder, flags={"database.url": self.database, **(flags or {})})
        named = layered.origins["database.url"] in {"flag", "environment"}
        if not (folder / FILE).exists() and not named:
            raise UsageError(
                f"no {FILE} in {folder.absolute()}: make a project with 'recsys init DIR', "
                "or name its folder with -C, or a database with --database"
            )
        return layered.settings

    def open_project(
        self, flags: Mapping[str, Any] | None = None, *, writes: bool = True, part: bool = False
    ) -> Project:
        """The project at work; use it in a `with` block."""
        from recsys.pipeline.project import Project

        return Project(self.settings(flags), self.progress(), writes=writes, part=part)

    def progress(self) -> StageTimer:
        """Progress on stderr: bars on a terminal, else a line now and then, nothing with --quiet."""
        from recsys.cli import console as output
        from recsys.execution.progress import StageTimer

        if self.quiet or crew.is_helper():
            return StageTimer()
        return StageTimer(output.ProgressBars() if sys.stderr.isatty() else output.ProgressLines())

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask on a terminal unless --yes was given; a script is not asked.

        Raises:
            UsageError: the answer was no.
        """
        from recsys.errors import UsageError

        if not yes and not self.json and sys.stdin.isatty() and not typer.confirm(question, err=True):
            raise UsageError("nothing was changed")


class _Warnings(logging.Handler):
    """Collects what the rooms warn about, for the report's list."""

    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        from recsys.log import redact

        text = redact(record.getMessage())
        if text not in self._into:
            self._into.append(text)


@contextlib.contextmanager
def _logged(call: CommandContext) -> Iterator[None]:
    from recsys.log import set_up

    logger = logging.getLogger("recsys")
    before = logger.handlers[:], logger.level, logger.propagate
    set_up(-1 if call.quiet else call.verbose)
    logger.addHandler(_Warnings(call.warnings))
    try:
        yield
    finally:  # a program that calls `main` gets its own log back
        logger.handlers[:], logger.level, logger.propagate = before


def command(
    app: typer.Typer, name: str, **settings: Any
) -> Callable[[Callable[..., CommandResult]], Callable[..., None]]:
    """Register a function as a command that also takes the shared options.

    Args:
        app: where to register it.
        name: what the user types.
        settings: handed to Typer's own `command`.
    """

    def register(function: Callable[..., CommandResult]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        own = [
            parameter.replace(annotation=hints[parameter.name])
            for parameter in list(inspect.signature(function).parameters.values())[1:]
        ]
        shared = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
            for key, (kind, default) in SHARED.items()
        ]
        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own] + shared

        def called(**given: Any) -> None:
            call = CommandContext(function.__name__.rstrip("_"), **{key: given.pop(key) for key in SHARED})
            code = run_command(call, lambda: function(call, **given))
            if code:
                raise typer.Exit(code)

        called.__name__ = function.__name__
        called.__doc__ = function.__doc__
        called.__annotations__ = {one.name: one.annotation for one in parameters}
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        app.command(name, **settings)(called)
        return called

    return register


def run_command(call: CommandContext, work: Callable[[], CommandResult]) -> int:
    """Do the work, print its report or its error, return the exit code."""
    from recsys.cli import console as output
    from recsys.execution import signals as stop

    try:
        with _logged(call), stop.handle_signals():
            report = work()
    except BrokenPipeError:
        raise
    except Exception as error:
        message, code = _explained(error)
        if call.debug:
            import traceback

            traceback.print_exc(file=sys.stderr)
        if call.json and not crew.is_helper():
            output.show_json(output.error_document(call.command, message, exit_code=code, warnings=call.warnings))
        output.show_error(message)
        return code
    if crew.is_helper():
        return 0  # the first process tells what came out
    if call.json:
        document = report.to_json()
        document["warnings"] = list(dict.fromkeys([*document["warnings"], *call.warnings]))
        output.show_json(document)
    else:
        output.print_result(report, quiet=call.quiet)
    return 0


def _explained(error: Exception) -> tuple[str, int]:
    """The one line and the exit code of an error."""
    import errno

    from recsys.errors import RecsysError
    from recsys.log import redact

    if isinstance(error, RecsysError):
        return redact(str(error)), error.exit_code
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"the disk is full ({error.filename or error.strerror}); free some space and repeat the command", 75
    if os.strerror(errno.ENOSPC) in str(error):  # libraries that are not Python have errors of their own
        return "the disk is full; free some space and repeat the command", 75
    if isinstance(error, PermissionError):
        return f"not allowed: {error.filename or error}; check who owns it", 1
    if isinstance(error, MemoryError):
        return "out of memory; use smaller [recommend] shard_users or [training] batch_size", 1
    line = " ".join(str(error).split())[:300]
    return redact(f"bug: {type(error).__name__}: {line}; repeat with --debug for the traceback and report it"), BUG
