"""The `embed` command: encodes the products whose content or model changed.

In: an open project. Out: embeddings in the store and among the artifacts, a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys.data import schema
from recsys.errors import NothingNewError, UsageError, suggestion
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult
from recsys.types import FloatArray
from recsys.vectors.embeddings import update
from recsys.vectors.embeddings.update import UpdateResult

if TYPE_CHECKING:
    from recsys.data.catalogue import Catalogue
    from recsys.vectors.embeddings.table import EmbeddingTable


def update_embeddings(project: Project) -> UpdateResult:
    """Encode stale products and write the changed vectors to the store; once per loaded catalogue and model."""
    return _update_embeddings(project, project.dataset.catalogue)


def prepare_embeddings(project: Project) -> EmbeddingTable:
    """Return up-to-date embeddings: a command that writes updates them, others only check them.

    Raises:
        ModelFolderError: the command does not write and the embeddings are stale.
    """
    return update_embeddings(project).table if project.writes else project.current_embeddings()


def _update_embeddings(project: Project, catalogue: Catalogue, *, full: bool = False) -> UpdateResult:
    if project.embeddings_are_current and not full:
        return UpdateResult(project.embeddings, 0, 0)
    with project.progress.stage("embed") as progress:
        result = update.update_embeddings(
            catalogue,
            project.lazy_product_encoder,
            folder=project.embeddings_folder,
            full=full,
            storage=project.settings.embeddings.storage,
            progress=progress,
        )
        project.embeddings, project.embeddings_are_current = result.table, True
        project.store.write_embeddings(
            list(result.table.ids.texts), result.table.vectors, result.table.model_id, result.table.hashes
        )
    return result


def embed_products(project: Project, *, full: bool = False, fail_if_noop: bool = False) -> CommandResult:
    """Encode the products whose content or model changed.

    Args:
        project: the project.
        full: encode every product.
        fail_if_noop: raise when nothing was stale.

    Raises:
        NothingNewError: nothing was stale and `fail_if_noop`.
    """
    updated = _update_embeddings(project, project.catalogue, full=full)
    unchanged = not (updated.encoded_count or updated.removed_count or updated.is_rewritten)
    if unchanged and fail_if_noop:
        raise NothingNewError("every product already has its vector")
    return CommandResult(
        "embed",
        status="nothing_new" if unchanged else "done",
        counts={"products": len(updated.table), "encoded": updated.encoded_count, "removed": updated.removed_count},
        artifacts={"embeddings": project.embeddings_folder},
        notes=[f"the table is stored as {updated.table.storage} now"] if updated.is_rewritten else [],
    )


def encode_frame(project: Project, frame: Any = None) -> FloatArray:
    """Encode the products of a frame, stored or not, or all products of the store when `frame` is None: (n, d)."""
    from recsys.data.dataset import catalogue_from_frame
    from recsys.data.input_sources import to_polars

    if frame is None:
        catalogue = project.dataset.catalogue
    else:
        products = to_polars(frame)
        _require_known_columns(project, products.columns)
        catalogue = catalogue_from_frame(products)
    return project.model.encode(catalogue, np.arange(len(catalogue)))


def _require_known_columns(project: Project, names: Sequence[str]) -> None:
    """Raise UsageError for a column that is neither a product column nor an attribute of the shop or the encoder."""
    canonical = {column.name for column in schema.PRODUCTS}
    own = {schema.CONTENT_HASH, schema.IMAGE_HASH, schema.UPDATED_AT}
    columns = (*project.model.columns, *project.catalogue.frame.columns)
    attributes = {name.removeprefix(schema.ATTRIBUTE_PREFIX) for name in columns}
    known = sorted(canonical | attributes)
    for name in names:
        if name.removeprefix(schema.ATTRIBUTE_PREFIX) not in {*known, *own}:
            hint = suggestion(name, known) or f"; there are {', '.join(known[:20])}"
            raise UsageError(f"embed: unknown column '{name}'{hint}")
