"""The `init` command: creates a project folder with a commented `recsys.toml`, and the tables of its database.

In: a folder, a database URL. Out: a result; an existing project is upgraded, never overwritten.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys.config import FILE_NAME, read, toml_template
from recsys.errors import UsageError
from recsys.execution.progress import StageTimer
from recsys.log import redact
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult


def init_project(
    folder: Path,
    progress: StageTimer | None = None,
    *,
    database: str | None = None,
    values: Mapping[str, Any] | None = None,
) -> CommandResult:
    """Create the folder, its settings file and the database schema; existing ones stay.

    Args:
        folder: the project folder.
        progress: receives progress.
        database: URL to write into a new `recsys.toml`; SQLite in the folder when not given. A URL with a password is
            used now but not written: it belongs in the environment or in a file named by `database.url_file`.
        values: settings by dotted name to write into a new `recsys.toml`.

    Raises:
        UsageError: the folder is a file, or cannot be written.
    """
    path = folder / FILE_NAME
    notes: list[str] = []
    has_password = database is not None and redact(database) != database
    layered = read(folder, flags={"database.url": database})  # an invalid file is refused before anything is created
    new = not path.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if new:
            written = dict(values or {})
            if database is not None and not has_password:
                written["database.url"] = database
            path.write_text(toml_template(written), encoding="utf-8")
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{folder} is a file; name a folder for the project") from error
    if has_password:
        notes.append(
            f"the URL has a password, so it is not written to {FILE_NAME}: set RECSYS_DATABASE, or database.url_file"
        )
    with Project(layered.settings, progress, creates_database=True) as project:
        project.store.init()
    option = "" if folder == Path() else f" -C {folder}"
    notes.append(f"next: recsys ingest{option} PATH...")
    return CommandResult(
        "init",
        status="done" if new else "nothing_new",
        artifacts={"settings": path, "database": redact(layered.settings.database_url)},
        notes=notes,
    )
