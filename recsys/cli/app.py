"""The program `recsys`: collects the commands and turns a wrong call into one line and exit code 2.

In: the command line. Out: an exit code. Nothing heavy is imported here, so `--help` is instant.
"""

from __future__ import annotations

import os
import sys

import typer

from recsys._version import __version__
from recsys.cli import admin, build, serve

app = typer.Typer(
    name="recsys",
    help="Recommendations for a shop, from its tables back to its tables.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich takes longer to import than everything else in --help
    pretty_exceptions_enable=False,
)
build.register(app)
serve.register(app)
admin.register(app)

_WrongCall = typer.BadParameter.__mro__[1]  # click's UsageError, wherever this Typer keeps click


def _version(asked: bool) -> None:  # noqa: FBT001
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _program(
    *,
    version: bool = typer.Option(False, "--version", is_eager=True, callback=_version, help="Show the version."),  # noqa: ARG001
) -> None:
    """Recommendations for a shop, from its tables back to its tables."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    broken = next((text for text in given if text.encode("utf-8", "replace").decode() != text), None)
    if broken is not None:
        return _refused("", f"the argument {broken!r} is not UTF-8; mend it", json="--json" in given)
    try:
        code = app(given, standalone_mode=False, prog_name="recsys")
    except typer.Abort:
        return 1
    except BrokenPipeError:  # the reader of our output has gone, as in `recsys similar ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not isinstance(error, _WrongCall):
            raise
        return _wrong_call(given, error)
    return int(code or 0)


def _wrong_call(given: list[str], error: Exception) -> int:
    """An unknown command or option: click's message, in our form."""
    context = getattr(error, "ctx", None)
    message = error.format_message()  # type: ignore[attr-defined]
    if not message or type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(context.get_help() if context else message, err=True)
        return 2
    path = context.command_path if context else "recsys"
    message = f"{message.rstrip('.')}; see '{path} --help'"
    return _refused(path.removeprefix("recsys").strip(), message, json="--json" in given)


def _refused(command: str, message: str, *, json: bool) -> int:
    from recsys.cli import console as output

    if json:
        output.show_json(output.error_document(command, message, exit_code=2, warnings=()))
    output.show_error(message)
    return 2
