"""What the catalogue lacks and what does not fit: gaps filled with a confidence, products that contradict themselves.

In: an open project. Out: guesses in the table predicted_attributes, Reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from recsys.errors import UsageError
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.store import predicted_attributes as predictions
from recsys.vectors.attributes import completion as gaps
from recsys.vectors.attributes import inconsistency as odds

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
SHOWN = 50
"""Odd products that a report shows."""


def complete_attributes(
    project: Project, attributes: Sequence[str] = (), *, min_confidence: float = 0.5
) -> CommandResult:
    """Guess missing values, write those that are sure enough in the place of the older guesses.

    Args:
        project: the project.
        attributes: which; all that can be guessed when none is named.
        min_confidence: guesses less sure are not written.

    Raises:
        ModelFolderError: there is no trained model.
        NotFoundError: there is no such attribute.
        UsageError: an attribute holds no words, or `min_confidence` is no share.
    """
    return predict_attributes(project, attributes, min_confidence=min_confidence)[0]


def predict_attributes(
    project: Project, attributes: Sequence[str], *, min_confidence: float
) -> tuple[CommandResult, pl.DataFrame]:
    """The same, and the guesses that were written: product_id, attribute, value, confidence, model_version."""
    import polars as pl

    if not 0 <= min_confidence <= 1:
        raise UsageError(f"the least confidence must lie between 0 and 1, not {min_confidence}")
    model, catalogue = project.model, project.dataset.catalogue
    columns = gaps.resolve_columns(catalogue, attributes)
    found, frames = [], [pl.DataFrame(schema=predictions.SCHEMA)]
    with project.progress.stage("complete") as progress:
        for at, one in enumerate(gaps.predict_missing(catalogue, model, columns, seed=project.settings.training.seed)):
            sure = one.confidence >= min_confidence
            guesses = {
                "product_id": catalogue.ids.ids(one.rows[sure]),
                "attribute": one.attribute,
                "value": [value for value, kept in zip(one.values, sure, strict=True) if kept],
                "confidence": one.confidence[sure],
                "model_version": model.content_version,
            }
            frames.append(pl.DataFrame(guesses, schema=predictions.SCHEMA))
            found.append((one, int(sure.sum())))
            progress(at + 1, len(columns))
    frame = pl.concat(frames)
    with project.progress.stage("write"), project.store.engine.begin() as connection:
        asked = [gaps.display_name(name) for name in columns]
        only = None if attributes else model.content_version  # of attributes that are no more, nobody would ask again
        predictions.replace(connection, project.store.dialect, frame, attributes=asked, only=only)
    rows = [
        (one.attribute, one.missing, filled, one.known, one.held, one.accuracy, one.majority, one.error, one.why)
        for one, filled in found
    ]
    counts = {
        "products": len(catalogue),
        "attributes": len(columns),
        "missing": sum(one.missing for one, _ in found),
        "filled": frame.height,
        "unsure": sum(len(one.rows) for one, _ in found) - frame.height,
    }
    report = CommandResult(
        "complete",
        status="done" if any(not one.why for one, _ in found) else "nothing_new",
        counts=counts,
        warnings=[] if columns else ["no category, brand or attribute has a value, so there is nothing to learn from"],
        tables=[Table("attributes", COLUMNS, rows)],
        notes=["the values are in the table predicted_attributes"] if frame.height else [],
    )
    return report, frame


def inconsistent_products(project: Project, *, k: int | None = SHOWN) -> tuple[pl.DataFrame, int]:
    """Products of which one thing does not fit the rest, the surest first, columns `INCONSISTENCY_COLUMNS`; and how many there are.

    Raises:
        ModelFolderError: there is no trained model.
    """
    import numpy as np
    import polars as pl

    model, catalogue = project.model, project.dataset.catalogue
    found: list[odds.Inconsistency] = []
    with project.progress.stage("odd products") as progress:
        whole = odds.count_checks(catalogue)
        for at, some in enumerate(odds.find_inconsistencies(catalogue, model, seed=project.settings.training.seed)):
            found += some
            progress(at + 1, whole)
    listed = odds.top_inconsistencies(found, k)
    rows = np.array([one.row for one in listed], np.int64)
    columns = {
        "product_id": catalogue.ids.ids(rows),
        "title": catalogue.titles(rows) if len(rows) else [],
        **{name: [getattr(one, name) for one in listed] for name in INCONSISTENCY_COLUMNS[2:]},
    }
    kinds = {name: pl.Float64 if name == "sure" else pl.String for name in INCONSISTENCY_COLUMNS}
    return pl.DataFrame(columns, schema=kinds), len(found)


def add_inconsistencies(project: Project, report: CommandResult) -> CommandResult:
    """The report of `check`, odd products first."""
    frame, found = inconsistent_products(project)
    more = [f"the {frame.height} surest of {found} are shown"] if found > frame.height else []
    return replace(
        report,
        counts={**report.counts, "odd": found},
        tables=[Table.from_frame("odd products", frame), *report.tables],
        notes=[*report.notes, *more],
    )
