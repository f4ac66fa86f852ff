"""Conventions that can be counted: file sizes, names, plain words, what must not occur.

In: every file that is or would be committed. Out: a failure that names file and line.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = ("recsys/", "sql/", "jobs/", "benchmarks/")
MAX_LINES = 400
NAMES_THAT_SAY_NOTHING = {"utils", "helpers", "base", "common", "factory", "misc", "util", "helper"}

# Written in halves, so that this file does not match its own patterns.
UNSAFE = re.compile(
    r"\b(pick"
    + r"le|job"
    + r"lib|cloudpickle|dill)\b|torch\.load\(|allow_pick"
    + r"le=True|trust_remote"
    + r"_code=True"
)
UNFINISHED = re.compile(r"\bNotImplemented" + r"Error|\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b|\bx" + r"fail\b")
# Paths of one machine and package indexes of a company.
MACHINE = re.compile(
    r"(?<![\w.])/(work|root|home/\w+|Users/\w+)/|file://"
    + r"/|(?<![\w.=])(10\.\d+|192\.168|172\.(1[6-9]|2\d|3[01]))\.\d+\.\d+\b"
    r"|--(extra-)?index-" + r"url"
)
ARCHAIC = re.compile(
    r"\b(anew|anybody|everybody|nobody|whoever|goes on|gone on with|as it stands|as they stand|so many|is told|"
    r"what is held(?! back)|by the book)\b",
    re.IGNORECASE,
)
"""Turns of phrase that make a sentence hard to read; each has a plain word."""
PARTICIPLE = re.compile(
    r"(?!embed|feed|seed|need)[a-z]+ed|made|told|held|kept|found|asked|drawn|chosen|shown|said|taken|given|seen|done|left|spread|built|bought|"
    r"grown|met|sent|put_back|gone"
)
"""A function is a verb; a bare participle says neither what it does nor what it returns."""


def _committed() -> list[str]:
    """Return the paths of all files of the project, tracked or about to be."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        pytest.skip("not a git checkout: the files of the project cannot be listed")
    return sorted(name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file())


def _lines(paths: list[str]) -> Iterator[tuple[str, int, str]]:
    for name in paths:
        data = (ROOT / name).read_bytes()
        if b"\0" in data:
            continue
        for number, line in enumerate(data.decode("utf-8").splitlines(), start=1):
            yield name, number, line


def _matches(pattern: re.Pattern[str], paths: list[str]) -> list[str]:
    return [f"{name}:{number}: {line.strip()[:100]}" for name, number, line in _lines(paths) if pattern.search(line)]


def _code() -> list[str]:
    paths = [name for name in _committed() if name.startswith(CODE) and name.endswith((".py", ".sql", ".mako"))]
    assert len(paths) > 40  # the list is really that of the project
    return paths


def _modules() -> dict[str, ast.Module]:
    """Return the syntax tree of each module of the package, by its path."""
    return {
        name: ast.parse((ROOT / name).read_text(encoding="utf-8"))
        for name in _committed()
        if name.startswith("recsys/") and name.endswith(".py")
    }


def _prose(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string of a module: docstrings, help texts, log lines, messages."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def test_no_file_is_too_long() -> None:
    sizes = {name: (ROOT / name).read_text(encoding="utf-8").count("\n") for name in _code()}
    assert {name: size for name, size in sizes.items() if size > MAX_LINES} == {}


def test_every_file_name_says_something() -> None:
    assert [name for name in _committed() if name.endswith(".py") and Path(name).stem in NAMES_THAT_SAY_NOTHING] == []


def test_no_public_class_name_is_used_twice() -> None:
    places = defaultdict(list)
    for name, tree in _modules().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    assert len(places) > 100
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_no_public_function_is_a_bare_participle() -> None:
    """Properties are nouns or adjectives and may be one."""
    wrong = []
    for name, tree in _modules().items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            is_property = any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
            if PARTICIPLE.fullmatch(node.name) and not is_property:
                wrong.append(f"{name}:{node.lineno}: {node.name}")
    assert wrong == []


def test_prose_is_plain() -> None:
    """Docstrings, help texts, log lines, messages, comments of settings, README and docs."""
    wrong = [
        f"{name}:{line}: {match.group()}"
        for name, tree in _modules().items()
        for line, text in _prose(tree)
        if (match := ARCHAIC.search(text))
    ]
    wrong += _matches(
        ARCHAIC, [name for name in _committed() if name.endswith(".md") and not name.startswith("tests/")]
    )
    assert wrong == []


def test_first_docstring_lines_are_short() -> None:
    long = []
    for name, tree in _modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                first = (ast.get_docstring(node) or "").partition("\n")[0]
                if len(first) > 110:
                    long.append(f"{name}:{node.lineno}: {first}")
    assert long == []


def test_nothing_that_runs_code_from_files() -> None:
    assert _matches(UNSAFE, _code()) == []


def test_nothing_is_left_unfinished() -> None:
    assert _matches(UNFINISHED, [name for name in _committed() if name.endswith(".py")]) == []


def test_no_path_of_one_machine() -> None:
    assert _matches(MACHINE, _committed()) == []


def test_every_module_says_what_flows_in_and_out() -> None:
    """The docstring: one sentence, then `In: ... Out: ...`."""
    silent = []
    for name in _code():
        if not name.endswith(".py") or name.startswith("sql/") or name.endswith("__.py"):
            continue
        text = ast.get_docstring(ast.parse((ROOT / name).read_text(encoding="utf-8"))) or ""
        if not ("In:" in text and "Out:" in text):
            silent.append(name)
    assert silent == []


def test_tests_mirror_the_package() -> None:
    """In tests/<package>/ a file is named after a module of that package, or after one and the aspect it tests."""
    packages = [path for path in (ROOT / "recsys").rglob("*") if path.is_dir() and path.name != "__pycache__"]
    modules = {
        f"tests/{package.relative_to(ROOT / 'recsys').as_posix()}": {
            path.stem for path in package.iterdir() if path.name not in ("__init__.py", "__pycache__")
        }
        for package in packages
    }
    strangers = []
    for name in _committed():
        folder, _, file = name.rpartition("/")
        stem = file.removeprefix("test_").removesuffix(".py")
        known = modules.get(folder)
        if file.startswith("test_") and known and not any(stem == m or stem.startswith(f"{m}_") for m in known):
            strangers.append(name)
    assert strangers == []


def test_constraints_are_exact_and_cover_the_dependencies() -> None:
    import tomllib

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {
        re.match(r"[\w.-]+", line).group().lower()  # type: ignore[union-attr]
        for line in required
        if "platform_machine != " not in line
    }
    assert names - set(pins) == set()


@pytest.mark.parametrize(
    ("pattern", "bad", "good"),
    [
        (UNSAFE, "import pick" + "le", "allow_pick" + "le=False"),
        (UNSAFE, "torch.lo" + "ad(path)", "safetensors.torch.load_file(path)"),
        (UNFINISHED, "# TO" + "DO later", "the shop's to-do list"),
        (MACHINE, "open('/ro" + "ot/x.csv')", "docs/home/index.md"),
        (MACHINE, "http://192.16" + "8.0.7/", "version 1.192.168"),
        (ARCHAIC, "built an" + "ew", "renewed"),
        (PARTICIPLE, "made", "make"),
    ],
)
def test_the_patterns_match_what_they_should(pattern: re.Pattern[str], bad: str, good: str) -> None:
    assert pattern.search(bad)
    assert not pattern.search(good)
