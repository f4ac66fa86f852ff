"""The demo: draw a shop, run the whole line on it, show ten users' lists with titles and reasons.

In: a folder. Out: a project in it that every other command works on, a Report.
"""

from __future__ import annotations

from pathlib import Path

from recsys.config import FILE, load
from recsys.data import demo as drawing
from recsys.errors import UsageError
from recsys.execution.progress import StageTimer
from recsys.log import redact
from recsys.pipeline import ingest as intake
from recsys.pipeline import init as project
from recsys.pipeline import recommend as lists
from recsys.pipeline import run as night
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table

_SHOP = "shop"
"""Folder of the drawn files inside the project."""

_SHOWN = 10

QUICK = {"training.epochs": 10, "training.user_epochs": 10, "encoder.vocabulary": 2000, "recommend.shard_users": 200}
"""The demo's own settings, written into its `recsys.toml`: a shop this small needs no more."""


def run_demo(
    folder: Path,
    watch: StageTimer | None = None,
    *,
    products: int = 600,
    users: int = 500,
    seed: int = 0,
    database: str | None = None,
) -> CommandResult:
    """Make the demo project and run it; made again with the same sizes and seed, it only does what is missing.

    Raises:
        UsageError: the folder holds something that is not a demo.
    """
    watch = watch or StageTimer()
    drawn = folder / _SHOP
    if folder.exists() and not drawn.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty and not a demo; name another folder")
    with watch.stage("draw shop"):
        drawing.generate_shop(drawn, products=products, users=users, seed=seed)
    project.init_project(folder, watch, database=database, values={**QUICK, "training.seed": seed})
    with Project(load(folder, flags={"database.url": database}), watch) as bench:
        taken = intake.ingest(bench, intake.IngestRequest.of([drawn]))
        made = night.run_nightly(bench)
        frame = lists.add_titles(bench, bench.store.recommendations(_some(bench), k=5))
        url = bench.settings.database_url
    where = redact(url).removeprefix("sqlite:///")
    return CommandResult(
        "demo",
        run_id=made.run_id,
        counts={**taken.counts, **made.counts},
        warnings=[*taken.warnings, *made.warnings],
        artifacts={"project": folder, "settings": folder / FILE, "database": where, **made.artifacts},
        tables=[Table.from_frame(f"recommendations for {_SHOWN} of {users} users", frame), *made.tables],
        notes=_next(
            folder,
            where,
            page=made.artifacts.get("report"),
            sqlite=url.startswith("sqlite"),
            user=str(frame["user_id"][0]),
        ),
    )


def _some(bench: Project) -> list[str]:
    """Users spread evenly over all, so that old and new ones are among them."""
    texts = bench.dataset.users.texts
    step = max(1, len(texts) // _SHOWN)
    return list(texts[::step][:_SHOWN])


def _next(folder: Path, where: str, *, page: Path | str | None, sqlite: bool, user: str) -> list[str]:
    shown = [f"  open {page} in a browser"] if page else []
    notes = ["", "what to look at and to type next:", *shown, f"  recsys similar -C {folder} --text 'red dress'"]
    if sqlite:
        query = f"SELECT * FROM recommendations WHERE user_id = '{user}'"  # noqa: S608 - shown, not run
        notes.append(f'  sqlite3 {where} "{query}"')
    return [
        *notes,
        f"  recsys recommend -C {folder} --user {user}",
        f"  recsys evaluate -C {folder}",
        f"  recsys check -C {folder}",
    ]
