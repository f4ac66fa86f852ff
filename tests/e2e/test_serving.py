"""Reading commands on a trained shop: lists of some users, publishing, searching, looking around."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.projects import USERS, Run, rows

pytestmark = pytest.mark.e2e
K = 6


def test_lists_of_some_users_are_shown_and_nothing_is_written(copied: Path, recsys: Run, tmp_path: Path) -> None:
    published = {(user, rank): product for _, user, rank, product, *_ in rows(copied)}
    (tmp_path / "users.txt").write_text("u0002\nu0001\n\n")
    outcome = recsys("recommend", "--user", "u0001", "--users", tmp_path / "users.txt", "-C", copied, "--json")
    assert outcome.code == 0, outcome.err
    made = {(row["user_id"], row["rank"]): row["product_id"] for row in outcome.document["rows"]}
    assert len(made) == 2 * K
    assert made == {key: product for key, product in published.items() if key[0] in {"u0001", "u0002"}}
    assert all(row["title"] for row in outcome.document["rows"])
    assert len(rows(copied, "SELECT run_id FROM runs WHERE kind = 'recommend'")) == 1
    stranger = recsys("recommend", "--user", "nobody", "-k", "3", "-C", copied, "--json")
    assert any("'nobody' is unknown" in warning for warning in stranger.document["warnings"])
    default = [product for (user, rank), product in sorted(published.items()) if user == "__default__" and rank <= 3]
    assert [row["product_id"] for row in stranger.document["rows"]] == default
    missing = recsys("recommend", "--users", tmp_path / "gone.txt", "-C", copied)
    assert missing.code == 2 and "gone.txt" in missing.err


def test_publish_rollback_and_prune(copied: Path, recsys: Run) -> None:
    first = rows(copied, "SELECT run_id FROM publications WHERE placement = 'default'")[0][0]
    made = recsys("recommend", "--no-publish", "-k", "4", "-C", copied, "--json")
    second = made.document["run_id"]
    assert rows(copied, "SELECT DISTINCT run_id FROM recommendations") == [(first,)]
    assert recsys("publish", "-C", copied, "--json").document["run_id"] == second
    assert rows(copied, "SELECT MAX(rank), MIN(run_id), MAX(run_id) FROM recommendations") == [(4, second, second)]
    assert recsys("rollback", "--yes", "-C", copied, "--json").document["run_id"] == first
    assert rows(copied, "SELECT MAX(rank), MAX(run_id) FROM recommendations") == [(K, first)]
    listed = {row["run_id"]: row["state"] for row in recsys("runs", "list", "-C", copied, "--json").document["rows"]}
    assert (listed[first], listed[second]) == ("published", "rolled_back")
    assert recsys("runs", "prune", "--keep", "1", "-C", copied).code == 0
    assert rows(copied, f"SELECT COUNT(*) FROM recommendations_all WHERE run_id = '{second}'") == [(0,)]
    assert rows(copied, "SELECT MAX(run_id) FROM recommendations") == [(first,)]
    shown = recsys("runs", "show", first, "-C", copied, "--json").document
    facts = {row["what"]: row["value"] for row in shown["rows"]}
    assert facts["rows_written"] == K * (USERS + 1)


def test_a_guard_refuses_and_the_published_lists_stay(copied: Path, recsys: Run) -> None:
    before = rows(copied)
    text = (copied / "recsys.toml").read_text()
    (copied / "recsys.toml").write_text(text + "\n[publish]\nmin_catalogue_coverage = 1.0\n")
    outcome = recsys("recommend", "-k", "1", "-C", copied, "--json")
    assert outcome.code == 4
    assert "min_catalogue_coverage" in outcome.document["error"]
    assert rows(copied) == before
    assert recsys("publish", "-C", copied).code == 4
    assert recsys("publish", "--force", "--yes", "-C", copied).code == 0
    assert rows(copied, "SELECT MAX(rank) FROM recommendations") == [(1,)]


def test_similar_by_product_text_picture_and_mix(trained: Path, drawn: Path, recsys: Run) -> None:
    asked = ("similar", "-C", trained, "--json", "-k", "5")
    picture = next((drawn / "images").glob("*.jpg"))
    for query in (
        ["--product", "p0001"],
        ["--text", "red dress"],
        ["--image", picture],
        ["--image", picture, "--text", "but in blue"],
    ):
        outcome = recsys(*asked, *query)
        assert outcome.code == 0, outcome.err
        found = outcome.document["rows"]
        assert len(found) == 5 and len({row["product_id"] for row in found}) == 5
        assert [row["score"] for row in found] == sorted((row["score"] for row in found), reverse=True)
        assert "p0001" not in [row["product_id"] for row in found] or "--product" not in query
    prices = dict(rows(trained, "SELECT product_id, price FROM products"))
    cheap = recsys(*asked, "--text", "shoe", "--where", "price < 40").document["rows"]
    assert cheap and all(prices[row["product_id"]] < 40 for row in cheap)


def test_similar_says_what_is_wrong(trained: Path, recsys: Run, tmp_path: Path) -> None:
    unknown = recsys("similar", "--product", "p001", "-C", trained, "--json")
    assert unknown.code == 2
    assert re.search(r"unknown product 'p001'; the nearest ids are 'p00\d\d'", unknown.document["error"])
    wrong = recsys("similar", "--text", "x", "--where", "pirce < 3", "-C", trained, "--json")
    assert wrong.code == 2 and "'price'" in wrong.document["error"]
    (tmp_path / "text.jpg").write_text("not a picture")
    picture = recsys("similar", "--image", tmp_path / "text.jpg", "-C", trained, "--json")
    assert picture.code == 2 and "text.jpg" in picture.document["error"]
    gone = recsys("similar", "--image", tmp_path / "gone.jpg", "-C", trained, "--json")
    assert gone.code == 2 and "gone.jpg" in gone.document["error"]


def test_check_and_runs_and_config_are_documents(trained: Path, recsys: Run) -> None:
    promised = {"schema_version", "command", "status", "run_id", "counts", "warnings", "artifacts"}
    for command in (
        ["check"],
        ["runs", "list"],
        ["runs", "show"],
        ["config", "show"],
        ["doctor"],
        ["run", "--dry-run"],
    ):
        outcome = recsys(*command, "-C", trained, "--json")
        assert outcome.code == 0, outcome.err
        assert promised <= set(outcome.document)
        assert outcome.document["command"] == " ".join(part for part in command if not part.startswith("-"))
        assert outcome.document["rows"]
        for_people = recsys(*command, "-C", trained)
        assert for_people.code == 0 and for_people.out.strip() and not for_people.out.startswith("{")


def test_the_lists_are_a_frame_in_python_too(trained: Path) -> None:
    import recsys

    with recsys.open(trained) as shop:
        published = shop.recommendations(["u0001", "nobody"], k=2)
        made = shop.recommend(users=["u0001"], k=2)
    assert published.filter(pl.col("user_id") == "u0001")["product_id"].to_list() == made["product_id"].to_list()
    assert published.filter(pl.col("user_id") == "nobody").height == 2


def test_data_cannot_steer_the_terminal(copied: Path, recsys: Run, tmp_path: Path) -> None:
    evil = "[bold]boots[/bold] \x1b[31m\u202e [link=http://e]x[/link]"
    frame = pl.DataFrame({"product_id": ["p0001", "p0002"], "title": [evil, evil]})
    frame.write_parquet(tmp_path / "products.parquet")
    assert recsys("ingest", tmp_path / "products.parquet", "-C", copied, "-q").code == 0
    assert recsys("embed", "-C", copied, "-q").code == 0
    shown = recsys("similar", "--product", "p0001", "-k", "60", "-C", copied)
    assert "[bold]boots[/bold]" in shown.out and "[link=http://e]x[/link]" in shown.out
    assert not {"\x1b", "\u202e"} & set(shown.out + shown.err)
    document = recsys("similar", "--product", "p0001", "-k", "60", "-C", copied, "--json").document
    assert evil in [row["title"] for row in document["rows"]]
