from __future__ import annotations

import io
import json
import sys
import zipfile
from math import comb
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

HERE = Path(__file__).parents[2]
SCRIPT = HERE / "benchmarks" / "representation.py"
COLOURS = {"Red": (220, 20, 20), "Blue": (20, 20, 220), "Green": (20, 200, 20)}
KINDS = ("Shirt", "Watch", "Shoe")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A catalogue of 90 products, 75 of them with a picture in their colour."""
    folder, g = tmp_path_factory.mktemp("fashion"), np.random.default_rng(0)
    rows = []
    with zipfile.ZipFile(folder / "images.zip", "w") as album:
        for number in range(90):
            colour, kind = list(COLOURS)[number % 3], KINDS[number // 3 % 3]
            gender = ["Men", "Women"][number // 9 % 2]
            pictured = number % 3 != 1 or number % 2 == 0
            rows.append(
                {
                    "id": f"{number:05d}",
                    "gender": gender,
                    "masterCategory": "Things",
                    "subCategory": kind,
                    "articleType": kind,
                    "baseColour": colour,
                    "season": ["Summer", "Winter"][number % 2],
                    "year": "2012",
                    "usage": "Casual",
                    "productDisplayName": f"Maker{number % 4} {gender} {colour} {kind}",
                    "has_image": pictured,
                }
            )
            if pictured:
                pixels = np.clip(np.array(COLOURS[colour]) + g.integers(-20, 20, (20, 20, 3)), 0, 255).astype(np.uint8)
                pixels[: 5 + 5 * KINDS.index(kind)] = 255
                held = io.BytesIO()
                Image.fromarray(pixels).save(held, "PNG")
                album.writestr(f"{number:05d}.jpg", held.getvalue())
    frame = pl.DataFrame(rows)
    frame.write_parquet(folder / "styles.parquet")
    frame.filter(pl.col("has_image")).head(20).drop("has_image").write_csv(folder / "asked.csv")
    frame.join(pl.read_csv(folder / "asked.csv", infer_schema=False), on="id", how="anti").write_csv(
        folder / "known.csv"
    )
    return folder


@pytest.fixture
def run(files, monkeypatch, capsys):
    """The benchmark in this process, for starting one takes longer than what it does here: (exit code, out, err)."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import representation

    def run(*options, products="styles.parquet", images="images.zip", folder=files, work=True):
        given = ["--products", folder / products, "--images", folder / images, "--quick", "--json"]
        given += [*(["--work", files / "work"] if work else []), *options]
        monkeypatch.setattr(sys, "argv", ["representation.py", *map(str, given)])
        code = representation.main()
        return code, *capsys.readouterr()

    return run


def answer(done):
    code, out, err = done
    assert code == 0, err
    last = json.loads(out.splitlines()[-1])
    return last, {(row["system"], row["metric"], row["slice"]): row for row in last["rows"]}


def test_vectors_are_judged_beside_plain_ones(run):
    last, rows = answer(run("--few-labels"))
    assert last["benchmark"] == "representation" and last["quick"] is True
    assert (last["products"], last["pictured"], last["held"]) == (90 - 25, 50, 25)
    for metric in ("i2t_recall@1", "i2t_recall@10", "i2t_strict@10"):
        assert ("recsys", metric, "image") in rows
    for view in ("text", "image", "text+image", "all"):
        for name in ("articleType", "baseColour", "gender"):
            assert ("recsys", f"knn20_{name}", view) in rows and ("recsys", f"linear_{name}", view) in rows
    assert all(0 <= row["low"] <= row["value"] + 1e-9 <= row["high"] + 2e-9 <= 1 + 3e-9 for row in last["rows"])
    for row in last["rows"]:
        if "strict" in row["metric"]:
            assert row["value"] <= rows[row["system"], row["metric"].replace("strict", "recall"), row["slice"]]["value"]
    # The colour is in the pixels, and in the words.
    assert rows["pca of pixels 128", "linear_baseColour", "image"]["value"] > 0.9
    assert rows["tf-idf", "linear_articleType", "text"]["value"] > 0.9
    assert (
        rows["pca of pixels, ridge to lsa", "i2t_recall@10", "image"]["value"]
        > (rows["chance", "i2t_recall@10", "image"]["value"])
    )
    assert {"chance", "lsa 256", "resnet-18, untrained"} <= {row["system"] for row in last["rows"]}
    (learned,) = last["learned"]
    assert len(learned["model"]) == 12 and learned["losses"]["image_text"] > 0
    assert last["ratios"] and last["machine"]["cpus"] >= 1
    for system, view in (
        ("recsys", "all"),
        ("untrained encoder", "all"),
        ("same network, labels alone", "all"),
        ("tf-idf", "text"),
    ):
        values = [rows[system, f"labels{count}_articleType", view]["value"] for count in (1, 5, 20)]
        assert all(0 <= value <= 1 for value in values)
    assert rows["tf-idf", "labels20_articleType", "text"]["value"] > 0.9


