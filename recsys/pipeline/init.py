"""Making a project: a folder with a commented `recsys.toml`, and the tables in its database.

In: a folder, a database URL. Out: a Report; an existing project is brought up to date, never overwritten.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys.config import FILE, read, template
from recsys.errors import UsageError
from recsys.execution.progress import StageTimer
from recsys.log import redact
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult


def init_project(
    folder: Path,
    watch: StageTimer | None = None,
    *,
    database: str | None = None,
    values: Mapping[str, Any] | None = None,
) -> CommandResult:
    """Make the folder, its settings file and the database schema; what exists stays.

    Args:
        folder: the project folder.
        watch: told about progress.
        database: URL to write into a new `recsys.toml`; SQLite in the folder when not given. A URL with a password is
            used now but not written: it belongs in the environment or in a file named by `database.url_file`.
        values: settings by dotted name to write into a new `recsys.toml`.

    Raises:
        UsageError: the folder is a file, or cannot be written.
    """
    path = folder / FILE
    notes: list[str] = []
    secret = database is not None and redact(database) != database
    layered = read(folder, flags={"database.url": database})  # a wrong file is told before anything is made
    new = not path.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if new:
            written = dict(values or {})
            if database is not None and not secret:
                written["database.url"] = database
            path.write_text(template(written), encoding="utf-8")
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{folder} is a file; name a folder for the project") from error
    if secret:
        notes.append(
            f"the URL has a password, so it is not written to {FILE}: set RECSYS_DATABASE, or database.url_file"
        )
    with Project(layered.settings, watch) as bench:
        bench.store.init()
    where = "" if folder == Path() else f" -C {folder}"
    notes.append(f"next: recsys ingest{where} PATH...")
    return CommandResult(
        "init",
        status="done" if new else "nothing_new",
        artifacts={"settings": path, "database": redact(layered.settings.database_url)},
        notes=notes,
    )
