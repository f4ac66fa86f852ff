"""The `demo` command: generates a shop, runs the whole pipeline on it, shows ten users' recommendations.

In: a folder. Out: a project in it that every other command works on, a result.
"""

from __future__ import annotations

from pathlib import Path

from recsys.config import FILE_NAME, load
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

_SHOWN_USERS = 10

QUICK = {"training.epochs": 10, "training.user_epochs": 10, "encoder.vocabulary": 2000, "recommend.shard_users": 200}
"""Settings of the demo, written into its `recsys.toml`; they suffice for a shop this small."""


_MARK = ".recsys-demo"
"""File beside the generated files; a folder without it is somebody's own."""
_HEADER = "product_id,title,description,brand,category,price,currency,image,available,group_id,attributes,created_at"


def _is_demo(folder: Path) -> bool:
    """Return whether an earlier demo made the folder: by its mark, or by settings and files of demos without one."""
    files, config = folder / _SHOP, folder / FILE_NAME
    if (files / _MARK).is_file():
        return True
    if (
        not all((files / name).is_file() for name in ("products.csv", "events.csv", "users.csv"))
        or not config.is_file()
    ):
        return False
    with (files / "products.csv").open(encoding="utf-8", errors="replace") as stream:
        is_generated = stream.readline().strip() == _HEADER and stream.readline().startswith("p0001,")
    return is_generated and f"vocabulary = {QUICK['encoder.vocabulary']}" in config.read_text(encoding="utf-8")


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
        UsageError: the folder is not empty and holds no demo.
    """
    progress = progress or StageTimer()
    files = folder / _SHOP
    if folder.exists() and not _is_demo(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty and not a demo; name another folder")
    with progress.stage("draw shop"):
        generate_shop(files, products=products, users=users, seed=seed)
        (files / _MARK).touch()
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