def test_few_labels_the_ablation_and_the_sheet(run, tmp_path):
    options = ["--no-probes", "--few-labels", "--ablate", "--sheet", tmp_path / "sheet.jpg", "--only", "recsys"]
    last, rows = answer(run(*options, "--set", "training.batch_size=32", "--set", "objectives.masked_text=0"))
    assert last["ratios"] and not any(metric.startswith("linear") for _, metric, _ in rows)
    without = {system for system, _, _ in rows if system != "recsys"}
    assert {"without masked_attributes", "without image_text"} <= without
    assert not {"without next_item", "without co_purchase", "without masked_text"} & without
    by_name = {one["system"]: one for one in last["learned"]}
    assert "image_text" not in by_name["without image_text"]["losses"]
    assert len({one["model"] for one in last["learned"]}) == len(last["learned"])
    for count in (1, 5, 20):
        assert 0 <= rows["recsys", f"labels{count}_articleType", "all"]["value"] <= 1
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.width > 11 * 96 and sheet.height > 20 * 96


def test_a_test_of_its_own_file_and_several_trainings(run, files):
    options = ["--test-products", files / "asked.csv", "--only", "recsys", "--seeds", "2", "--no-probes"]
    last, rows = answer(run(*options, "--pictured-only", products="known.csv"))
    assert (last["products"], last["held"], last["seeds"]) == (55, 20, 2) and last["ratios"] == {}
    assert [one["seed"] for one in last["learned"]] == [0, 1]
    assert {system for system, _, _ in rows} == {"recsys"}
    again, _ = answer(run(*options[:-3], "--no-probes", "--pictured-only", "--resume", products="known.csv"))
    assert [one["model"] for one in again["learned"]] == [last["learned"][0]["model"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "training.epoch=2"], "did you mean 'training.epochs'"),
        (["--set", "training.epochs"], "write section.key=value"),
        (["--test-products", "styles.parquet"], "stand in"),
        (["--products", "nothing.parquet"], "no such file"),
        (["--minilm", "nowhere"], "no config.json there"),
    ],
)
def test_what_cannot_be_done_is_one_line_of_error(run, files, monkeypatch, options, message):
    monkeypatch.chdir(files)
    monkeypatch.setattr("representation.trained", None)  # what is asked for is looked at before the training
    code, out, err = run(*options)
    assert code == 2 and out == ""
    assert err.splitlines()[-1].startswith("representation: ") and message in err.splitlines()[-1]


def test_retrieval_votes_and_chance_against_plain_answers(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from representation_measures import nearest, retrieval, vote

    g = np.random.default_rng(0)
    a, b = g.normal(size=(40, 8)), g.normal(size=(40, 8))
    texts = [f"t{row % 30}" for row in range(40)]
    found = retrieval(a, b, texts, "x")
    for row in range(40):
        cosine = [a[row] @ other / np.linalg.norm(other) for other in b]
        order = sorted(range(40), key=lambda at, cosine=cosine: -cosine[at])
        for k in (1, 10):
            assert found[f"x_recall@{k}"][row] == any(texts[at] == texts[row] for at in order[:k])
            assert found[f"x_strict@{k}"][row] == (row in order[:k])
    labels = np.array(["b", "a", "a", "b", "c"], object)
    votes = vote(np.array([[0, 1, 2, 4], [3, 1, 2, 0], [1, 3, 0, 2], [4, 4, 0, 1]]), labels)
    assert votes.tolist() == ["a", "b", "a", "c"]
    np.testing.assert_array_equal(nearest(np.ones((1, 2)), np.ones((5, 2)), 3), [[0, 1, 2]])


def test_chance_is_what_random_orders_reach(files, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from fashion_shop import read
    from representation_measures import by_chance

    from recsys.config import ImageSettings

    given = {"products": files / "styles.parquet", "images": files / "images.zip", "folder": files / "p"}
    shop = read(**given, test_products=None, test_images=None, settings=ImageSettings())
    n, texts = len(shop.test), shop.test.texts
    expected = [1 - comb(n - texts.count(text), 10) / comb(n, 10) for text in texts]
    np.testing.assert_allclose(by_chance(shop)["i2t_recall@10", "image"], expected)
    assert shop.test.catalogue.images.present.all() and len(shop.train) + n == 90
    assert not set(shop.train.catalogue.ids.texts) & set(shop.test.catalogue.ids.texts)
    shown = {name for name in shop.train.catalogue.frame.columns if name.startswith("attributes.")}
    assert shown == {"attributes.season", "attributes.year", "attributes.usage"}


def test_the_real_files(run, shared_data):
    folder = shared_data / "fashion-product-images"
    if not (folder / "styles.parquet").is_file():
        pytest.skip(f"no real data: {folder / 'styles.parquet'} is missing")
    done = run("--only", "recsys", "--no-probes", folder=folder, images="images_160px.zip", work=False)
    last, rows = answer(done)
    assert last["held"] == 60 and last["pictured"] == 120
    assert 0 <= rows["recsys", "i2t_recall@10", "image"]["value"] <= 1
