"""Administration commands: runs, forget, doctor, config.

In: command lines. Out: results of `recsys.pipeline.runs`, `.forget` and `.doctor`; imported when a command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.context import CommandContext, command
from recsys.pipeline.result import CommandResult


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    runs = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, show and prune runs.")
    command(runs, "list")(runs_list)
    command(runs, "show")(runs_show)
    command(runs, "prune")(runs_prune)
    app.add_typer(runs, name="runs")
    command(app, "forget")(forget)
    command(app, "doctor")(doctor)
    config = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show the settings.")
    command(config, "show")(config_show)
    app.add_typer(config, name="config")


def runs_list(context: CommandContext) -> CommandResult:
    """List all runs, newest first."""
    from recsys.pipeline.runs import list_runs

    with context.open_project(writes=False) as project:
        return list_runs(project)


def runs_show(
    context: CommandContext, run: Annotated[str, typer.Argument(help="Run id, or 'latest'.")] = "latest"
) -> CommandResult:
    """Show all recorded facts of a run."""
    from recsys.pipeline.runs import show_run

    with context.open_project(writes=False) as project:
        return show_run(project, run)


def runs_prune(
    context: CommandContext,
    keep: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Published runs to keep; default [publish] keep_runs.",
        ),
    ] = None,
) -> CommandResult:
    """Delete the rows of all runs except the published one and the latest ones."""
    from recsys.pipeline.runs import prune

    with context.open_project({"publish.keep_runs": keep}) as project:
        return prune(project)


def forget(
    context: CommandContext,
    user: Annotated[list[str] | None, typer.Argument(help="Ids of the users.")] = None,
    users: Annotated[Path | None, typer.Option(help="File with one user id per line.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> CommandResult:
    """Erase all data of users permanently, in all runs and rejected rows; later ingests skip them too."""
    from recsys.pipeline.forget import forget_users
    from recsys.pipeline.recommend import read_user_ids

    user_ids = read_user_ids(user or (), users) if user or users else []
    if user_ids:
        context.confirm(f"Erase {len(user_ids)} users permanently?", yes=yes)
    with context.open_project() as project:
        return forget_users(project, user_ids)


def doctor(context: CommandContext) -> CommandResult:
    """Check the machine, the libraries, the database, and the disk space and memory this shop needs."""
    from recsys.pipeline.doctor import check_environment

    with context.open_project(writes=False, database_required=False) as project:
        return check_environment(project)


def config_show(
    context: CommandContext,
    changed: Annotated[
        bool,
        typer.Option(
            "--changed",
            help="Show only settings that differ from their default.",
        ),
    ] = False,
) -> CommandResult:
    """Show every setting with its value and origin; secrets are masked."""
    from recsys.config import read, setting_value
    from recsys.errors import NotFoundError
    from recsys.log import redact
    from recsys.pipeline.result import Table

    if not context.project_dir.is_dir():
        raise NotFoundError(f"project folder {context.project_dir.absolute()} does not exist; check the path after -C")
    layered = read(context.project_dir, flags={"database.url": context.database})
    rows = []
    for name, origin in layered.origins.items():
        value = setting_value(layered.settings, name)
        if changed and origin == "default":
            continue
        if name == "database.url":  # show the host, mask the password
            value = redact(layered.settings.database.url.get_secret_value())
        rows.append(
            (name, str(value) if isinstance(value, Path) or hasattr(value, "get_secret_value") else value, origin)
        )
    return CommandResult("config show", tables=[Table("settings", ("setting", "value", "origin"), rows)])
