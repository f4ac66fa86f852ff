"""Incremental update of the embedding table: encodes only products whose content or model changed.

In: a catalogue, a model, the folder of the previous table. Out: a table in the catalogue's order, and counts.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys.data.catalogue import Catalogue
from recsys.errors import ModelFolderError
from recsys.execution.progress import Progress
from recsys.vectors.embeddings.table import EmbeddingTable, ProductEncoderProtocol, Storage

logger = logging.getLogger(__name__)

_CHUNK = 4096
"""Products encoded at a time: a safe point to stop, and a step of the progress bar."""


@dataclass(frozen=True)
class UpdateResult:
    """Result of `update_embeddings`.

    Attributes:
        table: vectors of every product of the catalogue.
        encoded_count: products that were encoded.
        removed_count: products of the previous table that are no longer in the catalogue.
        is_rewritten: whether the storage format changed.
    """

    table: EmbeddingTable
    encoded_count: int
    removed_count: int
    is_rewritten: bool = False


def update_embeddings(
    catalogue: Catalogue,
    model: ProductEncoderProtocol,
    *,
    folder: Path,
    full: bool = False,
    storage: Storage = "float32",
    progress: Progress | None = None,
) -> UpdateResult:
    """Encode stale products, keep the other vectors, and save the table if it changed.

    A `storage` other than the previous table's rewrites it and encodes nothing. Changing to int8 rounds the vectors,
    and changing back keeps them rounded until they are encoded again.

    Args:
        catalogue: n products; their order is the table's order.
        model: computes the vectors; its `columns` decide which content changes count.
        folder: folder of the previous and the new table.
        full: encode every product.
        storage: format of the table on disk.
        progress: called with the number of stale products encoded so far.

    Raises:
        DataContractError: the model returned a vector that is not a number.
    """
    previous = _load_previous(folder)
    stale = previous.stale_rows(catalogue, model) if previous is not None and not full else np.arange(len(catalogue))
    removed = 0 if previous is None else int((catalogue.ids.rows(previous.ids.texts) < 0).sum())
    rewritten = previous is not None and previous.storage != storage
    if previous is not None and not (full or rewritten or len(stale)) and previous.ids.texts == catalogue.ids.texts:
        return UpdateResult(previous, 0, 0)
    blocks = []
    for start in range(0, len(stale), _CHUNK):
        rows = stale[start : start + _CHUNK]
        blocks.append(np.asarray(model.encode(catalogue, rows), np.float32))
        if progress is not None:
            progress(start + len(rows), len(stale))
    base = previous if previous is not None else EmbeddingTable.empty(0, model.content_version)
    vectors = np.concatenate(blocks) if blocks else np.zeros((0, base.dim), np.float32)
    base.with_updates(catalogue, model, rows=stale, vectors=vectors, storage=storage).save(folder)
    # read back: memory-mapped and verified
    return UpdateResult(EmbeddingTable.load(folder), len(stale), removed, rewritten)


def _load_previous(folder: Path) -> EmbeddingTable | None:
    """Return the saved table, or None where there is none or it cannot be used."""
    if not EmbeddingTable.exists(folder):
        return None
    try:
        return EmbeddingTable.load(folder)
    except ModelFolderError as error:
        logger.warning("embeddings: the saved table cannot be used (%s); encoding every product", error)
        return None
