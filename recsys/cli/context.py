"""Command invocation: the options shared by all commands, and the handling of results and errors.

In: a function `(context, options) -> CommandResult`. Out: a Typer command with the shared options, an exit code.
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

from recsys.execution.torchrun import is_helper

if TYPE_CHECKING:
    from recsys.config import Settings
    from recsys.execution.progress import StageTimer
    from recsys.pipeline.project import Project
    from recsys.pipeline.result import CommandResult

BUG_EXIT_CODE = 70

SHARED_OPTIONS: Mapping[str, Any] = {
    "project_dir": (Annotated[Path, typer.Option("-C", "--project-dir", help="Project folder.")], Path()),
    "database": (Annotated[str | None, typer.Option(help="Database URL [env: RECSYS_DATABASE].")], None),
    "json": (Annotated[bool, typer.Option("--json", help="Print one JSON document.")], False),
    "quiet": (Annotated[bool, typer.Option("-q", "--quiet", help="Print only data and errors.")], False),
    "verbose": (
        Annotated[
            int,
            typer.Option(
                "-v",
                "--verbose",
                count=True,
                help="Print more messages; twice for details.",
            ),
        ],
        0,
    ),
    "debug": (Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")], False),
}


@dataclass
class CommandContext:
    """Shared options of a command invocation, and the warnings logged while it runs."""

    command: str
    project_dir: Path
    database: str | None
    json: bool
    quiet: bool
    verbose: int
    debug: bool
    warnings: list[str] = field(default_factory=list)

    def load_settings(self, flags: Mapping[str, Any] | None = None, *, project: Path | None = None) -> Settings:
        """Load the settings with this command's flags as the top layer.

        Raises:
            NotFoundError: there is no such folder, or it is no project and no database is named.
            ConfigError: see `recsys.config.read`.
        """
        from recsys.config import read
        from recsys.pipeline.project import require_project

        folder = project or self.project_dir
        layered = read(folder, flags={"database.url": self.database, **(flags or {})})
        require_project(folder, database_is_named=layered.origins["database.url"] in {"flag", "environment"})
        return layered.settings

    def open_project(
        self,
        flags: Mapping[str, Any] | None = None,
        *,
        writes: bool = True,
        part: bool = False,
        database_required: bool = True,
    ) -> Project:
        """Open the project; use it in a `with` block.

        Args:
            flags: settings by dotted name.
            writes: whether the command writes to the store.
            part: whether this process writes one part of a run.
            database_required: whether a missing SQLite file is an error at once.

        Raises:
            NotFoundError: there is no such project or SQLite file; nothing is created.
        """
        from recsys.pipeline.project import Project, require_database

        settings = self.load_settings(flags)
        if database_required and not is_helper():  # the main process reports it
            require_database(settings)
        return Project(settings, self.create_progress(), writes=writes, is_part=part)

    def create_progress(self) -> StageTimer:
        """Return the progress display on stderr: bars on a terminal, else lines; none with --quiet."""
        from recsys.cli.console import ProgressBars, ProgressLines
        from recsys.execution.progress import StageTimer

        if self.quiet or is_helper():
            return StageTimer()
        return StageTimer(ProgressBars() if sys.stderr.isatty() else ProgressLines())

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask for confirmation on a terminal unless --yes was given; scripts are not asked.

        Raises:
            UsageError: the answer was no.
        """
        from recsys.errors import UsageError

        if not yes and not self.json and sys.stdin.isatty() and not typer.confirm(question, err=True):
            raise UsageError("nothing was changed")


class _WarningCollector(logging.Handler):
    """Collects logged warnings for the result of the command."""

    def __init__(self, warnings: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._warnings = warnings

    def emit(self, record: logging.LogRecord) -> None:
        from recsys.log import redact

        text = redact(record.getMessage())
        if text not in self._warnings:
            self._warnings.append(text)


@contextlib.contextmanager
def _configure_logging(context: CommandContext) -> Iterator[None]:
    """Set up the log for a command, collect its warnings, and restore the previous handlers at the end."""
    from recsys.log import set_up

    logger = logging.getLogger("recsys")
    previous = logger.handlers[:], logger.level, logger.propagate
    set_up(-1 if context.quiet else context.verbose)
    logger.addHandler(_WarningCollector(context.warnings))
    try:
        yield
    finally:  # a program that calls `main` has its own log
        logger.handlers[:], logger.level, logger.propagate = previous


def command(
    app: typer.Typer, name: str, **settings: Any
) -> Callable[[Callable[..., CommandResult]], Callable[..., None]]:
    """Register a function as a command that also takes the shared options.

    Args:
        app: where to register it.
        name: of the command on the command line.
        settings: passed to Typer's `command`.
    """

    def register(function: Callable[..., CommandResult]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        options = [
            parameter.replace(annotation=hints[parameter.name])
            for parameter in list(inspect.signature(function).parameters.values())[1:]
        ]
        shared = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
            for key, (kind, default) in SHARED_OPTIONS.items()
        ]
        parameters = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options] + shared

        def wrapper(**values: Any) -> None:
            context = CommandContext(function.__name__.rstrip("_"), **{key: values.pop(key) for key in SHARED_OPTIONS})
            code = run_command(context, lambda: function(context, **values))
            if code:
                raise typer.Exit(code)

        wrapper.__name__ = function.__name__
        wrapper.__doc__ = function.__doc__
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        app.command(name, **settings)(wrapper)
        return wrapper

    return register


def run_command(context: CommandContext, work: Callable[[], CommandResult]) -> int:
    """Run a command, print its result or error, and return the exit code."""
    from recsys.cli.console import create_error_document, print_error, print_json, print_result
    from recsys.execution.signals import handle_signals

    try:
        with _configure_logging(context), handle_signals():
            result = work()
    except BrokenPipeError:
        raise
    except Exception as error:
        message, code = _describe_error(error)
        if context.debug:
            import traceback

            traceback.print_exc(file=sys.stderr)
        if context.json and not is_helper():
            print_json(create_error_document(context.command, message, exit_code=code, warnings=context.warnings))
        print_error(message)
        return code
    if is_helper():
        return 0  # the main process prints the result
    if context.json:
        document = result.to_json()
        document["warnings"] = list(dict.fromkeys([*document["warnings"], *context.warnings]))
        print_json(document)
    else:
        print_result(result, quiet=context.quiet)
    return 0


def _describe_error(error: Exception) -> tuple[str, int]:
    """Return the one-line message and the exit code of an error."""
    import errno

    from recsys.errors import RecsysError
    from recsys.log import redact

    if isinstance(error, RecsysError):
        return redact(str(error)), error.exit_code
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"the disk is full ({error.filename or error.strerror}); free some space and repeat the command", 75
    if os.strerror(errno.ENOSPC) in str(error):  # native libraries raise errors of their own types
        return "the disk is full; free some space and repeat the command", 75
    if isinstance(error, PermissionError):
        return f"not allowed: {error.filename or error}; check who owns it", 1
    if isinstance(error, MemoryError):
        return "out of memory; use smaller [recommend] shard_users or [training] batch_size", 1
    line = " ".join(str(error).split())[:300]
    return redact(
        f"bug: {type(error).__name__}: {line}; repeat with --debug for the traceback and report it"
    ), BUG_EXIT_CODE
