"""Search by words: BM25 over titles, brands, categories and attribute values, and its file, which is only a cache.

In: a catalogue; words. Out: how well each product answers to them. The formula is bm25s' (Lù 2024; Robertson and
Zaragoza 2009), in the variant of Lucene.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.artifacts import file_set as sealed
from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.tokenize import tokenize
from recsys.errors import ModelFolderError
from recsys.types import BoolArray, FloatArray, IntArray
from recsys.vectors.search.variants import first_of_group

logger = logging.getLogger(__name__)

_NAME: Final = "words"
_FORMAT: Final = 1
"""To be raised when a text is cut into words in another way."""
_COLUMNS: Final = (schema.TITLE, schema.BRAND, schema.CATEGORY)
_ARRAYS: Final = ("data", "indices", "indptr")


@dataclass(frozen=True)
class Bm25Index:
    """BM25 of n products: what each word of the catalogue adds to the score of each product that has it.

    Attributes:
        n: products.
        numbers: of each word.
        data: (w,) float32 scores, word by word.
        indices: (w,) the product of each.
        indptr: (words + 1,) where each word begins.
    """

    n: int
    numbers: Mapping[str, int] = field(repr=False)
    data: FloatArray = field(repr=False)
    indices: npt.NDArray[np.integer] = field(repr=False)
    indptr: npt.NDArray[np.integer] = field(repr=False)

    def __len__(self) -> int:
        return self.n

    @staticmethod
    def build(catalogue: Catalogue) -> Bm25Index:
        """Index the words of a catalogue."""
        documents = [tokenize(text) for text in searchable_text(catalogue)]
        numbers = {word: at for at, word in enumerate(sorted({word for document in documents for word in document}))}
        if not numbers:
            nothing = np.zeros(0, np.int32)
            return Bm25Index(len(catalogue), {}, np.zeros(0, np.float32), nothing, np.zeros(1, np.int32))
        from bm25s import BM25

        engine = BM25(method="lucene")
        ids = [[numbers[word] for word in document] for document in documents]
        engine.index((ids, numbers), create_empty_token=False, show_progress=False)
        return Bm25Index(len(catalogue), numbers, *(np.asarray(engine.scores[name]) for name in _ARRAYS))

    def scores(self, words: Sequence[str]) -> FloatArray:
        """BM25 of each product for some words, each counted once: (n,) float32, 0 = it has none of them.

        The library has worked out every word's scores when the index was built; here they are only added up, so that a
        search does not load it.
        """
        out = np.zeros(self.n, np.float32)
        for word in dict.fromkeys(words):
            number = self.numbers.get(word)
            if number is not None:
                own = slice(int(self.indptr[number]), int(self.indptr[number + 1]))
                out[self.indices[own]] += self.data[own]  # a product stands once under a word
        return out

    def top_k(
        self, text: str, k: int, *, minus: str = "", allow: BoolArray, kin: IntArray | None = None, barred: IntArray
    ) -> tuple[FloatArray, IntArray]:
        """The k products that answer best to the words of a text, one a family; only those that have one of them.

        Args:
            text: what is looked for.
            k: how many.
            minus: words that are not wanted; their score is taken off.
            allow: (n,) bool, products that count.
            kin: (n,) family of each product; None = each its own.
            barred: families that are left out.

        Returns:
            Scores and rows, at most k, descending, ties by lower row.
        """
        scores = self.scores(tokenize(text))
        if minus:
            scores = scores - self.scores(tokenize(minus))
        rows = np.flatnonzero((scores > 0) & allow).astype(np.int64)
        rows = rows[~np.isin(rows if kin is None else kin[rows], barred)]
        rows = first_of_group(rows[np.lexsort((rows, -scores[rows]))], kin)[:k]
        return scores[rows], rows

    def save(self, folder: Path, key: dict[str, Any]) -> None:
        """Write the weights; a reader sees the old ones or these."""
        arrays = {f"{name}.npy": partial(_write, getattr(self, name)) for name in _ARRAYS}
        words = pl.DataFrame({"word": list(self.numbers)}, schema={"word": pl.String})
        sealed.write_file_set(folder, _NAME, parts={**arrays, "words.parquet": words.write_parquet}, metadata=key)


def open_bm25(catalogue: Catalogue, folder: Path) -> Bm25Index:
    """Load the saved index of exactly these texts, or build it, say why, and save it."""
    key = _key(catalogue)
    try:
        return sealed.read_file_set(folder, _NAME, lambda facts, paths: _read(key, facts, paths))
    except FileNotFoundError:
        why = "none was saved"
    except ModelFolderError as error:
        why = str(error)
    logger.warning("building the index of words of %d products: %s", len(catalogue), why)
    built = Bm25Index.build(catalogue)
    built.save(folder, key)
    return built


def _columns(catalogue: Catalogue) -> list[str]:
    """Columns that are searched: names, and attributes that hold words."""
    held = catalogue.frame.schema
    named = [name for name in _COLUMNS if name in held]
    return named + [name for name in held if name.startswith(schema.ATTRIBUTE_PREFIX) and held[name] == pl.String]


def searchable_text(catalogue: Catalogue) -> list[str]:
    """What is searched of each product, a column a line."""
    cells = [pl.col(name).cast(pl.String).fill_null("") for name in _columns(catalogue)]
    return catalogue.frame.select(pl.concat_str(cells, separator="\n")).to_series().to_list() if cells else []


def _key(catalogue: Catalogue) -> dict[str, Any]:
    """What an index depends on; any difference makes it useless."""
    from importlib.metadata import version

    digest = hashlib.sha256("\x1f".join(catalogue.ids.texts).encode())
    digest.update(catalogue.hashes(_columns(catalogue)).tobytes())
    return {"format": _FORMAT, "texts": digest.hexdigest(), "products": len(catalogue), "bm25s": version("bm25s")}


def _read(key: dict[str, Any], facts: sealed.Facts, paths: dict[str, Path]) -> Bm25Index:
    other = sorted(name for name, value in key.items() if facts.get(name) != value)
    if other:
        raise ModelFolderError(f"the saved one differs in {', '.join(other)}")
    words = pl.read_parquet(paths["words.parquet"])["word"].to_list()
    held = [np.load(paths[f"{name}.npy"], mmap_mode="r") for name in _ARRAYS]
    return Bm25Index(int(key["products"]), {word: at for at, word in enumerate(words)}, *held)


def _write(array: npt.NDArray[np.generic], path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array))
