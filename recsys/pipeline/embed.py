"""The `embed` command: encodes the products whose content or model changed.

In: an open project. Out: embeddings in the store and among the artifacts, a result.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys.data import schema
from recsys.errors import NothingNewError, UsageError
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
    """Encode the products of a frame, stored or not, or all products of the store when `frame` is None: (n, d).

    Raises:
        UsageError: the frame has a column that is neither a product column nor an attribute that the encoder knows.
    """
    from recsys.data.dataset import catalogue_from_frame
    from recsys.data.input_sources import to_polars

    if frame is None:
        catalogue = project.dataset.catalogue
    else:
        products = to_polars(frame)
        _refuse_unknown_columns(products.columns, project.model.columns)
        catalogue = catalogue_from_frame(products)
    return project.model.encode(catalogue, np.arange(len(catalogue)))


def _refuse_unknown_columns(columns: Sequence[str], encoder_columns: Sequence[str]) -> None:
    """Refuse columns that would silently not count, such as misspelt ones."""
    computed = {schema.UPDATED_AT, schema.CONTENT_HASH, schema.IMAGE_HASH}
    canonical = {column.name for column in schema.PRODUCTS} | computed
    attributes = {
        name.removeprefix(schema.ATTRIBUTE_PREFIX)
        for name in encoder_columns
        if name.startswith(schema.ATTRIBUTE_PREFIX)
    }
    known = [*sorted(canonical - computed), *sorted(attributes)]
    unknown = [
        name
        for name in columns
        if name not in canonical and name.removeprefix(schema.ATTRIBUTE_PREFIX) not in attributes
    ]
    if unknown:
        hints = ", ".join(f"'{name}'{_nearest(name, known)}" for name in unknown[:5])
        raise UsageError(
            f"the encoder knows no column {hints}; leave such columns out or rename them. "
            f"It knows {', '.join(known[:30])}{', ...' if len(known) > 30 else ''}"
        )


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
