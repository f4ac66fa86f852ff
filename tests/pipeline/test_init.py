"""Making a project: what exists stays, secrets are not written, a wrong file is told before anything is made."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from recsys.config import load
from recsys.errors import ConfigError, DatabaseUnavailableError, UsageError
from recsys.pipeline.init import init_project


def test_a_new_project_has_settings_and_tables(tmp_path: Path) -> None:
    made = init_project(tmp_path / "a" / "shop")
    assert made.status == "done"
    folder = tmp_path / "a" / "shop"
    assert load(folder, env={}).database_url == f"sqlite:///{folder}/recsys.db"
    with sqlite3.connect(folder / "recsys.db") as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert {"products", "events", "runs", "recommendations", "recommendations_all"} <= names


def test_what_exists_stays(tmp_path: Path) -> None:
    (tmp_path / "recsys.toml").write_text("[recommend]\nk = 3\n")
    assert init_project(tmp_path).status == "nothing_new"
    assert (tmp_path / "recsys.toml").read_text() == "[recommend]\nk = 3\n"
    assert (tmp_path / "recsys.db").exists()
    assert init_project(tmp_path).status == "nothing_new"


def test_a_chosen_database_is_written_but_not_its_password(tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    init_project(tmp_path / "plain", database=other)
    assert load(tmp_path / "plain", env={}).database_url == other
    with pytest.raises(DatabaseUnavailableError):
        init_project(tmp_path / "secret", database="postgresql://me:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in (tmp_path / "secret" / "recsys.toml").read_text()


def test_a_wrong_file_or_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recsys.toml").write_text("[recommend]\nkk = 3\n")
    with pytest.raises(ConfigError, match="recommend.k"):
        init_project(tmp_path)
    assert not (tmp_path / "recsys.db").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        init_project(tmp_path / "file")
