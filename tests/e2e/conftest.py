"""The program on a tiny shop: one trained project a session, copied by every test that changes it.

In: nothing. Out: `recsys(...)` runs a command line in this process; `trained` is a project whose line has run once.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recsys.data.demo import generate_shop
from tests.conftest import make_once
from tests.e2e.projects import PRODUCTS, USERS, Run, new_project, run_recsys


@pytest.fixture(scope="session")
def recsys() -> Run:
    """`recsys("check", "-C", folder)`."""
    return run_recsys


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a tiny shop."""

    def make(folder: Path) -> None:
        generate_shop(folder, products=PRODUCTS, users=USERS, seed=3)

    return make_once(tmp_path_factory, "drawn-shop", make)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, drawn: Path) -> Path:
    """A project after `ingest` and `run`; never change it, copy it."""

    def make(folder: Path) -> None:
        new_project(folder)
        for command in (("ingest", drawn), ("run",)):
            outcome = run_recsys(*command, "-C", folder, "--json", "-q")
            assert outcome.code == 0, outcome.err

    return make_once(tmp_path_factory, "trained-project", make)


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained project."""
    return Path(shutil.copytree(trained, tmp_path / "project"))
