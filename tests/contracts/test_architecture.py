"""Which package may import which: data flows left to right, without circles; nothing heavy is loaded early.

In: every import statement of the package. Out: a failure that names the file, the line and the forbidden package.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOOR = (
    "errors",
    "arguments",
    "log",
    "types",
    "_version",
    "config",
    "execution",
    "artifacts",
    "db",
)  # each may use those before it
PIPELINE = ("data", "encoder", "vectors", "recommend", "store")  # each may use those to its left
ALLOWED: dict[str, set[str]] = {
    **{package: set(FLOOR[:i]) for i, package in enumerate(FLOOR)},
    **{package: {*FLOOR, *PIPELINE[:i]} for i, package in enumerate(PIPELINE)},
    "evaluate": {*FLOOR, "data"},  # it judges rankings and knows nothing of what makes them
    "report": {"errors", "config", "log", "types"},  # plain data in, a page out: it knows no table and no model
    "sql": {*FLOOR, "store"},
    "pipeline": {*FLOOR, *PIPELINE, "evaluate", "report"},
    "shop": {*FLOOR, *PIPELINE, "evaluate", "pipeline"},
    "cli": {*FLOOR, *PIPELINE, "evaluate", "pipeline", "shop"},
    "jobs": {*FLOOR, "pipeline", "cli"},
    "__main__": {"cli"},
}
ALLOWED["recommend"] |= {"evaluate"}  # the ranker is fitted for the metric that rankings are judged by
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
    """Yield every module with its package; recsys/__init__.py may know all."""
    for folder, outer in (("recsys", None), ("sql", "sql"), ("jobs", "jobs")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            inner = path.relative_to(ROOT / folder).parts
            package = outer or (inner[0] if len(inner) > 1 else path.stem)
            if package != "__init__":
                yield package, path


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and full name of every import of our own, also those inside functions and for type checkers only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}:{node.lineno}: relative import; write it in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.startswith("recsys."))


def test_every_import_points_left() -> None:
    wrong, packages = [], set()
    for package, path in _files():
        packages.add(package)
        assert package in ALLOWED, f"{path.relative_to(ROOT)}: a new package; say in ALLOWED what it may import"
        for line, name in _imports(path):
            target = name.split(".")[1]
            if target != package and target not in ALLOWED[package]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {package} must not import {target}")
    assert not wrong, "\n".join(wrong)
    assert {*PIPELINE, "db", "cli", "pipeline"} <= packages  # the walk has really seen the packages


def test_no_module_imports_itself_through_others() -> None:
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for _, path in _files()}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = {name for _, name in _imports(path)}
        graph[module] = {target for name in names for target in (name, name.rpartition(".")[0]) if target in modules}
    assert sum(map(len, graph.values())) > 500
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_nothing_imports_the_package_itself() -> None:
    """For the version there is recsys._version; recsys/__init__.py is for users."""
    wrong = []
    for _, path in _files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "recsys":
                packages = {folder.name for folder in (ROOT / "recsys").iterdir()}
                wrong += [
                    f"{path.relative_to(ROOT)}:{node.lineno}: {a.name}" for a in node.names if a.name not in packages
                ]
    assert wrong == []


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
