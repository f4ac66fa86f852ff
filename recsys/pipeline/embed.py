"""The space of products: vectors brought up to date, the index, and each product's neighbours.

In: a Bench. Out: Reports; vectors and neighbours in the store, the table and the index among the artifacts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recsys.errors import NothingNewError
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult
from recsys.types import FloatArray
from recsys.vectors.embeddings import update as build

if TYPE_CHECKING:
    from recsys.data.catalogue import Catalogue


def update_embeddings(bench: Project) -> build.UpdateResult:
    """Encode what is stale and write the changed vectors to the store; once for what the bench has loaded."""
    return _brought_up_to_date(bench, bench.dataset.catalogue)


def _brought_up_to_date(bench: Project, catalogue: Catalogue, *, full: bool = False) -> build.UpdateResult:
    if bench.embeddings_are_current and not full:
        return build.UpdateResult(bench.embeddings, 0, 0)
    with bench.progress.stage("embed") as progress:
        built = build.update_embeddings(
            catalogue,
            bench.lazy_product_encoder,
            folder=bench.embeddings_folder,
            full=full,
            storage=bench.settings.embeddings.storage,
            progress=progress,
        )
        bench.embeddings, bench.embeddings_are_current = built.table, True
        bench.store.write_embeddings(
            list(built.table.ids.texts), built.table.vectors, built.table.model_id, built.table.hashes
        )
    return built


def embed_products(bench: Project, *, full: bool = False, fail_if_noop: bool = False) -> CommandResult:
    """Encode the products whose content or model changed.

    Raises:
        NothingNewError: nothing was stale and `fail_if_noop`.
    """
    built = _brought_up_to_date(bench, bench.catalogue, full=full)
    idle = not (built.encoded or built.removed or built.rewritten)
    if idle and fail_if_noop:
        raise NothingNewError("every product already has its vector")
    return CommandResult(
        "embed",
        status="nothing_new" if idle else "done",
        counts={"products": len(built.table), "encoded": built.encoded, "removed": built.removed},
        artifacts={"embeddings": bench.embeddings_folder},
        notes=[f"the table is stored as {built.table.storage} now"] if built.rewritten else [],
    )


def encode_frame(bench: Project, frame: Any = None) -> FloatArray:
    """Vectors (n, d) of the products of a frame, stored or not; of the whole store when there is no frame."""
    from recsys.data.dataset import catalogue_of
    from recsys.data.input_sources import to_polars

    catalogue = bench.dataset.catalogue if frame is None else catalogue_of(to_polars(frame))
    return bench.model.encode(catalogue, np.arange(len(catalogue)))
