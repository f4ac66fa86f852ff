"""The `complete` command: predicts missing attributes with a confidence, and finds products that contradict themselves.

In: an open project. Out: predictions in the table predicted_attributes, results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from recsys.errors import UsageError
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.store import predicted_attributes as predictions
from recsys.vectors.attributes import completion, inconsistency

if TYPE_CHECKING:
    import polars as pl

COLUMNS = (
    "attribute",
    "missing",
    "filled",
    "known",
    "held_out",
    "accuracy",
    "majority",
    "calibration_error",
    "why_not",
)
INCONSISTENCY_COLUMNS = ("product_id", "title", "what", "sure", "held", "expected")
MAX_SHOWN = 50
"""Inconsistent products that a result shows."""


def complete_attributes(
    project: Project, attributes: Sequence[str] = (), *, min_confidence: float = 0.5
) -> CommandResult:
    """Predict missing values and write the confident ones, replacing earlier predictions.

    Args:
        project: the project.
        attributes: attributes to complete; empty = all that can be predicted.
        min_confidence: predictions of lower confidence are not written.

    Raises:
        ModelFolderError: there is no trained model.
        NotFoundError: there is no such attribute.
        UsageError: an attribute has no text values, or `min_confidence` is not between 0 and 1.
    """
    return predict_attributes(project, attributes, min_confidence=min_confidence)[0]


def predict_attributes(
    project: Project, attributes: Sequence[str], *, min_confidence: float
) -> tuple[CommandResult, pl.DataFrame]:
    """Like `complete_attributes`; also return the predictions written.

    Returns:
        The result, and product_id, attribute, value, confidence, model_version of each prediction.
    """
    import polars as pl

    if not 0 <= min_confidence <= 1:
        raise UsageError(f"the least confidence must lie between 0 and 1, not {min_confidence}")
    model, catalogue = project.model, project.dataset.catalogue
    columns = completion.resolve_columns(catalogue, attributes)
    completions, frames = [], [pl.DataFrame(schema=predictions.PREDICTION_SCHEMA)]
    with project.progress.stage("complete") as progress:
        for i, completed in enumerate(
            completion.predict_missing(catalogue, model, columns, seed=project.settings.training.seed)
        ):
            confident = completed.confidence >= min_confidence
            predicted = {
                "product_id": catalogue.ids.ids(completed.rows[confident]),
                "attribute": completed.attribute,
                "value": [value for value, keep in zip(completed.values, confident, strict=True) if keep],
                "confidence": completed.confidence[confident],
                "model_version": model.content_version,
            }
            frames.append(pl.DataFrame(predicted, schema=predictions.PREDICTION_SCHEMA))
            completions.append((completed, int(confident.sum())))
            progress(i + 1, len(columns))
    frame = pl.concat(frames)
    with project.progress.stage("write"), project.store.engine.begin() as connection:
        names = [completion.display_name(name) for name in columns]
        only = None if attributes else model.content_version  # drops predictions of attributes that are gone
        predictions.replace_predictions(connection, project.store.dialect, frame, attributes=names, model_version=only)
    rows = [
        (
            completed.attribute,
            completed.missing_count,
            filled,
            completed.known_count,
            completed.held_out_count,
            completed.accuracy,
            completed.majority_accuracy,
            completed.calibration_error,
            completed.reason,
        )
        for completed, filled in completions
    ]
    counts = {
        "products": len(catalogue),
        "attributes": len(columns),
        "missing": sum(completed.missing_count for completed, _ in completions),
        "filled": frame.height,
        "unsure": sum(len(completed.rows) for completed, _ in completions) - frame.height,
    }
    result = CommandResult(
        "complete",
        status="done" if any(not completed.reason for completed, _ in completions) else "nothing_new",
        counts=counts,
        warnings=[] if columns else ["no category, brand or attribute has a value, so there is nothing to learn from"],
        tables=[Table("attributes", COLUMNS, rows)],
        notes=["the values are in the table predicted_attributes"] if frame.height else [],
    )
    return result, frame


def inconsistent_products(project: Project, *, k: int | None = MAX_SHOWN) -> tuple[pl.DataFrame, int]:
    """Find products of which one attribute does not fit the rest.

    Args:
        project: the project.
        k: maximum number of products; None = all.

    Returns:
        The most certain first, columns `INCONSISTENCY_COLUMNS`; and the number of all of them.

    Raises:
        ModelFolderError: there is no trained model.
    """
    import numpy as np
    import polars as pl

    model, catalogue = project.model, project.dataset.catalogue
    inconsistencies: list[inconsistency.Inconsistency] = []
    with project.progress.stage("odd products") as progress:
        n_checks = inconsistency.count_checks(catalogue)
        seed = project.settings.training.seed
        for i, batch in enumerate(inconsistency.find_inconsistencies(catalogue, model, seed=seed)):
            inconsistencies += batch
            progress(i + 1, n_checks)
    top = inconsistency.top_inconsistencies(inconsistencies, k)
    rows = np.array([item.row for item in top], np.int64)
    columns = {
        "product_id": catalogue.ids.ids(rows),
        "title": catalogue.titles(rows) if len(rows) else [],
        "what": [item.check for item in top],
        "sure": [item.confidence for item in top],
        "held": [item.current for item in top],
        "expected": [item.expected for item in top],
    }
    dtypes = {name: pl.Float64 if name == "sure" else pl.String for name in INCONSISTENCY_COLUMNS}
    return pl.DataFrame(columns, schema=dtypes), len(inconsistencies)


def add_inconsistencies(project: Project, result: CommandResult) -> CommandResult:
    """Add the inconsistent products to the result of `check`, before its tables."""
    frame, total = inconsistent_products(project)
    more = [f"the {frame.height} surest of {total} are shown"] if total > frame.height else []
    return replace(
        result,
        counts={**result.counts, "odd": total},
        tables=[Table.from_frame("odd products", frame), *result.tables],
        notes=[*result.notes, *more],
    )
