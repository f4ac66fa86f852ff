"""TF-IDF of product texts, which keeps the names and rare words that a dense vector loses.

In: the text columns of a catalogue. Out: a sparse matrix with one row of unit length for each product (Sparck Jones
1972).
"""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy import sparse

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.tokenize import tokenize
from recsys.types import BoolArray

TEXT_COLUMNS = (schema.TITLE, schema.DESCRIPTION, schema.BRAND, schema.CATEGORY)


def product_texts(catalogue: Catalogue) -> list[str]:
    """Return all text of each product: title, description, brand, category and the attributes that are text."""
    frame = catalogue.frame
    names = [*TEXT_COLUMNS, *(name for name in frame.columns if name.startswith(schema.ATTRIBUTE_PREFIX))]
    text_columns = [name for name in names if name in frame.columns and frame.schema[name] == pl.String]
    return [" ".join(value for value in values if value) for values in frame.select(text_columns).iter_rows()]


def product_tfidf(catalogue: Catalogue, *, fit_on: BoolArray | None = None) -> sparse.csr_matrix:
    """Compute TF-IDF of all text columns: (n, w) float32 rows of unit length, zero rows without a counted word.

    Args:
        catalogue: n products.
        fit_on: (n,) the products that words and document frequencies are counted in; all by default.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # takes longer to import than most commands to run

    documents = [tokenize(text) for text in product_texts(catalogue)]
    fitted = documents if fit_on is None else [documents[row] for row in np.flatnonzero(fit_on).tolist()]
    if not any(fitted):
        return sparse.csr_matrix(np.zeros((len(documents), 1), np.float32))
    vectorizer = TfidfVectorizer(analyzer=list, sublinear_tf=True, dtype=np.float32).fit(fitted)
    return sparse.csr_matrix(vectorizer.transform(documents))
