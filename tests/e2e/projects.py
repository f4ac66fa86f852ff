"""Tiny projects and command lines run in this process.

In: a folder, arguments. Out: a project with small settings, what a command line came to, rows of a store.
"""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.cli.app import main

SMALL = """
[images]
size = 32
[encoder]
dim = 16
width = 16
heads = 2
text_layers = 1
fusion_layers = 1
user_layers = 1
text_tokens = 16
vocabulary = 400
history = 8
[training]
epochs = 1
user_epochs = 1
min_steps = 4
batch_size = 32
user_batch_size = 16
precision = "fp32"
[ranker]
candidates = 20
[recommend]
k = 6
candidates = 20
shard_users = 8
[evaluate]
bootstrap = 50
"""
PRODUCTS, USERS = 60, 40


@dataclass(frozen=True)
class Outcome:
    """What a command line came to."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        made = json.loads(self.out)
        assert isinstance(made, dict)
        return made


def run_recsys(*arguments: object) -> Outcome:
    """Run a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Outcome(code, out.getvalue(), err.getvalue())


Run = Callable[..., Outcome]


def new_project(folder: Path, *, settings: str = SMALL, **options: str) -> Path:
    """A project with the small settings."""
    more = [text for name, value in options.items() for text in (f"--{name}", value)]
    assert run_recsys("init", folder, *more).code == 0
    (folder / "recsys.toml").write_text(settings, encoding="utf-8")
    return folder


def rows(project: Path, query: str = "") -> list[tuple[Any, ...]]:
    """Rows of the project's SQLite store; by default the published lists without their run."""
    wanted = query or (
        "SELECT placement, user_id, rank, product_id, score, reason, reason_product_id "
        "FROM recommendations ORDER BY placement, user_id, rank"
    )
    with contextlib.closing(sqlite3.connect(project / "recsys.db")) as connection:
        return connection.execute(wanted).fetchall()
