"""The whole line on a tiny shop: what consumers read, what each command says, what is done again and what is not."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.projects import PRODUCTS, USERS, Run, rows

pytestmark = pytest.mark.e2e
K = 6


def test_every_user_has_k_ranked_products_with_reasons(trained: Path) -> None:
    lists: dict[str, list[tuple[int, str, float, str]]] = {}
    for _, user, rank, product, score, reason, _ in rows(trained):
        lists.setdefault(user, []).append((rank, product, score, reason))
    known = {user for (user,) in rows(trained, "SELECT user_id FROM users UNION SELECT user_id FROM events")}
    assert len(known) == USERS
    assert set(lists) == known | {"__default__"}
    sellable = {p for (p,) in rows(trained, "SELECT product_id FROM products WHERE available IS NOT 0")}
    for user, made in lists.items():
        assert [rank for rank, *_ in made] == list(range(1, K + 1)), user
        products = [product for _, product, *_ in made]
        assert len(set(products)) == K and set(products) <= sellable
        scores = [score for _, _, score, _ in made]
        assert scores == sorted(scores, reverse=True)
        assert all(reason.strip() for *_, reason in made)


def test_reasons_name_what_the_user_really_bought(trained: Path) -> None:
    bought: dict[str, set[str]] = {}
    for user, product in rows(trained, "SELECT DISTINCT user_id, product_id FROM events"):
        bought.setdefault(user, set()).add(product)
    named = [(user, product) for _, user, *_, product in rows(trained) if product is not None]
    assert named
    assert [pair for pair in named if pair[1] not in bought.get(pair[0], set())] == []


def test_what_consumers_read_comes_from_one_published_run(trained: Path) -> None:
    ((run_id, version),) = rows(trained, "SELECT DISTINCT run_id, model_version FROM recommendations")
    (published,) = rows(trained, "SELECT run_id FROM publications WHERE placement = 'default'")
    assert published == (run_id,)
    ((state, counts, metrics),) = rows(trained, f"SELECT state, counts, metrics FROM runs WHERE run_id = '{run_id}'")
    assert state == "published" and version
    assert json.loads(counts)["users"] == USERS
    held = json.loads(metrics)
    for stage in ("train products", "train users", "fit ranker", "embed", "cluster", "index", "recommend"):
        assert held["seconds"][stage] >= 0
        assert held["peak_mb"][stage] > 50
    assert rows(trained, "SELECT COUNT(DISTINCT product_id) FROM similar_products") == [(PRODUCTS,)]
    assert rows(trained, "SELECT COUNT(*) FROM product_clusters") == [(PRODUCTS,)]
    assert all(label for (label,) in rows(trained, "SELECT label FROM cluster_labels"))
    assert rows(trained, "SELECT COUNT(*), MIN(LENGTH(vector)), MAX(dim) FROM product_embeddings") == [
        (PRODUCTS, 64, 16)
    ]


def test_embed_again_encodes_nothing_and_a_changed_title_one_product(copied: Path, drawn: Path, recsys: Run) -> None:
    outcome = recsys("embed", "-C", copied, "--json")
    assert outcome.code == 0, outcome.err
    assert (outcome.document["status"], outcome.document["counts"]["encoded"]) == ("nothing_new", 0)
    assert recsys("embed", "-C", copied, "--fail-if-noop").code == 5
    with (drawn / "products.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    table[7]["title"] += " new"
    changed = copied / "products.csv"
    with changed.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    before = rows(copied, "SELECT product_id, updated_at, content_hash FROM products ORDER BY 1")
    assert recsys("ingest", changed, "-C", copied, "-q").code == 0
    after = rows(copied, "SELECT product_id, updated_at, content_hash FROM products ORDER BY 1")
    assert [new[0] for old, new in zip(before, after, strict=True) if old != new] == [table[7]["product_id"]]
    assert recsys("embed", "-C", copied, "--json").document["counts"]["encoded"] == 1
    assert recsys("embed", "-C", copied, "--json").document["counts"]["encoded"] == 0
    assert recsys("embed", "--full", "-C", copied, "--json").document["counts"]["encoded"] == PRODUCTS


def test_ingesting_the_same_files_again_changes_nothing(copied: Path, drawn: Path, recsys: Run) -> None:
    tables = ("products", "users", "events", "rejected_rows")
    before = [rows(copied, f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in tables if table != "users"]
    outcome = recsys("ingest", drawn, "-C", copied, "--json")
    assert outcome.code == 0
    assert outcome.document["counts"]["images"]["decoded"] == 0
    assert [rows(copied, f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in tables if table != "users"] == before


def test_a_dry_run_writes_nothing(copied: Path, drawn: Path, recsys: Run, tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_text("product_id,title\nnew1,a thing\n")
    before = rows(copied, "SELECT COUNT(*) FROM products")
    outcome = recsys("ingest", tmp_path / "products.csv", "--dry-run", "-C", copied, "--json")
    assert (outcome.code, outcome.document["status"]) == (0, "planned")
    assert outcome.document["counts"]["products"]["used"] == 1
    assert rows(copied, "SELECT COUNT(*) FROM products") == before


def test_run_again_does_not_train_and_says_so_before(copied: Path, recsys: Run) -> None:
    plan = recsys("run", "--dry-run", "-C", copied, "--json")
    assert (plan.code, plan.document["status"]) == (0, "planned")
    assert {row["step"]: row["done"] for row in plan.document["rows"]}["train encoder"] == "no"
    before = rows(copied)
    outcome = recsys("run", "-C", copied, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["counts"]["trained"] == "nothing"
    assert outcome.document["counts"]["encoded"] == 0
    assert {row["stage"] for row in outcome.document["rows"]} >= {"embed", "cluster", "index", "recommend", "publish"}
    assert rows(copied) == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [("[encoder]\ndim = 24\n", "a setting of the models has changed"), ("", "events have grown")],
)
def test_training_is_due_when_settings_change_or_data_grows(
    copied: Path, recsys: Run, tmp_path: Path, change: str, reason: str
) -> None:
    text = (copied / "recsys.toml").read_text()
    if change:
        (copied / "recsys.toml").write_text(text.replace("dim = 16", "dim = 24"))
    else:
        n = rows(copied, "SELECT COUNT(*) FROM events")[0][0]
        product = rows(copied, "SELECT MIN(product_id) FROM products")[0][0]
        lines = [f"new{row},{product},purchase,2025-06-20" for row in range(n // 4)]
        (tmp_path / "events.csv").write_text("\n".join(["user_id,product_id,event_type,occurred_at", *lines]))
        assert recsys("ingest", tmp_path / "events.csv", "-C", copied, "-q").code == 0
    plan = {row["step"]: row for row in recsys("run", "--dry-run", "-C", copied, "--json").document["rows"]}
    assert plan["train encoder"]["done"] == plan["train ranker"]["done"] == "yes"
    assert reason in plan["train encoder"]["why"]


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


def test_cluster_and_index_keep_their_word(copied: Path, recsys: Run) -> None:
    before = dict(rows(copied, "SELECT product_id, cluster_id FROM product_clusters"))
    again = recsys("cluster", "-C", copied, "--json")
    assert again.code == 0, again.err
    assert dict(rows(copied, "SELECT product_id, cluster_id FROM product_clusters")) == before
    fewer = recsys("cluster", "--number", "3", "-C", copied, "--json").document
    assert fewer["counts"]["clusters"] == 3 and len(fewer["rows"]) == 3
    for kind in ("flat", "ivf", "hnsw"):
        made = recsys("index", "--kind", kind, "-C", copied, "--json").document
        assert made["rows"][0]["kind"] == kind
        assert 0.9 <= made["counts"]["recall"] <= 1


def test_evaluate_compares_with_plain_systems(copied: Path, recsys: Run) -> None:
    versions = sorted(path.name for path in (copied / "artifacts/models/encoder").iterdir())
    outcome = recsys("evaluate", "-C", copied, "--json", "--test-days", "7")
    assert outcome.code == 0, outcome.err
    systems = [row["system"] for row in outcome.document["rows"]]
    assert systems == ["popular-7d", "repurchase", "item-item", "tf-idf", "recsys"]
    slices = outcome.document["tables"]["by slice"]
    assert {"ndcg@10", "hr@10", "map@12"} <= {row["metric"] for row in slices}
    assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 1 for row in slices if row["users"])
    assert sorted(path.name for path in (copied / "artifacts/models/encoder").iterdir()) == versions
    nothing = recsys("evaluate", "-C", copied, "--json", "--test-days", "5000")
    assert nothing.code == 2 and "test days" in nothing.document["error"]


def test_data_can_come_from_a_shops_own_database(copied: Path, drawn: Path, recsys: Run, tmp_path: Path) -> None:
    from tests.e2e.projects import new_project

    project = new_project(tmp_path / "other")
    shop = f"sqlite:///{copied}/recsys.db"
    outcome = recsys(
        "ingest", "--from-sql", shop, "-C", project, "--json",
        "--products-query", "SELECT product_id, title, description, brand, category, price, currency, image, available,"
        " group_id, attributes, created_at FROM products",
        "--events-query", "SELECT user_id, product_id, event_type, occurred_at, quantity, value, order_id FROM events",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    same = "SELECT user_id, product_id, event_type, occurred_at, quantity, value FROM events ORDER BY 1, 2, 3, 4, 5"
    assert rows(project, same) == rows(copied, same)
    both = "SELECT product_id, title, price, available FROM products ORDER BY 1"
    assert rows(project, both) == rows(copied, both)
    mixed = recsys("ingest", drawn, "--from-sql", shop, "-C", project)
    assert mixed.code == 2 and "--from-sql" in mixed.err


def test_the_lists_are_a_frame_in_python_too(trained: Path) -> None:
    import recsys

    with recsys.open(trained) as shop:
        published = shop.recommendations(["u0001", "nobody"], k=2)
        made = shop.recommend(users=["u0001"], k=2)
    assert published.filter(pl.col("user_id") == "u0001")["product_id"].to_list() == made["product_id"].to_list()
    assert published.filter(pl.col("user_id") == "nobody").height == 2


def test_run_reads_the_shops_database_first(copied: Path, drawn: Path, recsys: Run, tmp_path: Path) -> None:
    shop = tmp_path / "own.db"
    with sqlite3.connect(shop) as connection:
        connection.execute("CREATE TABLE sales (who TEXT, what TEXT, at TEXT)")
        connection.execute("INSERT INTO sales VALUES ('fresh', 'p0001', '2025-06-29 12:00:00')")
    (copied / "sales.sql").write_text("SELECT who AS user_id, what AS product_id, at AS occurred_at FROM sales")
    text = (copied / "recsys.toml").read_text()
    (copied / "recsys.toml").write_text(f"{text}\n[source]\nurl = 'sqlite:///{shop}'\nevents_query = '@sales.sql'\n")
    plan = {row["step"]: row["done"] for row in recsys("run", "--dry-run", "-C", copied, "--json").document["rows"]}
    assert (plan["ingest"], plan["train encoder"]) == ("yes", "no")
    outcome = recsys("run", "-C", copied, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["counts"]["ingested"]["events"]["used"] == 1
    assert rows(copied, "SELECT COUNT(*) FROM recommendations WHERE user_id = 'fresh'") == [(K,)]
    (copied / "sales.sql").write_text("SELECT who, what FROM sales")
    wrong = recsys("run", "-C", copied, "--json")
    assert wrong.code == 2 and "AS user_id" in wrong.document["error"]
    (copied / "sales.sql").unlink()
    assert "sales.sql" in recsys("run", "-C", copied, "--json").document["error"]


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
