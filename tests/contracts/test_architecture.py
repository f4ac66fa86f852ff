"""Who may know whom: data flows left to right, and nothing heavy is loaded before it is needed.

In: every import statement of the package. Out: a failure that names the file, the line and the forbidden room.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOOR = ("errors", "log", "types", "_version", "config", "execution", "artifacts", "db")  # each on those before it
LINE = ("data", "encoder", "vectors", "recommend", "store")  # the line; a room uses what is left of it
ALLOWED: dict[str, set[str]] = {
    **{room: set(FLOOR[:place]) for place, room in enumerate(FLOOR)},
    **{room: {*FLOOR, *LINE[:place]} for place, room in enumerate(LINE)},
    "evaluate": {*FLOOR, "data"},  # what judges knows nothing of what is judged
    "report": {"errors", "config", "log", "types"},  # plain data in, a page out: it knows no table and no model
    "sql": {*FLOOR, "store"},
    "pipeline": {*FLOOR, *LINE, "evaluate", "report"},
    "shop": {*FLOOR, *LINE, "evaluate", "pipeline"},
    "cli": {*FLOOR, *LINE, "evaluate", "pipeline", "shop"},
    "jobs": {*FLOOR, "pipeline", "cli"},
    "__main__": {"cli"},
}
HEAVY = {
    "torch",
    "torchvision",
    "faiss",
    "transformers",
    "tokenizers",
    "pandas",
    "polars",
    "sqlalchemy",
    "sklearn",
    "scipy",
    "jinja2",
}


def _files() -> Iterator[tuple[str, Path]]:
    """Every module with the room it belongs to; the package's own front door (recsys/__init__.py) may know all."""
    for folder, outer in (("recsys", None), ("sql", "sql"), ("jobs", "jobs")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            inner = path.relative_to(ROOT / folder).parts
            room = outer or (inner[0] if len(inner) > 1 else path.stem)
            if room != "__init__":
                yield room, path


def _imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and room of every import of our own, also of those inside functions and for type checkers only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}:{node.lineno}: relative import; write it in full"
            module = node.module or ""
            names = [f"recsys.{alias.name}" for alias in node.names] if module == "recsys" else [module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("recsys."):
                yield node.lineno, name.split(".")[1]


def test_every_import_points_left() -> None:
    wrong, seen = [], set()
    for room, path in _files():
        seen.add(room)
        assert room in ALLOWED, f"{path.relative_to(ROOT)}: a new room; say in ALLOWED what it may know"
        for line, target in _imported(path):
            if target != room and target not in ALLOWED[room]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {room} must not know {target}")
    assert not wrong, "\n".join(wrong)
    assert {*LINE, "db", "cli", "pipeline"} <= seen  # the walk has really seen the house


@pytest.mark.parametrize("arguments", [["--help"], ["recommend", "--help"], ["similar", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom recsys.cli.app import main\n"
        f"try:\n    code = main({arguments!r})\nexcept SystemExit as stop:\n    code = stop.code\n"
        "print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "typer" in loaded
    assert not loaded & HEAVY


def test_import_recsys_loads_nothing_heavy() -> None:
    code = "import sys, recsys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & HEAVY
