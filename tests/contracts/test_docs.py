"""Prose that can be run is run: every example of README.md and docs/ on a small demo shop.

In: fenced blocks. `console`: each line `$ command` is run, exit code 0 expected; `recsys` and `cd` run as they stand,
`make TARGET` must be a target of the Makefile. `console not-run`: needs what a test has not got; its options must
exist. `python`: run as it stands. Blocks of one file run in order in a folder that holds `demo-shop/` and `photo.jpg`.
Out: a failure that names file and line. A block of any other language must be one of PLAIN, so none is left out in
silence.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from recsys.cli.app import main
from tests.conftest import untouched_log

ROOT = Path(__file__).resolve().parents[2]
PLAIN = {"", "text", "toml", "sql", "json", "yaml", "dockerfile", "cron"}
NOT_OURS = {"git", "docker", "crontab", "pip", "uv", "python"}
"""Programs whose examples cannot be run here; allowed only in `console not-run` blocks."""
FENCE = re.compile(r"^```(?P<info>[^`\n]*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language with the words after it, its text."""

    path: Path
    line: int
    info: tuple[str, ...]
    text: str

    @property
    def place(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def language(self) -> str:
        return self.info[0] if self.info else ""

    def commands(self) -> list[list[str]]:
        joined = self.text.replace("\\\n", " ")
        return [shlex.split(line[2:], comments=True) for line in joined.splitlines() if line.startswith("$ ")]


def blocks_of(path: Path) -> Iterator[Block]:
    """All fenced blocks of a Markdown file, in order."""
    opened: tuple[int, tuple[str, ...]] | None = None
    held: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fence = FENCE.match(line.strip())
        if opened is None and fence:
            opened, held = (number, tuple(fence["info"].split())), []
        elif opened is not None and fence and not fence["info"]:
            yield Block(path, *opened, "\n".join(held))
            opened = None
        elif opened is not None:
            held.append(line)
    assert opened is None, f"{path.relative_to(ROOT)}:{opened and opened[0]}: the block is never closed"


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]
RUNNABLE = [page for page in PAGES if any(block.language in ("console", "python") for block in blocks_of(page))]


@pytest.fixture
def workplace(demo_shop: Path, small_model: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a reader has it after `make demo`, with a photo to search by."""
    shutil.copytree(demo_shop, tmp_path / "demo-shop")
    picture = sorted((tmp_path / "demo-shop").rglob("p*.jpg"))[0]
    shutil.copy(picture, tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_of_a_known_kind(page: Path) -> None:
    known = PLAIN | {"console", "python"}
    wrong = [
        f"{block.place}: '{' '.join(block.info)}'"
        for block in blocks_of(page)
        if block.language not in known or block.info[1:] not in ((), ("not-run",))
    ]
    assert not wrong, f"write these as console, python, or one of {sorted(PLAIN)}: {wrong}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_run(page: Path, request: pytest.FixtureRequest) -> None:
    """One test a page: later examples may build on earlier ones."""
    examples = [block for block in blocks_of(page) if block.language in ("console", "python")]
    run = [block for block in examples if "not-run" not in block.info]
    for block in examples:
        if block.language == "console":
            assert block.commands(), f"{block.place}: a console block without a line that starts with '$ '"
            for command in block.commands():
                _check_words(block, command)
    needs_shop = [
        block for block in run if block.language == "python" or any(c[0] == "recsys" for c in block.commands())
    ]
    if not needs_shop:
        return
    home = request.getfixturevalue("workplace")
    for block in run:
        os.chdir(home)
        if block.language == "python":
            exec(compile(block.text, block.place, "exec"), {"__name__": "__example__"})
            continue
        for command in block.commands():
            if command[0] == "cd":
                os.chdir(command[1])
            elif command[:2] == ["recsys", "demo"]:
                assert (home / "demo-shop" / "recsys.toml").is_file()  # that command is how this folder was made
            elif command[0] == "recsys":
                with untouched_log():
                    code = main(command[1:])
                assert code == 0, f"{block.place}: '{shlex.join(command)}' ended with exit code {code}"


def _check_words(block: Block, command: list[str]) -> None:
    """What can be checked without running: the program, the make target, the names of options."""
    said = f"{block.place}: '{shlex.join(command)}'"
    assert not {"|", ">", ">>", "&&", ";"} & set(command), f"{said}: write one command a line, without pipes"
    program = command[0]
    if program == "make":
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        named = {word for word in command[1:] if "=" not in word}
        assert named <= targets, f"{said}: no such target"
    elif program == "recsys":
        known = _options(command[1:])
        used = {word.partition("=")[0] for word in command[1:] if re.match(r"--?[a-zA-Z]", word)}
        assert used <= known, f"{said}: no such option {sorted(used - known)}"
    elif program != "cd":
        assert program in NOT_OURS and "not-run" in block.info, (
            f"{said}: cannot be run; mark the block 'console not-run'"
        )


def _options(words: list[str]) -> set[str]:
    """Options of the command that `words` begin with, from its own help."""
    import contextlib
    import io

    path = [word for word in words[:1] if not word.startswith("-")]
    if path and path[0] in ("runs", "config"):
        path = words[:2]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), untouched_log(), contextlib.suppress(SystemExit):
        assert main([*path, "--help"]) == 0, f"'recsys {' '.join(path)}' is no command"
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", out.getvalue())) | {"--help"}


def test_blocks_are_found_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n```console not-run\n$ recsys run \\\n  -q\nout\n$ cd x # why\n```\n\n```\nplain\n```\n")
    monkeypatch.setattr("tests.contracts.test_docs.ROOT", tmp_path, raising=False)
    first, second = blocks_of(page)
    assert (first.line, first.info, first.commands()) == (
        2,
        ("console", "not-run"),
        [["recsys", "run", "-q"], ["cd", "x"]],
    )
    assert (second.language, second.text) == ("", "plain")


def test_wrong_examples_are_seen() -> None:
    def block(text: str, *info: str) -> Block:
        return Block(ROOT / "README.md", 1, ("console", *info), text)

    for text in (
        "$ make nothing",
        "$ recsys similar --colour red",
        "$ recsys similar --text x | head",
        "$ docker run x",
    ):
        with pytest.raises(AssertionError):
            _check_words(block(text), block(text).commands()[0])
    for text, info in (("$ make demo", ()), ("$ recsys similar --text x -k 3", ()), ("$ docker run x", ("not-run",))):
        _check_words(block(text, *info), block(text).commands()[0])
