"""The wheel: it holds exactly the package with its SQL and its jobs, and works away from the checkout.

In: the source tree. Out: a wheel built in a temporary folder, its names, and a run of what it holds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAPPED = {"recsys": "recsys", "sql": "recsys/sql", "jobs": "recsys/jobs"}
DATA_FILES = {
    "recsys": {
        "recsys/py.typed",
        *(f"recsys/report/templates/{path.name}" for path in (ROOT / "recsys/report/templates").iterdir()),
    },
    "sql": {"recsys/sql/README.md"},
    "jobs": {"recsys/jobs/crontab", "recsys/jobs/k8s/recommend.yaml", "recsys/jobs/k8s/vectors.yaml"},
}
DIST_INFO = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy, so that nothing of an earlier build can slip into it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in MAPPED:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "tests").mkdir()
    (source / "tests" / "test_nothing.py").write_text("")  # must stay out
    (source / "recsys" / "notes.txt").write_text("stray")  # must stay out
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("recsys-*-py3-none-any.whl")
    return built


def _expected() -> set[str]:
    names: set[str] = set()
    for folder, inside in MAPPED.items():
        for suffix in ("*.py", "*.sql", "*.mako"):
            names |= {
                f"{inside}/{path.relative_to(ROOT / folder).as_posix()}" for path in (ROOT / folder).rglob(suffix)
            }
        names |= DATA_FILES[folder]
    return names


def test_the_wheel_holds_exactly_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    info = {name for name in names if ".dist-info/" in name}
    assert names - info == _expected()
    assert {name.partition(".dist-info/")[2] for name in info} == DIST_INFO
    # Some of them by name, so that a broken rule above cannot agree with a broken wheel.
    assert {
        "recsys/__init__.py",
        "recsys/cli/app.py",
        "recsys/py.typed",
        "recsys/jobs/nightly.py",
        "recsys/sql/__init__.py",
        "recsys/sql/migrations/env.py",
        "recsys/sql/extract/products.sql",
        "recsys/sql/extract/events.sql",
        "recsys/report/templates/page.html",
        "recsys/report/templates/style.css",
        "recsys/report/templates/script.js",
    } <= names
    assert any(name.startswith("recsys/sql/views/") and name.endswith(".sql") for name in names)
    assert any(name.startswith("recsys/sql/migrations/versions/0001") for name in names)


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    found = {
        f"{inside}/{init.parent.relative_to(ROOT / folder).as_posix()}".removesuffix("/.").replace("/", ".")
        for folder, inside in MAPPED.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert sorted(listed) == sorted(found)


def test_the_installed_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(target)  # what an installer does with a pure wheel, less the scripts
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(target)}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "recommend" in run("-m", "recsys", "--help")
    code = (
        "import recsys, recsys.sql, recsys.jobs.nightly\nfrom importlib import resources\n"
        "print(recsys.__file__)\nprint(recsys.jobs.nightly.__file__)\n"
        "for part in ('views', 'extract', 'migrations'):\n"
        "    for one in sorted(resources.files('recsys.sql').joinpath(part).iterdir(), key=str): print(one)"
    )
    lines = run("-c", code).splitlines()
    assert lines
    assert all(line.startswith(str(target)) for line in lines), lines
    assert sum(line.endswith(".sql") for line in lines) >= 4
    # The schema is made from the SQL in the wheel, and the jobs find the program.
    run("-m", "recsys", "init", "shop")
    assert (elsewhere / "shop" / "recsys.toml").is_file()
    assert "usage" in run("-m", "recsys.jobs.nightly", "--help").lower()
