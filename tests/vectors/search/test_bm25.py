from __future__ import annotations

import math

import numpy as np

from recsys.data.tokenize import tokenize
from recsys.vectors.search.bm25 import Bm25Index, open_bm25
from tests.vectors.shops import catalogue

SHOP = {
    "title": ["Red boots", "Blue BOOTS, size 42", "Café table", "红色连衣裙", None, "حذاء أحمر"],
    "brand": ["Aro", None, "Aro", "Bex", "Bex", None],
    "attributes.colour": ["red", "blue", None, "red", None, None],
    "attributes.height": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
}


def test_scores_are_those_of_the_formula():
    shop = catalogue(SHOP)
    documents = [
        ["red", "boots", "aro", "red"], ["blue", "boots", "size", "42", "blue"], ["cafe", "table", "aro"],
        [*tokenize("红色连衣裙"), "bex", "red"], ["bex"], tokenize("حذاء أحمر"),
    ]  # fmt: skip
    mean = sum(map(len, documents)) / 6
    expected = []
    for document in documents:
        score = 0.0
        for word in ("red", "boots"):
            df = sum(word in other for other in documents)
            tf = document.count(word)
            idf = math.log(1 + (6 - df + 0.5) / (df + 0.5))
            score += idf * tf / (tf + 1.5 * (1 - 0.75 + 0.75 * len(document) / mean))
        expected.append(score)
    found = Bm25Index.build(shop).scores(["red", "boots", "boots", "nowhere"])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not Bm25Index.build(shop).scores(["nowhere"]).any() and not Bm25Index.build(shop).scores([]).any()


def test_other_scripts_are_found():
    built, everything = Bm25Index.build(catalogue(SHOP)), np.ones(6, bool)
    none = np.zeros(0, np.int64)
    for text, row in (("裙", 3), ("连衣裙", 3), ("الحذاء", 5), ("cafe", 2), ("42", 1)):
        assert built.top_k(text, 1, allow=everything, excluded=none)[1].tolist() == [row], text
    assert built.top_k("boots red", 9, allow=everything, excluded=np.array([0]))[1].tolist() == [1, 3]
    kin = np.array([9, 9, 2, 3, 4, 5])
    assert built.top_k("boots", 9, allow=everything, groups=kin, excluded=none)[1].tolist() == [0]


def test_the_file_is_a_cache_of_exactly_these_texts(tmp_path, caplog):
    shop = catalogue(SHOP)
    made = open_bm25(shop, tmp_path)
    assert "none was saved" in caplog.text
    caplog.clear()
    loaded = open_bm25(shop, tmp_path)
    assert not caplog.text
    for text in ("red boots", "连衣裙 bex", "nothing"):
        assert loaded.scores(tokenize(text)).tobytes() == made.scores(tokenize(text)).tobytes()
    changed = catalogue({**SHOP, "title": ["Green boots", *SHOP["title"][1:]]})
    assert open_bm25(changed, tmp_path).scores(["green"])[0] > 0
    assert "differs in texts" in caplog.text
    caplog.clear()
    open_bm25(catalogue({**SHOP, "title": changed.frame["title"].to_list(), "price": [1.0] * 6}), tmp_path)
    assert not caplog.text  # the price is no text
    (file,) = tmp_path.glob("*-data-*.npy")
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    assert open_bm25(changed, tmp_path).scores(["green"])[0] > 0
    assert "altered" in caplog.text


def test_products_without_words(tmp_path):
    shop = catalogue({"title": [None, " - "]})
    for _ in range(2):
        assert open_bm25(shop, tmp_path).scores(["red"]).tolist() == [0, 0]
    empty = catalogue({"title": []})
    assert Bm25Index.build(empty).scores(["red"]).shape == (0,)
