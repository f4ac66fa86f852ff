"""The report of a tiny shop: numbers against plain counting in the store, what is missing, what is broken."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.e2e.projects import Run, new_project, rows
from tests.report.contents import PAYLOADS
from tests.report.test_html import Seen, told

pytestmark = pytest.mark.e2e
K = 6


def numbers(project: Path, recsys: Run) -> dict[str, Any]:
    """Write the report and read its numbers."""
    outcome = recsys("report", "-C", project, "--json")
    assert outcome.code == 0, outcome.err
    html, held = (Path(outcome.document["artifacts"][name]) for name in ("report", "numbers"))
    assert html.stat().st_size == outcome.document["counts"]["bytes"] < 8_000_000
    made = json.loads(held.read_text())
    assert isinstance(made, dict)
    return made


def test_the_night_leaves_a_report_of_its_own_run(trained: Path) -> None:
    held = json.loads((trained / "report.json").read_text())
    ((run_id,),) = rows(trained, "SELECT run_id FROM publications WHERE placement = 'default'")
    assert held["lists"]["run_id"] == run_id
    assert dict(held["quality"]["counts"])["products"] == 60
    assert len(held["people"]) == 20 and held["explorer"] and held["training"]["curves"]
    assert {one["stage"] for one in held["training"]["curves"]} == {"products", "users"}
    shown = told((trained / "report.html").read_text())["products"]
    assert isinstance(shown, dict) and {row[2] for row in shown.values()} <= {one["id"] for one in held["products"]}
    assert held["evaluation"] is None and held["changes"] is None


def test_its_numbers_are_those_of_the_store(copied: Path, recsys: Run) -> None:
    held = numbers(copied, recsys)
    placed = rows(copied, "SELECT user_id, product_id FROM recommendations WHERE user_id <> '__default__'")
    shown = Counter(product for _, product in placed)
    exposure, lists = held["exposure"], held["lists"]
    assert (exposure["listed"], exposure["places"]) == (len(shown), len(placed))
    assert (lists["covered"], lists["k"]) == (len({user for user, _ in placed}), K)
    brands = dict(rows(copied, "SELECT product_id, brand FROM products"))
    places = Counter(brands[product] for product, count in shown.items() for _ in range(count))
    for share in exposure["brands"]:
        if share["name"] in places:
            assert share["exposure"] == pytest.approx(places[share["name"]] / len(placed))
    assert sum(share["exposure"] for share in exposure["tenths"]) == pytest.approx(1)
    assert sum(share["catalogue"] for share in exposure["prices"]) == pytest.approx(1)
    titles = dict(rows(copied, "SELECT product_id, title FROM products"))
    wanted = defaultdict(list)
    for user, product, reason in rows(
        copied, 'SELECT user_id, product_id, reason FROM recommendations ORDER BY user_id, "rank"'
    ):
        wanted[user].append((product, reason))
    for person in held["people"]:
        own = [(held["products"][place["product"]]["id"], place["reason"]) for place in person["list"]]
        assert own == wanted[person["id"]]
        done = rows(copied, f"SELECT product_id FROM events WHERE user_id = '{person['id']}'")
        assert len(done) >= person["events"] >= len(person["history"])
        assert {held["products"][event["product"]]["id"] for event in person["history"]} <= {one for (one,) in done}
    near = defaultdict(list)
    for product, other in rows(copied, 'SELECT product_id, neighbour_id FROM similar_products ORDER BY 1, "rank"'):
        near[product].append(other)
    for one in held["explorer"]:
        found = [held["products"][other]["id"] for other, _ in one["near"]]
        assert found == near[held["products"][one["product"]]["id"]][: len(found)] and found
    assert all(one["title"] == (titles[one["id"]] or one["id"]) for one in held["products"])


def test_what_changed_is_told_against_the_run_before(copied: Path, recsys: Run) -> None:
    before = defaultdict(set)
    for user, product in rows(copied, "SELECT user_id, product_id FROM recommendations"):
        before[user].add(product)
    assert recsys("recommend", "-C", copied, "-k", K - 2, "-q").code == 0
    after = defaultdict(set)
    for user, product in rows(copied, "SELECT user_id, product_id FROM recommendations"):
        after[user].add(product)
    users = [user for user in before if user != "__default__"]
    shares = [len(before[user] & after[user]) / len(before[user]) for user in users]
    changes = numbers(copied, recsys)["changes"]
    assert changes["overlap"] == pytest.approx(sum(shares) / len(shares)) and changes["users"] == len(users)
    told_rows = {row[0]: row[1:] for row in changes["rows"]["rows"]}
    assert told_rows["rows"] == [sum(len(before[user]) for user in users), sum(len(after[user]) for user in users)]


def test_the_last_evaluation_is_kept_and_shown(copied: Path, recsys: Run) -> None:
    days = ("--test-days", "7", "--models", "popular,item-item")
    outcome = recsys("evaluate", "-C", copied, "--json", *days)
    assert outcome.code == 0, outcome.err
    manifest = Path(outcome.document["artifacts"]["evaluation"])
    held = numbers(copied, recsys)["evaluation"]
    assert held["said"] == outcome.document["tables"]["verdict"][0]["verdict"]
    assert held["ours"] == "" and held["same_data"] and held["same_settings"] and "7 days" in held["how"]
    figures = {(one["system"], one["metric"]): one["value"] for one in held["figures"] if one["slice"] == "all"}
    for row in outcome.document["tables"]["by slice"]:
        if row["slice"] == "all":
            assert figures[row["system"], row["metric"]] == row["value"]
    (figures_file,) = manifest.parent.glob("evaluation-figures-*")
    figures_file.write_bytes(b"altered")
    broken = recsys("report", "-C", copied, "--json")
    assert broken.code == 0 and "run 'recsys evaluate' again" in " ".join(broken.document["warnings"])
    assert json.loads((copied / "report.json").read_text())["evaluation"] is None


def test_groups_are_shown_as_cluster_left_them(copied: Path, recsys: Run) -> None:
    folder = copied / "artifacts/clusters"
    for path in folder.glob("*"):
        path.unlink()
    assert numbers(copied, recsys)["clusters"] is None
    folder.mkdir(exist_ok=True)
    ids = [one for (one,) in rows(copied, "SELECT product_id FROM products ORDER BY 1")]
    group = [-1, *([3] * 30), *([5] * (len(ids) - 31))]
    places = {"product_id": ids, "x": [float(at) for at in range(len(ids))], "y": [1.0] * len(ids), "cluster_id": group}
    groups = {
        "cluster_id": [3, 5], "label": ["three", "<b>five</b>"], "size": [30, 29], "terms": [["a"], []],
        "exemplars": [[ids[4], "gone"], []], "parent": [0, 0], "parent_label": ["all", "all"],
    }  # fmt: skip
    pl.DataFrame(places).write_parquet(folder / "map.parquet")
    pl.DataFrame(groups).write_parquet(folder / "groups.parquet")
    files = {
        name: {"sha256": sha256((folder / name).read_bytes()).hexdigest()} for name in ("map.parquet", "groups.parquet")
    }
    (folder / "clusters.json").write_text(json.dumps({"facts": {}, "files": files}))
    held = numbers(copied, recsys)
    assert [one["label"] for one in held["clusters"]["groups"]] == ["three", "<b>five</b>"]
    first = held["clusters"]["groups"][0]
    assert held["products"][first["products"][0]]["id"] == ids[4] and len(first["products"]) == 12
    assert len(held["clusters"]["dots"]) == len(ids) == held["clusters"]["whole"]
    (folder / "map.parquet").write_bytes(b"altered")
    broken = recsys("report", "-C", copied, "--json")
    assert broken.code == 0 and "run 'recsys cluster'" in " ".join(broken.document["warnings"])


def test_where_it_is_written_and_what_is_refused(copied: Path, recsys: Run, tmp_path: Path) -> None:
    assert recsys("report", "-C", copied, "-o", tmp_path / "deep/page.html").code == 0
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"page.html", "page.json"}
    wrong = recsys("report", "-C", copied, "-o", tmp_path / "page.pdf")
    assert wrong.code == 2 and ".html" in wrong.err
    (tmp_path / "folder.html").mkdir()
    assert recsys("report", "-C", copied, "-o", tmp_path / "folder.html").code == 2
    toml = (copied / "recsys.toml").read_text()
    (copied / "recsys.toml").write_text(f"{toml}\n[report]\nusers = 0\nproducts = 0\nnightly = false\n")
    held = numbers(copied, recsys)
    assert held["people"] == [] and held["explorer"] == []
    users = {user for (user,) in rows(copied, "SELECT user_id FROM users")}
    page = (copied / "report.html").read_text().replace("\\u0026", "&")  # an escape that looks like an id
    assert not [user for user in users if user in page]
    (copied / "report.html").unlink()
    assert recsys("run", "-C", copied, "-q").code == 0
    assert not (copied / "report.html").exists()


def test_a_night_does_not_fail_over_its_page(copied: Path, recsys: Run) -> None:
    (copied / "report.html").unlink()
    (copied / "report.html").mkdir()
    outcome = recsys("run", "-C", copied, "--json")
    assert outcome.code == 0, outcome.err
    assert any("the report could not be written" in warning for warning in outcome.document["warnings"])


def test_markup_in_every_column_of_the_store_shows_as_text(recsys: Run, tmp_path: Path) -> None:
    """Nothing is trained: what is shown of products stands in the quality of the data and in rejected rows."""
    texts = [text.replace("\x00", "") for text in PAYLOADS]
    project = new_project(tmp_path / "project")
    with (tmp_path / "products.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["product_id", "title", "description", "brand", "category", "price", "attributes"])
        for at, text in enumerate(texts):
            own = json.dumps({f"a {text}"[:60]: text})
            writer.writerow([f"{at} {text}", text, text, text, text, 3, own])
            if at % 9 == 0:  # the same id with other content is rejected
                writer.writerow([f"{at} {text}", text, text, text, text, 4, own])
    toml = (project / "recsys.toml").read_text()
    (project / "recsys.toml").write_text(f"{toml}\n[data]\nmax_bad_fraction = 1\n")
    taken = recsys("ingest", tmp_path / "products.csv", "-C", project, "--json")
    assert taken.code == 0, taken.err
    held = numbers(project, recsys)
    assert dict(held["quality"]["counts"])["rejected rows"] >= 6
    seen = Seen((project / "report.html").read_text())
    assert {tag for tag, _ in seen.elements} <= {  # and no other, such as img or iframe
        "html", "head", "meta", "title", "link", "style", "body", "a", "header", "p", "strong", "span", "button", "svg",
        "circle", "path", "div", "nav", "ol", "li", "main", "section", "h1", "h2", "h3", "h4", "ul", "dl", "dt", "dd",
        "code", "details", "summary", "table", "caption", "thead", "tbody", "tr", "th", "td", "rect",
        "footer", "script",
    }  # fmt: skip
    assert len(seen.blocks["script"]) == 2 and len(seen.blocks["style"]) <= 2
    assert "<script>window.pwned=1</script>" in "".join(seen.texts)


def test_a_forgotten_user_is_in_no_file_of_the_report(copied: Path, drawn: Path, recsys: Run) -> None:
    held = numbers(copied, recsys)
    user = held["people"][0]["id"]
    outcome = recsys("forget", user, "-C", copied, "--yes", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["counts"]["asked"] == outcome.document["counts"]["users"] == 1
    assert not (copied / "report.html").exists() and not (copied / "report.json").exists()
    assert user not in {person["id"] for person in numbers(copied, recsys)["people"]}
    again = recsys("ingest", drawn, "-C", copied, "--json")
    assert again.code == 0 and again.document["counts"]["events"]["filtered_by"]["forgotten"] > 0, again.err
    assert rows(copied, f"SELECT COUNT(*) FROM events WHERE user_id = '{user}'") == [(0,)]
