"""The demo: one command from nothing to lists with titles and reasons; a second call only does what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, recsys: Run) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    outcome = recsys("demo", tmp_path, "--json")
    assert outcome.code == 2 and "not a demo" in outcome.document["error"]
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert recsys("demo", tmp_path / "mine.txt").code == 2


def test_somebodys_project_with_a_folder_of_the_same_name_is_left_alone(tmp_path: Path, recsys: Run) -> None:
    (tmp_path / "shop").mkdir()
    mine = tmp_path / "shop" / "products.csv"
    mine.write_text("product_id,title\nm1,Mine\n")
    (tmp_path / "recsys.toml").write_text("")
    outcome = recsys("demo", tmp_path, "--products", "20", "--users", "10", "--json")
    assert outcome.code == 2 and "is not empty and not a demo" in outcome.document["error"]
    assert mine.read_text() == "product_id,title\nm1,Mine\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recsys.toml", "shop"]
