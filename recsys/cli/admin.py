"""Commands that look after a project: runs, forget, doctor, config.

In: command lines. Out: reports of `recsys.pipeline.runs`, `.forgetting` and `.health`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.context import CommandContext, command
from recsys.pipeline.result import CommandResult


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    runs = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The run ledger.")
    command(runs, "list")(runs_list)
    command(runs, "show")(runs_show)
    command(runs, "prune")(runs_prune)
    app.add_typer(runs, name="runs")
    command(app, "forget")(forget)
    command(app, "doctor")(doctor)
    config = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The settings.")
    command(config, "show")(config_show)
    app.add_typer(config, name="config")


def runs_list(call: CommandContext) -> CommandResult:
    """List all runs, newest first."""
    from recsys.pipeline import runs as ledger

    with call.open_project(writes=False) as bench:
        return ledger.list_runs(bench)


def runs_show(
    call: CommandContext, run: Annotated[str, typer.Argument(help="Run id, or 'latest'.")] = "latest"
) -> CommandResult:
    """Show everything noted about one run."""
    from recsys.pipeline import runs as ledger

    with call.open_project(writes=False) as bench:
        return ledger.show_run(bench, run)


def runs_prune(
    call: CommandContext,
    keep: Annotated[int | None, typer.Option(min=1, help="Runs kept; default [publish] keep_runs.")] = None,
) -> CommandResult:
    """Delete the rows of runs that are neither published nor among the last ones."""
    from recsys.pipeline import runs as ledger

    with call.open_project({"publish.keep_runs": keep}) as bench:
        return ledger.prune(bench)


def forget(
    call: CommandContext,
    user: Annotated[list[str] | None, typer.Argument(help="Ids of the users.")] = None,
    users: Annotated[Path | None, typer.Option(help="The users in this file, one a line.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> CommandResult:
    """Erase users everywhere, for good: rows, lists of all runs, rejected rows; also on later ingests."""
    from recsys.pipeline import forget as forgetting
    from recsys.pipeline import recommend as lists

    named = lists.read_user_ids(user or (), users) if user or users else []
    if named:
        call.confirm(f"Erase {len(named)} users for good?", yes=yes)
    with call.open_project() as bench:
        return forgetting.forget_users(bench, named)


def doctor(call: CommandContext) -> CommandResult:
    """Look at the machine, the libraries, the database, the disk and the memory this shop needs."""
    from recsys.pipeline import doctor as health

    with call.open_project(writes=False) as bench:
        return health.check_environment(bench)


def config_show(
    call: CommandContext,
    changed: Annotated[bool, typer.Option("--changed", help="Only settings that are not the default.")] = False,
) -> CommandResult:
    """Show every setting, its value and where it came from; secrets are masked."""
    from recsys.config import read, value_of
    from recsys.log import redact
    from recsys.pipeline.result import Table

    layered = read(call.project_dir, flags={"database.url": call.database})
    rows = []
    for name, origin in layered.origins.items():
        value = value_of(layered.settings, name)
        if changed and origin == "default":
            continue
        if name == "database.url":  # the address is worth seeing, its password is not
            value = redact(layered.settings.database.url.get_secret_value())
        rows.append(
            (name, str(value) if isinstance(value, Path) or hasattr(value, "get_secret_value") else value, origin)
        )
    return CommandResult("config show", tables=[Table("settings", ("setting", "value", "origin"), rows)])
