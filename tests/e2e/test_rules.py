"""Rules, diversity and audience through the program: settings in the file, figures in the run, errors in one line."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

import recsys as package
from recsys.errors import NotFoundError, UsageError
from recsys.pipeline import recommend as lists
from recsys.pipeline.project import Project
from tests.e2e.projects import USERS, Run, rows

pytestmark = pytest.mark.e2e
K = 6


def ruled(folder: Path, text: str) -> Path:
    """Add settings to a project: keys of [recommend] before a blank line, then sections."""
    path = folder / "recsys.toml"
    keys, _, sections = text.partition("\n\n")
    path.write_text(path.read_text().replace("[recommend]\n", f"[recommend]\n{keys}\n") + sections, encoding="utf-8")
    return folder


def drops(folder: Path, run: str) -> dict[str, object]:
    ((text,),) = rows(folder, f"SELECT metrics FROM runs WHERE run_id = '{run}'")
    found = json.loads(text)["drops"]
    assert isinstance(found, dict)
    return found


def test_rules_shape_the_published_lists_and_are_counted(copied: Path, recsys: Run) -> None:
    plain = rows(copied)
    ruled(
        copied,
        'diversity = 0.3\ncalibration = 0.2\n\n[rules]\nseen = "exclude"\nexclude = ["p0001", "nothing"]\n'
        "price_max = 200\ncaps = { brand = 2 }\nmin_new = 1\n",
    )
    outcome = recsys("recommend", "-C", copied, "--json")
    assert outcome.code == 0, outcome.err
    document = outcome.document
    assert any("rules.exclude: there is no product 'nothing'" in warning for warning in document["warnings"])
    found = rows(copied)
    assert found != plain and len(found) == K * (USERS + 1)
    facts = dict(
        (product, (brand, price))
        for product, brand, price in rows(copied, "SELECT product_id, brand, price FROM products")
    )
    bought = set(rows(copied, "SELECT user_id, product_id FROM events WHERE event_type = 'purchase'"))
    brands: dict[str, Counter[str]] = {}
    scores: dict[str, list[float]] = {}
    for _, user, _, product, score, *_ in found:
        assert product != "p0001" and (user, product) not in bought
        assert facts[product][1] is None or facts[product][1] <= 200
        brands.setdefault(user, Counter())[facts[product][0]] += 1
        scores.setdefault(user, []).append(score)
    figures = drops(copied, document["run_id"])
    over = sum(sum(max(0, count - 2) for brand, count in own.items() if brand) for own in brands.values())
    assert over <= sum(figures["places_filled"].values())  # type: ignore[attr-defined]
    assert all(own == sorted(own, reverse=True) for own in scores.values())
    assert figures["shards_counted"] == figures["shards"] == -(-USERS // 8)
    assert figures["lists"] == USERS + 1 and figures["products_barred"]["exclude"] == 1  # type: ignore[index]
    table = {(row["rule"], row["what"]): row["count"] for row in document["tables"]["drops"]}
    assert table["seen", "pairs filtered out"] == figures["pairs_struck"]["seen"] > 0  # type: ignore[index]
    assert table["caps.brand", "products moved"] == figures["places_moved"]["caps.brand"]  # type: ignore[index]
    shown = recsys("recommend", "-C", copied)
    assert "pairs filtered out" in shown.out


def test_a_resumed_run_counts_its_own_shards(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recsys.config import load
    from recsys.store.run_writer import RunWriter as Written

    write, calls = Written.write_shard, []

    def dying(self: Written, shard: int, *rest: object, **named: object) -> bool:
        calls.append(shard)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(self, shard, *rest, **named)  # type: ignore[arg-type]

    settings = load(copied, flags={"recommend.k": 5}, env={})
    monkeypatch.setattr(Written, "write_shard", dying)
    with pytest.raises(KeyboardInterrupt), Project(settings) as bench:
        lists.recommend(bench)
    monkeypatch.setattr(Written, "write_shard", write)
    with Project(settings) as bench:
        report = lists.recommend(bench)
    assert report.run_id is not None
    figures = drops(copied, report.run_id)
    assert (figures["shards_counted"], figures["shards"]) == (3, 5)
    assert figures["lists"] == USERS - 16


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('include = ["p0001"]\nexclude = ["p0001"]', "the rules leave no product: .* 0 after include; change"),
        ("caps = { brnd = 2 }", r"rules.caps: unknown column 'brnd'; did you mean 'brand'\?"),
        ("caps = { brand = 0 }", "rules.caps = .*greater than or equal to 1"),
        ("price_min = 9\nprice_max = 3", r"price_max \(3.0\) is below price_min \(9.0\)"),
        ("price_factor = 0.5", r"price_factor \(0.5\) must be 0 or above 1"),
    ],
)
def test_wrong_rules_stop_before_anything_is_written(copied: Path, recsys: Run, text: str, said: str) -> None:
    before = rows(copied)
    ruled(copied, f"\n\n[rules]\n{text}\n")
    outcome = recsys("recommend", "-C", copied, "--json")
    assert outcome.code == 2
    assert re.search(said, outcome.document["error"]), outcome.document["error"]
    assert rows(copied) == before


def test_rules_that_leave_every_user_without_a_list_publish_nothing(copied: Path, recsys: Run) -> None:
    before = rows(copied)
    ((product,),) = rows(copied, "SELECT MIN(product_id) FROM products WHERE available IS NULL OR available")
    users = rows(copied, "SELECT DISTINCT user_id FROM users UNION SELECT DISTINCT user_id FROM events")
    events = copied / "events.csv"
    lines = [f"{user},{product},purchase,2020-01-01" for (user,) in users]
    events.write_text("\n".join(["user_id,product_id,event_type,occurred_at", *lines]) + "\n")
    assert recsys("ingest", events, "-C", copied, "-q").code == 0
    ruled(copied, f'\n\n[rules]\nseen = "exclude"\ninclude = ["{product}"]\n[publish]\nmin_user_coverage = 0\n')
    outcome = recsys("recommend", "-C", copied, "--json")
    assert outcome.code == 3, outcome.document
    assert "the rules leave no product to any of" in outcome.document["error"]
    again = recsys("recommend", "-C", copied, "--json")
    assert again.document["error"] == outcome.document["error"], "also where all shards are written already"
    assert rows(copied) == before


def test_the_audience_of_a_product(trained: Path, recsys: Run) -> None:
    asked = ("audience", "-C", trained, "--json")
    ((product,),) = rows(trained, "SELECT MIN(product_id) FROM products WHERE available IS NULL OR available")
    outcome = recsys(*asked, product, "-k", "7")
    assert outcome.code == 0, outcome.err
    found = outcome.document["rows"]
    assert [row["rank"] for row in found] == list(range(1, 8)) and outcome.document["command"] == "audience"
    assert [row["score"] for row in found] == sorted((row["score"] for row in found), reverse=True)
    assert len({row["user_id"] for row in found}) == 7 and all(row["reason"] for row in found)
    unknown = recsys(*asked, "p001")
    similar = recsys("similar", "--product", "p001", "-C", trained, "--json")
    assert unknown.code == similar.code == 2
    assert unknown.document["error"] == similar.document["error"]
    with package.open(trained) as shop:
        frame = shop.audience(product=product, k=7)
        assert frame.columns == ["user_id", "rank", "score", "reason"]
        assert frame["user_id"].to_list() == [row["user_id"] for row in found]
        with pytest.raises(NotFoundError, match="the nearest ids are"):
            shop.audience(product="p001")
        with pytest.raises(UsageError, match="at least 1"):
            shop.audience(product=product, k=0)


def test_the_audience_of_a_product_that_is_not_sold(copied: Path, recsys: Run) -> None:
    products = copied / "products.csv"
    products.write_text("product_id,title,available\np0001,gone,false\n")
    assert recsys("ingest", products, "-C", copied, "-q").code == 0
    assert recsys("embed", "-C", copied, "-q").code == 0
    outcome = recsys("audience", "p0001", "-C", copied, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["rows"] == []
    assert any("product 'p0001' is not available" in warning for warning in outcome.document["warnings"])
