"""The whole line on a tiny shop: what consumers read, what each command says, what is done again and what is not."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path

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


def test_cluster_and_index_keep_their_word(copied: Path, recsys: Run) -> None:
    before = dict(rows(copied, "SELECT product_id, cluster_id FROM product_clusters"))
    again = recsys("cluster", "-C", copied, "--json")
    assert again.code == 0, again.err
    assert dict(rows(copied, "SELECT product_id, cluster_id FROM product_clusters")) == before
    fewer = recsys("cluster", "--number", "3", "-C", copied, "--json").document
    assert fewer["counts"]["clusters"] == 3 and len(fewer["rows"]) == 3
    for kind in ("flat", "ivf", "hnsw", "pq"):
        made, again, full = (
            recsys("index", "--kind", kind, "-C", copied, "--json", *more).document for more in ([], [], ["--full"])
        )
        assert made["rows"][0]["kind"] == kind
        assert 0.9 <= made["counts"]["recall"] <= 1
        assert again["rows"][0]["done"] == "unchanged" and full["rows"][0]["done"] == "rebuilt: asked for"
        assert again["rows"][0] == {**made["rows"][0], "done": "unchanged"}  # nothing was measured again
        figures = {row["figure"] for row in made["tables"]["measured"]}
        assert {"recall@10, products", "recall@10, between products", "exact_median_ms"} <= figures


def test_evaluate_compares_with_plain_systems(copied: Path, recsys: Run) -> None:
    versions = sorted(path.name for path in (copied / "artifacts/models/encoder").iterdir())
    outcome = recsys("evaluate", "-C", copied, "--json", "--test-days", "7")
    assert outcome.code == 0, outcome.err
    systems = [row["system"] for row in outcome.document["rows"]]
    plain = ["popular", "popular-7d", "repurchase", "item-item", "ease", "als", "tf-idf"]
    assert systems == [*plain, "repurchase+item-item+popular", "recsys"]
    slices = outcome.document["tables"]["by slice"]
    assert {"ndcg@10", "hr@10", "map@12"} <= {row["metric"] for row in slices}
    shares = [row for row in slices if row["users"] and row["metric"] in {"ndcg@10", "hr@10", "map@12"}]
    assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 1 for row in shares)
    some = recsys(
        "evaluate", "-C", copied, "--test-days", "7", "--models", "popular,als", "--k", "5", "-o", copied / "f.csv"
    )
    assert some.code == 0 and "popular" in some.out.splitlines()[1], some.err
    wrong = recsys("evaluate", "-C", copied, "--models", "recsys,item-iten")
    assert wrong.code == 2 and "did you mean 'item-item'" in wrong.err
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
