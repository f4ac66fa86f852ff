"""The demo: one command from nothing to lists with titles and reasons; a second call only does what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys.data.demo import generate_shop
from recsys.pipeline.demo import MARKER, QUICK, is_demo_folder
from recsys.pipeline.init import init_project
from tests.e2e.projects import Run, rows

pytestmark = pytest.mark.e2e


def test_one_command_from_nothing_to_lists(
    tmp_path: Path, recsys: Run, small_model: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "demo-shop"
    sizes = ("--products", "40", "--users", "30", "--seed", "5")
    shown = recsys("demo", folder, *sizes)
    assert shown.code == 0, shown.err
    lines = [line.split() for line in shown.out.splitlines() if line.startswith("u0")]
    assert len({words[0] for words in lines}) == 10
    titles = {title for (title,) in rows(folder, "SELECT title FROM products WHERE title IS NOT NULL")}
    assert all(any(title in " ".join(words) for title in titles) for words in lines)
    for said in (f"{folder}/recsys.db", "recsys similar -C", "sqlite3", "recsys recommend -C", f"{folder}/report.html"):
        assert said in shown.err
    published = rows(folder)
    assert (folder / "recsys.toml").read_text().count("\nseed = 5\n") == 1
    again = recsys("demo", folder, *sizes, "--json")
    assert again.code == 0, again.err
    assert again.document["counts"]["trained"] == "nothing"
    assert {row["reason"] for row in again.document["rows"]} <= {reason for *_, reason, _ in published}
    assert rows(folder) == published
    assert (folder / "report.html").stat().st_size < 8_000_000
    assert recsys("check", "-C", folder).code == 0


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, recsys: Run) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    outcome = recsys("demo", tmp_path, "--json")
    assert outcome.code == 2 and "not a demo" in outcome.document["error"]
    assert "name an empty or new folder" in outcome.document["error"]
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert recsys("demo", tmp_path / "mine.txt").code == 2


@pytest.mark.parametrize("kind", ["project", "shop files", "shop folder", "project and shop"])
def test_a_project_or_a_shop_of_somebody_is_left_alone(tmp_path: Path, recsys: Run, kind: str) -> None:
    folder = tmp_path / "mine"
    if "project" in kind:
        assert recsys("init", folder).code == 0
    if kind != "project":
        files = folder if kind == "shop files" else folder / "shop"
        (files / "images").mkdir(parents=True)
        (files / "products.csv").write_text("product_id,title,price\np0001,Thing,3\n")
        (files / "users.csv").write_text("user_id,attributes\nu0001,\n")
        (files / "images/p0001.jpg").write_bytes(b"mine")
    before = _contents(folder)
    outcome = recsys("demo", folder, "--products", "20", "--users", "10")
    assert outcome.code == 2 and "nothing in it was changed" in outcome.err
    assert ("it holds a project" in outcome.err) == ("project" in kind)
    assert _contents(folder) == before


def test_a_demo_of_before_is_known_by_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    generate_shop(folder / "shop", products=20, users=10)
    init_project(folder, values={**QUICK, "training.seed": 0})
    (folder / "report.html").write_text("x")
    assert is_demo_folder(folder)
    (folder / "notes.txt").write_text("mine")
    assert not is_demo_folder(folder)
    (folder / MARKER).write_text("made by recsys demo")
    assert is_demo_folder(folder)
    images = folder / "shop/images"
    (images / "p-mine.jpg").write_bytes(b"mine")
    (images / "p9999.jpg").write_bytes(b"old")
    generate_shop(folder / "shop", products=20, users=10)
    assert (images / "p-mine.jpg").exists() and not (images / "p9999.jpg").exists()
