"""Commands that look after a project: runs, forget, doctor, config.

In: command lines. Out: reports of `recsys.pipeline.runs`, `.forgetting` and `.health`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.context import Call, command
from recsys.pipeline.result import Report


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


def runs_list(call: Call) -> Report:
    """List all runs, newest first."""
    from recsys.pipeline import runs as ledger

    with call.bench(writes=False) as bench:
        return ledger.listing(bench)


def runs_show(call: Call, run: Annotated[str, typer.Argument(help="Run id, or 'latest'.")] = "latest") -> Report:
    """Show everything noted about one run."""
    from recsys.pipeline import runs as ledger

    with call.bench(writes=False) as bench:
        return ledger.shown(bench, run)


def runs_prune(
    call: Call,
    keep: Annotated[int | None, typer.Option(min=1, help="Runs kept; default [publish] keep_runs.")] = None,
) -> Report:
    """Delete the rows of runs that are neither published nor among the last ones."""
    from recsys.pipeline import runs as ledger

    with call.bench({"publish.keep_runs": keep}) as bench:
        return ledger.prune(bench)


def forget(
    call: Call,
    user: Annotated[list[str] | None, typer.Argument(help="Ids of the users.")] = None,
    users: Annotated[Path | None, typer.Option(help="The users in this file, one a line.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> Report:
    """Erase users everywhere, for good: rows, lists of all runs, rejected rows; also on later ingests."""
    from recsys.pipeline import forget as forgetting
    from recsys.pipeline import recommend as lists

    named = lists.named(user or (), users) if user or users else []
    if named:
        call.confirmed(f"Erase {len(named)} users for good?", yes=yes)
    with call.bench() as bench:
        return forgetting.forget(bench, named)


def doctor(call: Call) -> Report:
    """Look at the machine, the libraries, the database, the disk and the memory this shop needs."""
    from recsys.pipeline import doctor as health

    with call.bench(writes=False) as bench:
        return health.doctor(bench)


def config_show(
    call: Call,
    changed: Annotated[bool, typer.Option("--changed", help="Only settings that are not the default.")] = False,
) -> Report:
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
    return Report("config show", tables=[Table("settings", ("setting", "value", "origin"), rows)])
