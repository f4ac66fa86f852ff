"""The rules of the house that can be counted: sizes, names, words that must not occur.

In: every file that is or would be committed. Out: a failure that names file and line.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = ("recsys/", "sql/", "jobs/", "benchmarks/")
LONGEST = 400
NAMES_THAT_SAY_NOTHING = {"utils", "helpers", "base", "common", "factory", "misc", "util", "helper"}

# Put together from halves, so that this file does not find itself.
UNSAFE = re.compile(
    r"\b(pick"
    + r"le|job"
    + r"lib|cloudpickle|dill)\b|torch\.load\(|allow_pick"
    + r"le=True|trust_remote"
    + r"_code=True"
)
UNFINISHED = re.compile(r"\bNotImplemented" + r"Error|\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b|\bx" + r"fail\b")
# Places that exist only on the machine of whoever wrote the line, and package indexes of a company.
MACHINE = re.compile(
    r"(?<![\w.])/(work|root|home/\w+|Users/\w+)/|file://"
    + r"/|(?<![\w.=])(10\.\d+|192\.168|172\.(1[6-9]|2\d|3[01]))\.\d+\.\d+\b"
    r"|--(extra-)?index-" + r"url"
)


def _committed() -> list[str]:
    """Paths of all files of the project, tracked or about to be."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        pytest.skip("not a git checkout: what belongs to the project cannot be told")
    return sorted(name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file())


def _lines(paths: list[str]) -> Iterator[tuple[str, int, str]]:
    for name in paths:
        data = (ROOT / name).read_bytes()
        if b"\0" in data:
            continue
        for number, line in enumerate(data.decode("utf-8").splitlines(), start=1):
            yield name, number, line


def _found(pattern: re.Pattern[str], paths: list[str]) -> list[str]:
    return [f"{name}:{number}: {line.strip()[:100]}" for name, number, line in _lines(paths) if pattern.search(line)]


def _code() -> list[str]:
    paths = [name for name in _committed() if name.startswith(CODE) and name.endswith((".py", ".sql", ".mako"))]
    assert len(paths) > 40  # the list is really that of the project
    return paths


def test_no_file_is_too_long() -> None:
    sizes = {name: (ROOT / name).read_text(encoding="utf-8").count("\n") for name in _code()}
    assert {name: size for name, size in sizes.items() if size > LONGEST} == {}


def test_every_name_says_something() -> None:
    assert [name for name in _committed() if name.endswith(".py") and Path(name).stem in NAMES_THAT_SAY_NOTHING] == []


def test_nothing_that_runs_code_from_files() -> None:
    assert _found(UNSAFE, _code()) == []


def test_nothing_is_left_unfinished() -> None:
    assert _found(UNFINISHED, [name for name in _committed() if name.endswith(".py")]) == []


def test_no_machine_of_anybody() -> None:
    assert _found(MACHINE, _committed()) == []


def test_every_module_says_what_flows_in_and_out() -> None:
    """The docstring: one sentence, then `In: ... Out: ...`."""
    import ast

    silent = []
    for name in _code():
        if not name.endswith(".py") or name.startswith("sql/") or name.endswith("__.py"):
            continue
        text = ast.get_docstring(ast.parse((ROOT / name).read_text(encoding="utf-8"))) or ""
        if not ("In:" in text and "Out:" in text):
            silent.append(name)
    assert silent == []


def test_constraints_are_exact_and_cover_the_dependencies() -> None:
    import tomllib

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.match(r"[\w.-]+", line).group().lower() for line in wanted if "platform_machine != " not in line}  # type: ignore[union-attr]
    assert names - set(pins) == set()


@pytest.mark.parametrize(
    ("pattern", "bad", "good"),
    [
        (UNSAFE, "import pick" + "le", "allow_pick" + "le=False"),
        (UNSAFE, "torch.lo" + "ad(path)", "safetensors.torch.load_file(path)"),
        (UNFINISHED, "# TO" + "DO later", "the shop's to-do list"),
        (MACHINE, "open('/ro" + "ot/x.csv')", "docs/home/index.md"),
        (MACHINE, "http://192.16" + "8.0.7/", "version 1.192.168"),
    ],
)
def test_the_rules_see_what_they_should(pattern: re.Pattern[str], bad: str, good: str) -> None:
    assert pattern.search(bad)
    assert not pattern.search(good)
