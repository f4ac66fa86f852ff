"""Vectors brought up to date: only products whose content or model changed are encoded.

In: a catalogue, a model, the folder of the last table. Out: a table in the catalogue's order, and what was encoded.
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
"""Products handed to the model at a time: a safe point to stop at, and a step of the progress bar."""


@dataclass(frozen=True)
class UpdateResult:
    """What `update_embeddings` did.

    Attributes:
        table: vectors of every product of the catalogue.
        encoded: products that went through the model.
        removed: products of the last table that the catalogue no longer has.
        rewritten: whether the table lies in another storage than the last time.
    """

    table: EmbeddingTable
    encoded: int
    removed: int
    rewritten: bool = False


def update_embeddings(
    catalogue: Catalogue,
    model: ProductEncoderProtocol,
    *,
    folder: Path,
    full: bool = False,
    storage: Storage = "float32",
    progress: Progress | None = None,
) -> UpdateResult:
    """Encode what is stale, keep the rest, and save the table if it changed.

    Another `storage` than the last table's writes it anew and encodes nothing. Going to int8 rounds the vectors, and
    coming back from it keeps them rounded, until they are encoded again.

    Args:
        catalogue: n products; their order is the table's order.
        model: gives the vectors; its `columns` decide what counts as changed content.
        folder: where the last table lies and the new one goes.
        full: encode every product.
        storage: how the table lies on disk.
        progress: told how many of the stale products are done.

    Raises:
        DataContractError: the model gave a vector that is not a number.
    """
    before = _last(folder)
    stale = before.stale_rows(catalogue, model) if before is not None and not full else np.arange(len(catalogue))
    removed = 0 if before is None else int((catalogue.ids.rows(before.ids.texts) < 0).sum())
    rewritten = before is not None and before.storage != storage
    if before is not None and not (full or rewritten or len(stale)) and before.ids.texts == catalogue.ids.texts:
        return UpdateResult(before, 0, 0)
    blocks = []
    for start in range(0, len(stale), _CHUNK):
        rows = stale[start : start + _CHUNK]
        blocks.append(np.asarray(model.encode(catalogue, rows), np.float32))
        if progress is not None:
            progress(start + len(rows), len(stale))
    old = before if before is not None else EmbeddingTable.empty(0, model.content_version)
    vectors = np.concatenate(blocks) if blocks else np.zeros((0, old.dim), np.float32)
    old.with_updates(catalogue, model, rows=stale, vectors=vectors, storage=storage).save(folder)
    return UpdateResult(
        EmbeddingTable.load(folder), len(stale), removed, rewritten
    )  # from disk: memory-mapped, and checked


def _last(folder: Path) -> EmbeddingTable | None:
    if not EmbeddingTable.exists(folder):
        return None
    try:
        return EmbeddingTable.load(folder)
    except ModelFolderError as error:
        logger.warning("the saved embeddings cannot be used, so every product is encoded again: %s", error)
        return None
