"""Saves and loads the last evaluation: its figures, its summary, and the data and settings it was run on.

In: an open project and an evaluation result. Out: checksummed files under artifacts/evaluation; `StoredEvaluation`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recsys._version import __version__
from recsys.artifacts.file_set import read_file_set, write_file_set
from recsys.config import Settings
from recsys.errors import ModelFolderError, NotFoundError
from recsys.evaluate.backtest import COMPARISON_SCHEMA, METRIC_SCHEMA, EvaluationResult
from recsys.pipeline.project import Project
from recsys.store.publication import current_run

logger = logging.getLogger(__name__)
_NAME, _FIGURES, _PAIRED = "evaluation", "figures.parquet", "paired.parquet"


@dataclass(frozen=True)
class StoredEvaluation:
    """A saved evaluation.

    Attributes:
        result: its figures and paired comparisons.
        metadata: `verdict`, `at` (UTC seconds), `split`, `test_days`, `k`, `models`, `test_users`, `train_events`,
            `data_fingerprint`, `list_hash`, `model_hash`, `run_id` (published at that time, or None),
            `seed`, `version`.
    """

    result: EvaluationResult
    metadata: dict[str, Any]


def evaluation_folder(settings: Settings) -> Path:
    """Return the folder of the last evaluation."""
    return settings.artifacts / "evaluation"


def save_evaluation(
    project: Project, result: EvaluationResult, *, summary: str, test_users: int, train_events: int
) -> Path:
    """Save an evaluation, replacing the previous one; return the path of its manifest.

    Args:
        project: the project.
        result: figures and paired comparisons.
        summary: the result in one sentence.
        test_users: number of test users.
        train_events: number of training events.
    """
    evaluate, settings = project.settings.evaluate, project.settings
    facts = {
        "verdict": summary,
        "at": int(time.time()),
        "split": evaluate.split,
        "test_days": evaluate.test_days if evaluate.split == "time" else None,
        "k": evaluate.k,
        "models": list(evaluate.models),
        "test_users": test_users,
        "train_events": train_events,
        "data_fingerprint": project.dataset.fingerprint,
        "list_hash": project.recommendation_settings_hash(),
        "model_hash": project.model_settings_hash(),
        "run_id": _published_run_id(project),
        "seed": settings.training.seed,
        "version": __version__,
    }
    folder = evaluation_folder(settings)
    parts = {_FIGURES: result.metrics.write_parquet, _PAIRED: result.comparisons.write_parquet}
    write_file_set(folder, _NAME, parts=parts, metadata=facts)
    return folder / f"{_NAME}.json"


def load_last_evaluation(settings: Settings) -> StoredEvaluation | None:
    """Load the last evaluation; None if there is none.

    One that was altered since it was written is ignored with a warning.
    """

    def read(facts: dict[str, Any], files: dict[str, Path]) -> StoredEvaluation:
        frame, paired = (pl.read_parquet(files[name]) for name in (_FIGURES, _PAIRED))
        return StoredEvaluation(
            EvaluationResult(frame.select(list(METRIC_SCHEMA)), paired.select(list(COMPARISON_SCHEMA))), facts
        )

    try:
        return read_file_set(evaluation_folder(settings), _NAME, read)
    except FileNotFoundError:
        return None
    except (ModelFolderError, KeyError, pl.exceptions.PolarsError) as error:
        logger.warning("the last evaluation cannot be read (%s); run 'recsys evaluate' again", error)
        return None


def _published_run_id(project: Project) -> str | None:
    """Return the run that is published now; None if there is none or the store has no tables."""
    from sqlalchemy.exc import DBAPIError

    try:
        with project.store.reader() as connection:
            run = current_run(connection, project.settings.recommend.placement)
    except (NotFoundError, DBAPIError):  # a store that was never initialised has no such table
        return None
    return None if run is None else str(run["run_id"])
