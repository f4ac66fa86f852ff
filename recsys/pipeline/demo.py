"""The `demo` command: generates a shop, runs the whole pipeline on it, shows ten users' recommendations.

In: a folder. Out: a project in it that every other command works on, a result.
"""

from __future__ import annotations

from pathlib import Path

from recsys.config import FILE_NAME, load
from recsys.data import schema
from recsys.data.demo import generate_shop
from recsys.errors import UsageError
from recsys.execution.progress import StageTimer
from recsys.log import redact
from recsys.pipeline.ingest import IngestRequest, ingest
from recsys.pipeline.init import init_project
from recsys.pipeline.project import Project
from recsys.pipeline.recommend import add_titles
from recsys.pipeline.result import CommandResult, Table
from recsys.pipeline.run import run_nightly

_SHOP = "shop"
"""Folder of the generated files inside the project."""

MARKER = ".recsys-demo"
"""File that marks a folder made by `recsys demo`; its shop is drawn again when the demo is repeated."""

_MARKER_TEXT = "This folder was made by 'recsys demo'. Its files are replaced when the command is repeated.\n"

_SHOWN_USERS = 10

_PROJECT_FILES = frozenset({FILE_NAME, _SHOP, "artifacts", "report.html", "report.json"})
_SHOP_FILES = frozenset({"products.csv", "events.csv", "users.csv", "images"})

QUICK = {"training.epochs": 10, "training.user_epochs": 10, "encoder.vocabulary": 2000, "recommend.shard_users": 200}
"""Settings of the demo, written into its `recsys.toml`; they suffice for a shop this small."""


def run_demo(
    folder: Path,
    progress: StageTimer | None = None,
    *,
    products: int = 600,
    users: int = 500,
    seed: int = 0,
    database: str | None = None,
) -> CommandResult:
    """Create the demo project and run it; repeated with the same sizes and seed, it only does what is missing.

    Args:
        folder: of the project.
        progress: receives stages and progress; silent by default.
        products: number of products.
        users: number of users.
        seed: of the generator and of the training.
        database: URL; SQLite in the folder when not given.

    Raises:
        UsageError: the folder is neither empty nor a demo; nothing in it is changed.
    """
    progress = progress or StageTimer()
    files = folder / _SHOP
    _require_demo_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text(_MARKER_TEXT, encoding="utf-8")
    with progress.stage("draw shop"):
        generate_shop(files, products=products, users=users, seed=seed)
    init_project(folder, progress, database=database, values={**QUICK, "training.seed": seed})
    with Project(load(folder, flags={"database.url": database}), progress) as project:
        ingested = ingest(project, IngestRequest.from_options([files]))
        nightly = run_nightly(project)
        frame = add_titles(project, project.store.recommendations(_sample_users(project), k=5))
        url = project.settings.database_url
    database_name = redact(url).removeprefix("sqlite:///")
    return CommandResult(
        "demo",
        run_id=nightly.run_id,
        counts={**ingested.counts, **nightly.counts},
        warnings=[*ingested.warnings, *nightly.warnings],
        artifacts={"project": folder, "settings": folder / FILE_NAME, "database": database_name, **nightly.artifacts},
        tables=[Table.from_frame(f"recommendations for {_SHOWN_USERS} of {users} users", frame), *nightly.tables],
        notes=_next_steps(
            folder,
            database_name,
            report=nightly.artifacts.get("report"),
            sqlite=url.startswith("sqlite"),
            user=str(frame["user_id"][0]),
        ),
    )


def _require_demo_folder(folder: Path) -> None:
    """Refuse a folder with anything that no demo has made.

    Raises:
        UsageError: the folder is a file, a project, or holds other files.
    """
    if folder.is_dir() and (is_demo_folder(folder) or not any(folder.iterdir())):
        return
    if folder.is_dir():
        found = "a project" if (folder / FILE_NAME).exists() else "files that no demo has made"
        raise UsageError(
            f"{folder.absolute()} is not a demo: it holds {found}, and nothing in it was changed; "
            "name an empty or new folder, such as 'recsys demo my-demo'"
        )
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder.absolute()} is not a folder and not a demo; name an empty or new folder")


def is_demo_folder(folder: Path) -> bool:
    """Return whether `recsys demo` made a folder: by its marker, or, for versions without one, by all its files."""
    if (folder / MARKER).is_file():
        return True
    names = {path.name for path in folder.iterdir()}
    own = {name for name in names if name in _PROJECT_FILES or name.startswith("recsys.db")}
    files = folder / _SHOP
    if names != own or not files.is_dir() or not {path.name for path in files.iterdir()} <= _SHOP_FILES:
        return False
    settings = folder / FILE_NAME
    if not settings.is_file():
        return False
    lines = settings.read_text(encoding="utf-8", errors="replace").splitlines()
    if not all(f"{name.partition('.')[2]} = {value}" in lines for name, value in QUICK.items()):
        return False
    headers = {table: ",".join(column.name for column in columns) for table, columns in schema.TABLES.items()}
    first_ids = {"products": "p0001,", "users": "u0001,", "events": "u"}
    return all(_starts_with(files / f"{table}.csv", headers[table] + "\n", start) for table, start in first_ids.items())


def _starts_with(file: Path, *starts: str) -> bool:
    """Return whether the first lines of a file begin with these texts."""
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            return all(opened.readline().startswith(start) for start in starts)
    except OSError:
        return False


def _sample_users(project: Project) -> list[str]:
    """Return users evenly spaced over all, so that old and new ones are among them."""
    user_ids = project.dataset.users.texts
    step = max(1, len(user_ids) // _SHOWN_USERS)
    return list(user_ids[::step][:_SHOWN_USERS])


def _next_steps(folder: Path, database_name: str, *, report: Path | str | None, sqlite: bool, user: str) -> list[str]:
    report_line = [f"  open {report} in a browser"] if report else []
    notes = ["", "what to look at and to type next:", *report_line, f"  recsys similar -C {folder} --text 'red dress'"]
    if sqlite:
        query = f"SELECT * FROM recommendations WHERE user_id = '{user}'"  # noqa: S608 - shown, not run
        notes.append(f'  sqlite3 {database_name} "{query}"')
    return [
        *notes,
        f"  recsys recommend -C {folder} --user {user}",
        f"  recsys evaluate -C {folder}",
        f"  recsys check -C {folder}",
    ]
