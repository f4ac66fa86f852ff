"""BM25 search over titles, brands, categories and attribute values, with a cached index file.

In: a catalogue; a text. Out: the score of each product. The formula is bm25s' (Lù 2024; Robertson and Zaragoza 2009),
in the variant of Lucene.
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

from recsys.artifacts import file_set
from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.tokenize import tokenize
from recsys.errors import ModelFolderError
from recsys.types import BoolArray, FloatArray, IntArray
from recsys.vectors.search.variants import first_of_group

logger = logging.getLogger(__name__)

_NAME: Final = "words"
_FORMAT: Final = 1
"""Version of the tokenization; increase it with every change of the words a text is split into."""
_COLUMNS: Final = (schema.TITLE, schema.BRAND, schema.CATEGORY)
_ARRAYS: Final = ("data", "indices", "indptr")


@dataclass(frozen=True)
class Bm25Index:
    """BM25 weights of n products: the contribution of each word to the score of each product that has it.

    Attributes:
        n: number of products.
        word_numbers: number of each word.
        data: (w,) float32 scores, word by word.
        indices: (w,) product of each score.
        indptr: (words + 1,) start of each word.
    """

    n: int
    word_numbers: Mapping[str, int] = field(repr=False)
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
        """Return the BM25 score of each product, each word counted once: (n,) float32, 0 = no match.

        The library computed the score of every word when the index was built; here they are only added, so that a
        search does not load it.
        """
        out = np.zeros(self.n, np.float32)
        for word in dict.fromkeys(words):
            number = self.word_numbers.get(word)
            if number is not None:
                entries = slice(int(self.indptr[number]), int(self.indptr[number + 1]))
                out[self.indices[entries]] += self.data[entries]  # a product occurs once per word
        return out

    def top_k(
        self,
        text: str,
        k: int,
        *,
        minus: str = "",
        allow: BoolArray,
        groups: IntArray | None = None,
        excluded: IntArray,
    ) -> tuple[FloatArray, IntArray]:
        """Return the k best matches of a text, one per variant group; at least one word must match.

        Args:
            text: text to search.
            k: results.
            minus: unwanted words; their score is subtracted.
            allow: (n,) bool, the allowed products.
            groups: (n,) variant group of each product; None = each its own.
            excluded: excluded groups.

        Returns:
            Scores and rows, at most k, descending, ties by lower row.
        """
        scores = self.scores(tokenize(text))
        if minus:
            scores = scores - self.scores(tokenize(minus))
        rows = np.flatnonzero((scores > 0) & allow).astype(np.int64)
        rows = rows[~np.isin(rows if groups is None else groups[rows], excluded)]
        rows = first_of_group(rows[np.lexsort((rows, -scores[rows]))], groups)[:k]
        return scores[rows], rows

    def save(self, folder: Path, key: dict[str, Any]) -> None:
        """Write the weights atomically: a reader sees the previous ones or these."""
        arrays = {f"{name}.npy": partial(_write_array, getattr(self, name)) for name in _ARRAYS}
        words = pl.DataFrame({"word": list(self.word_numbers)}, schema={"word": pl.String})
        file_set.write_file_set(folder, _NAME, parts={**arrays, "words.parquet": words.write_parquet}, metadata=key)


def open_bm25(catalogue: Catalogue, folder: Path) -> Bm25Index:
    """Load the saved index of exactly these texts, or build and save it with a logged reason."""
    key = _cache_key(catalogue)
    try:
        return file_set.read_file_set(folder, _NAME, lambda facts, paths: _read_index(key, facts, paths))
    except FileNotFoundError:
        reason = "none was saved"
    except ModelFolderError as error:
        reason = str(error)
    logger.warning("building the index of words of %d products: %s", len(catalogue), reason)
    index = Bm25Index.build(catalogue)
    index.save(folder, key)
    return index


def _searched_columns(catalogue: Catalogue) -> list[str]:
    """Return the searched columns: names, and text attributes."""
    dtypes = catalogue.frame.schema
    columns = [name for name in _COLUMNS if name in dtypes]
    return columns + [name for name in dtypes if name.startswith(schema.ATTRIBUTE_PREFIX) and dtypes[name] == pl.String]


def searchable_text(catalogue: Catalogue) -> list[str]:
    """Return the searched text of each product, one line per column."""
    cells = [pl.col(name).cast(pl.String).fill_null("") for name in _searched_columns(catalogue)]
    return catalogue.frame.select(pl.concat_str(cells, separator="\n")).to_series().to_list() if cells else []


def _cache_key(catalogue: Catalogue) -> dict[str, Any]:
    """Return the parameters of an index; any difference invalidates the saved one."""
    from importlib.metadata import version

    digest = hashlib.sha256("\x1f".join(catalogue.ids.texts).encode())
    digest.update(catalogue.hashes(_searched_columns(catalogue)).tobytes())
    return {"format": _FORMAT, "texts": digest.hexdigest(), "products": len(catalogue), "bm25s": version("bm25s")}


def _read_index(key: dict[str, Any], facts: file_set.Facts, paths: dict[str, Path]) -> Bm25Index:
    """Read a saved index; raises ModelFolderError where it differs from `key`."""
    differing = sorted(name for name, value in key.items() if facts.get(name) != value)
    if differing:
        raise ModelFolderError(f"the saved index differs in {', '.join(differing)}")
    words = pl.read_parquet(paths["words.parquet"])["word"].to_list()
    arrays = [np.load(paths[f"{name}.npy"], mmap_mode="r") for name in _ARRAYS]
    return Bm25Index(int(key["products"]), {word: number for number, word in enumerate(words)}, *arrays)


def _write_array(array: npt.NDArray[np.generic], path: Path) -> None:
    """Write an array in the .npy format."""
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array))
