"""`similar` on a small project: what it loads, files of queries, variants, words, and bad input said in words."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

import recsys
from recsys.config import load
from recsys.encoder import serialization as checkpoint
from recsys.encoder.model import Model
from recsys.encoder.product_encoder import ProductEncoder
from recsys.errors import DataContractError, NotFoundError, UsageError
from recsys.pipeline import embed as space
from recsys.pipeline import similar as finding
from recsys.pipeline import similar_batch as batch
from recsys.pipeline.ingest import IngestRequest, ingest
from recsys.pipeline.init import init_project
from recsys.pipeline.project import Project
from recsys.vectors.index.faiss_index import FaissIndex
from recsys.vectors.index.flat import BRUTE_FORCE_QUERIES, FlatIndex
from recsys.vectors.search.query import Query
from tests.contracts.test_docs import blocks_of
from tests.e2e.projects import run_recsys

N = 48
ROOT = Path(__file__).resolve().parents[2]
SIZES = {"encoder.dim": 16, "encoder.width": 16, "encoder.heads": 2, "encoder.vocabulary": 300, "images.size": 32}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose products come in pairs of one group; every sixth is sold out. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("finding") / "shop"
    init_project(folder, values=SIZES)
    colours = ("red", "blue", "green", "white")
    products = pl.DataFrame(
        {
            "product_id": [f"p{row:02d}" for row in range(N)],
            "title": [f"{colours[row % 4]} {('boots', 'hat', 'scarf')[row // 2 % 3]} {row // 6}" for row in range(N)],
            "price": [float(row) for row in range(N)],
            "group_id": [f"g{row // 2:02d}" for row in range(N)],
            "available": [row % 6 != 5 for row in range(N)],
            "attributes": [json.dumps({"colour": colours[row % 4]}) for row in range(N)],
        }
    )
    events = pl.DataFrame({"user_id": ["u"], "product_id": ["p00"], "occurred_at": [1_700_000_000]})
    with Project(load(folder, env={})) as project:
        ingest(project, IngestRequest.from_options([], frames={"products": products, "events": events}))
        project.reload()
        torch.manual_seed(0)
        encoder = project.settings.encoder
        checkpoint.save(
            Model(product_encoder=ProductEncoder.fit(project.catalogue, encoder), user_encoder=None, settings=encoder),
            project.models_folder / "encoder",
        )
        space.embed_products(project)
    Image.new("RGB", (40, 40), "red").save(folder / "photo.png")
    return folder


@pytest.fixture
def copied(shop: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shop, tmp_path / "shop"))


def _similar(shop: Path, *options: object) -> pl.DataFrame:
    outcome = run_recsys("similar", "-C", shop, "--json", *options)
    assert outcome.code == 0, outcome.err
    return pl.DataFrame(outcome.document["rows"])


def _refused(shop: Path, *options: object, code: int = 2) -> str:
    outcome = run_recsys("similar", "-C", shop, "--json", *options)
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    return str(outcome.document["error"])


def _products(frame: pl.DataFrame) -> list[str]:
    return frame["product_id"].to_list()


@pytest.mark.parametrize("options", [["--product", "p07"], ["--text", "red boots", "--search", "lexical"]])
def test_neither_model_nor_index_is_loaded(copied: Path, options: list[str]) -> None:
    open_first = ["similar", "-C", str(copied), "--text", "red", "--search", "lexical", "-q"]
    assert run_recsys(*open_first).code == 0  # the index of words is built once
    code = (
        "import sys\nfrom recsys.cli.app import main\n"
        f"code = main(['similar', '-C', sys.argv[1], '--json', '-k', '3', *{options!r}])\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'faiss', 'sklearn', 'scipy', 'pandas', 'pyarrow', 'alembic',\n"
        "         'lightgbm', 'bm25s', 'numba'}\n"
        "print(*sorted(heavy & set(sys.modules)))\nsys.exit(code)"
    )
    command = [sys.executable, "-c", code, str(copied)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    document, loaded = done.stdout.splitlines()
    assert len(json.loads(document)["rows"]) == 3
    assert loaded == ""


def test_a_product_is_looked_up_among_names_alone(shop: Path) -> None:
    with Project(load(shop, env={}), writes=False) as project:
        first = finding.search_one(project, Query(product="p07"), k=5)
        assert not any(project.is_loaded(part) for part in ("dataset", "catalogue", "model"))
        assert project.product_titles.frame.columns == ["product_id", "title", "available", "group_id", "image_hash"]
        kept = dict(project.search_engines)
        assert finding.search_one(project, Query(product="p07"), k=5).equals(first)
        assert project.search_engines == kept and len(kept) == 1
        whole = finding.search_one(project, Query(product="p07"), k=5, where="price >= 0")
        assert whole.equals(first) and not project.is_loaded("dataset")
        project.reload()
        assert not project.search_engines and not project.is_loaded("product_titles")


def test_in_a_large_table_who_asks_on_is_answered_by_the_index(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(project: Project) -> list[type]:
        used = []
        for _ in range(BRUTE_FORCE_QUERIES + 2):
            found = finding.search_one(project, Query(product="p07"), k=5)
            assert found["product_id"].to_list() == first["product_id"].to_list()
            used.append(type(list(project.search_engines.values())[-1].index))
        return used

    with Project(load(shop, env={}), writes=False) as project:
        first = finding.search_one(project, Query(product="p07"), k=5)
        assert set(asked(project)) == {FlatIndex}
    monkeypatch.setattr(finding, "SCAN_LIMIT", 1)
    monkeypatch.setattr("recsys.vectors.index.build.FLAT_MAX_PRODUCTS", 10)
    with Project(load(shop, env={}), writes=False) as project:
        assert asked(project) == [FlatIndex] * BRUTE_FORCE_QUERIES + [FaissIndex] * 2


@pytest.mark.parametrize("kept", ["auto", "bought_or_pictured", "all"])
def test_names_alone_are_those_of_the_catalogue(shop: Path, kept: str) -> None:
    with Project(load(shop, flags={"data.catalogue": kept}, env={}), writes=False) as project:
        few, whole = project.product_titles, project.catalogue
    assert len(whole) == (1 if kept == "bought_or_pictured" else N)
    assert few.ids.texts == whole.ids.texts and few.sellable.tolist() == whole.sellable.tolist()
    assert few.frame.equals(whole.frame.select(few.frame.columns))


def test_the_answer_is_that_of_a_plain_search(shop: Path) -> None:
    with Project(load(shop, env={}), writes=False) as project:
        vectors = project.embeddings.vectors.astype(np.float64)
    seen, wanted = {7 // 2}, []
    for row in np.argsort(-(vectors @ vectors[7]), kind="stable").tolist():
        if row % 6 != 5 and row // 2 not in seen:
            seen.add(row // 2)
            wanted.append(f"p{row:02d}")
    assert _products(_similar(shop, "--product", "p07", "-k", "30")) == wanted  # 23 families, as many as there are
    shown = _products(_similar(shop, "--product", "p07", "-k", "60", "--variants"))
    assert len(shown) == N - N // 6 - 1 and "p06" in shown
    assert all(int(name[1:]) % 6 != 5 for name in shown)


def test_few_candidates_fill_the_list(shop: Path) -> None:
    found = _similar(shop, "--text", "red boots", "-k", "3", "--where", "price between 10 and 15")
    assert sorted(int(name[1:]) // 2 for name in _products(found)) == [5, 6, 7]  # of 10..15 three groups, 11 sold out
    assert run_recsys("similar", "-C", shop, "--json", "--text", "x", "--where", "price < 0").document["rows"] == []


def test_several_of_each_with_weights_and_minus(shop: Path) -> None:
    photo = shop / "photo.png"
    every = ["--product", "p07", "--product", "p09", "--text", "boots", "--image", photo, "--not-text", "red"]
    every += ["--not-product", "p20", "--not-image", photo, "--weight", "text=2", "--weight", "product=2,1"]
    found = _similar(shop, *every, "--weight", "not-text=.5", "-k", "9")
    assert found.height == 9 and not {"p06", "p07", "p08", "p09", "p20", "p21"} & set(_products(found))
    with recsys.open(shop) as opened:
        weights = {"text": 2, "product": [2, 1], "not_text": 0.5}
        minus = {"text": "red", "product": ["p20"], "image": photo}
        same = opened.similar(product=["p07", "p09"], text="boots", image=photo, minus=minus, weights=weights, k=9)
        assert _products(same) == _products(found)
        assert opened.similar(text="boots", search="lexical", k=4)["title"].str.contains("boots").all()
        assert opened.similar(product="p07", variants=True, k=60).height == 39


def test_words_and_both(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    red = _similar(copied, "--text", "red boots", "--search", "lexical", "-k", "5", "--where", "price > 20")
    assert red["title"][0].startswith("red boots") and all("red" in t or "boots" in t for t in red["title"])
    assert {int(name[1:]) > 20 for name in _products(red)} == {True}
    both = _similar(copied, "--text", "red boots", "--search", "hybrid", "-k", "20")
    assert both.height == 20 and both["score"].max() <= 2 / 61
    monkeypatch.setenv("RECSYS_SEARCH__MODE", "hybrid")
    assert _similar(copied, "--text", "red boots", "-k", "20").equals(both)
    with sqlite3.connect(copied / "recsys.db") as store:
        store.execute("UPDATE products SET title = 'violet boots' WHERE product_id = 'p10'")
    assert _products(_similar(copied, "--text", "violet", "--search", "lexical")) == ["p10"]


def test_what_cannot_be_asked_is_said(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not a picture")
    assert "'p7'; the nearest ids are" in _refused(shop, "--product", "p7")
    assert "image_not_a_picture" in _refused(shop, "--image", tmp_path / "text.jpg")
    assert "the text is empty" in _refused(shop, "--text", " ")
    assert "name a product, a text or an image" in _refused(shop, "--not-text", "red")
    assert "text=2" in _refused(shop, "--text", "x", "--weight", "text")
    assert "text=2" in _refused(shop, "--text", "x", "--weight", "text=much")
    assert "did you mean 'text'" in _refused(shop, "--text", "x", "--weight", "txt=1")
    assert "did you mean 'price'" in _refused(shop, "--text", "x", "--where", "prize < 3")
    sql = "price < 3; DROP TABLE products; --"
    assert "where:" in _refused(shop, "--product", "p07", "--where", sql)
    assert "where:" in _refused(shop, "--product", "p07", "--where", "1 = 1 UNION SELECT * FROM users")
    assert "-o answers.parquet" in _refused(shop, "--queries", tmp_path / "q.csv")
    assert "can be combined only with" in _refused(shop, "--queries", tmp_path / "q.csv", "--text", "x")
    assert "no such file" in _refused(shop, "--queries", tmp_path / "q.csv", "-o", tmp_path / "a.csv")
    assert ".jsonl" in _refused(shop, "--text", "x", "-o", tmp_path / "a.xlsx")
    assert "no folder" in _refused(shop, "--text", "x", "-o", tmp_path / "no" / "a.csv")
    assert not list(tmp_path.glob("*a.*"))
    with recsys.open(shop) as opened:
        with pytest.raises(UsageError, match="did you mean 'hybrid'"):
            opened.similar(text="x", search="hybrit")
        with pytest.raises(UsageError, match="k is 0"):
            opened.similar(text="x", k=0)


def test_a_text_of_a_megabyte_is_cut(shop: Path, caplog: pytest.LogCaptureFixture) -> None:
    with recsys.open(shop) as opened:
        for search in ("vector", "hybrid"):
            found = opened.similar(text="red boots 连衣裙 " * 80_000, search=search, k=3)
            assert found.height == 3
    assert "only the first 2000 are read" in caplog.text


def test_a_product_without_a_vector(copied: Path) -> None:
    with sqlite3.connect(copied / "recsys.db") as store:
        store.execute("INSERT INTO products (product_id, title, available) VALUES ('new', 'violet hat', 1)")
    assert "'new' has no vector yet; run 'recsys embed'" in _refused(copied, "--product", "new")
    assert _products(_similar(copied, "--text", "violet", "--search", "lexical")) == ["new"]


QUERIES = pl.DataFrame(
    {
        "query_id": ["a", None, "c", "d", "e", "f"],
        "product": ["p07", None, "p09", "gone", None, None],
        "text": [None, "red boots", "but in blue", None, None, "hat"],
        "where": [None, "price < 30", None, None, None, "prize < 3"],
        "not_text": [None, "boots", None, None, "red", None],
    }
)


class TestQueries:
    @pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
    def test_a_file_is_answered_into_a_file(
        self, copied: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(batch, "BLOCK", 2)
        write = {
            "csv": pl.DataFrame.write_csv,
            "jsonl": pl.DataFrame.write_ndjson,
            "parquet": pl.DataFrame.write_parquet,
        }
        read = {"csv": pl.read_csv, "jsonl": pl.read_ndjson, "parquet": pl.read_parquet}
        queries, answers = tmp_path / f"queries.{kind}", tmp_path / f"answers.{kind}"
        write[kind](QUERIES, queries)
        monkeypatch.setenv("RECSYS_DATA__MAX_BAD_FRACTION", "0.5")
        outcome = run_recsys("similar", "-C", copied, "--json", "--queries", queries, "-o", answers, "-k", "4")
        assert outcome.code == 0, outcome.err
        assert outcome.document["counts"] == {"queries": 6, "answered": 3, "rejected": 3, "rows": 12}
        first = 2 if kind == "csv" else 1  # the first line of a csv file has the names
        bad = {row["row"] - first: (row["query_id"], row["why"]) for row in outcome.document["rows"]}
        assert bad.keys() == {3, 4, 5} and "'gone'" in bad[3][1] and bad[4][0] == "e"
        assert "nothing to look for" in bad[4][1] and "'price'" in bad[5][1]
        assert any(f"row {3 + first} (query d)" in warning for warning in outcome.document["warnings"])
        found = read[kind](answers)
        assert found.columns == ["query_id", "rank", "product_id", "score", "title"]
        assert found["rank"].to_list() == [1, 2, 3, 4] * 3
        of = dict(found.group_by("query_id", maintain_order=True).agg("product_id").iter_rows())
        assert of["a"] == _products(_similar(copied, "--product", "p07", "-k", "4"))
        alone = ["--text", "red boots", "--not-text", "boots", "--where", "price < 30", "-k", "4"]
        assert of[str(1 + first)] == _products(_similar(copied, *alone))
        assert of["c"] == _products(_similar(copied, "--product", "p09", "--text", "but in blue", "-k", "4"))
        assert sorted(path.name for path in tmp_path.glob("*answers*")) == [answers.name]  # no draft is left

    def test_too_many_bad_rows_write_nothing(self, copied: Path, tmp_path: Path) -> None:
        QUERIES.write_csv(tmp_path / "q.csv")
        answers = tmp_path / "a.parquet"
        answers.write_text("the last ones")
        said = _refused(copied, "--queries", tmp_path / "q.csv", "-o", answers, code=3)
        assert "3 of 6 queries" in said and "max_bad_fraction" in said and "row 5" in said
        assert answers.read_text() == "the last ones"

    def test_a_column_nobody_knows(self, shop: Path, tmp_path: Path) -> None:
        (tmp_path / "q.csv").write_text("query_id,txt\n1,red\n")
        said = _refused(shop, "--queries", tmp_path / "q.csv", "-o", tmp_path / "a.csv")
        assert "did you mean 'text'" in said
        (tmp_path / "q.csv").write_text("query_id,where\n1,price < 3\n")
        said = _refused(shop, "--queries", tmp_path / "q.csv", "-o", tmp_path / "a.csv")
        assert "no product, text or image" in said

    def test_pictures_are_named_from_the_files_folder_and_lists_hold_several(
        self, copied: Path, tmp_path: Path
    ) -> None:
        rows = [
            {"image": "photo.png", "product": ["p07", "p09"], "not_text": ["red", "blue"]},
            {"image": None, "product": None, "text": '["not a list'},
        ]
        (copied / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        with recsys.open(copied) as opened:
            found = opened.similar(queries=copied / "q.jsonl", k=3)
            one = opened.similar(
                image=copied / "photo.png", product=["p07", "p09"], minus={"text": ["red", "blue"]}, k=3
            )
            assert _products(found.filter(query_id="1")) == _products(one)
            assert _products(found.filter(query_id="2")) == _products(opened.similar(text='["not a list', k=3))
            frame = opened.similar(queries=pl.DataFrame({"product": ["p07", "p09"]}).to_pandas(), k=2)
            assert frame["query_id"].to_list() == ["1", "1", "2", "2"]
            assert opened.similar(queries=pl.DataFrame({"product": []}, schema={"product": pl.String})).height == 0
            with pytest.raises(DataContractError, match="1 of 1 queries"):
                opened.similar(queries=pl.DataFrame({"product": ["gone"]}))

    def test_titles_cannot_be_formulas_in_a_csv_file(self, copied: Path, tmp_path: Path) -> None:
        with sqlite3.connect(copied / "recsys.db") as store:
            store.execute("UPDATE products SET title = '=HYPERLINK(1)'")
        assert run_recsys("similar", "-C", copied, "--product", "p07", "-o", tmp_path / "a.csv").code == 0
        assert set(pl.read_csv(tmp_path / "a.csv")["title"]) == {"'=HYPERLINK(1)"}
        assert run_recsys("similar", "-C", copied, "--product", "p07", "-o", tmp_path / "a.jsonl").code == 0
        assert set(pl.read_ndjson(tmp_path / "a.jsonl")["title"]) == {"=HYPERLINK(1)"}


def test_the_table_of_all_products_has_one_of_each_group_and_none_sold_out(copied: Path) -> None:
    assert run_recsys("index", "-C", copied, "-q").code == 0
    with sqlite3.connect(copied / "recsys.db") as store:
        rows = store.execute(
            "SELECT product_id, neighbour_id FROM similar_products ORDER BY product_id, rank"
        ).fetchall()
    of: dict[str, list[int]] = {}
    for product, neighbour in rows:
        of.setdefault(product, []).append(int(neighbour[1:]))
    assert len(of) == N  # a product that is sold out has neighbours too
    for product, held in of.items():
        groups = [row // 2 for row in held]
        assert len(held) == 20 and len(set(groups)) == 20 and int(product[1:]) // 2 not in groups
        assert all(row % 6 != 5 for row in held)
    assert [f"p{row:02d}" for row in of["p07"]] == _products(_similar(copied, "--product", "p07", "-k", "20"))


def test_unknown_products_are_not_found_errors(shop: Path) -> None:
    with recsys.open(shop) as opened, pytest.raises(NotFoundError):
        opened.similar(product=["p07", "nowhere"])


def test_the_script_of_the_readme_is_short() -> None:
    """That it runs is the business of tests/contracts/test_docs.py."""
    blocks = [block.text for block in blocks_of(ROOT / "README.md") if block.language == "python"]
    (script,) = [text for text in blocks if "image=" in text]
    assert len(script.splitlines()) <= 15
    assert "recsys.open(" in script and "where=" in script and ".write_parquet(" in script
