"""The program `recsys`: registers the commands; usage errors print one line and return exit code 2.

In: the command line. Out: an exit code. Heavy libraries are imported only by the commands, so that `--help` is fast.
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

_ClickUsageError = typer.BadParameter.__mro__[1]  # click's UsageError; its module depends on the Typer version


def _print_version(requested: bool) -> None:  # noqa: FBT001
    if requested:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _callback(
    *,
    version: bool = typer.Option(
        False,
        "--version",
        is_eager=True,
        callback=_print_version,
        help="Show the version.",
    ),  # noqa: ARG001
) -> None:
    """Recommendations for a shop, from its tables back to its tables."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    invalid = next((text for text in arguments if text.encode("utf-8", "replace").decode() != text), None)
    if invalid is not None:
        message = f"the argument {invalid!r} is not UTF-8; pass it in UTF-8"
        return _report_usage_error("", message, json="--json" in arguments)
    try:
        code = app(arguments, standalone_mode=False, prog_name="recsys")
    except typer.Abort:
        return 1
    except BrokenPipeError:  # the reader of stdout has exited, as in `recsys similar ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not isinstance(error, _ClickUsageError):
            raise
        return _handle_usage_error(arguments, error)
    return int(code or 0)


def _handle_usage_error(arguments: list[str], error: Exception) -> int:
    """Report an unknown command or option with click's message in the program's own format."""
    context = getattr(error, "ctx", None)
    message = error.format_message()  # type: ignore[attr-defined]
    if not message or type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(context.get_help() if context else message, err=True)
        return 2
    path = context.command_path if context else "recsys"
    message = f"{message.rstrip('.')}; see '{path} --help'"
    return _report_usage_error(path.removeprefix("recsys").strip(), message, json="--json" in arguments)


def _report_usage_error(command: str, message: str, *, json: bool) -> int:
    from recsys.cli.console import create_error_document, print_error, print_json

    if json:
        print_json(create_error_document(command, message, exit_code=2, warnings=()))
    print_error(message)
    return 2
