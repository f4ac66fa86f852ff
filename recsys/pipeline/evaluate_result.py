"""The last evaluation, kept for whoever asks later: its figures, its verdict, what was compared and when.

In: an open project and what came out of a comparison. Out: sealed files under artifacts/evaluation, and `StoredEvaluation` read back.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recsys._version import __version__
from recsys.artifacts import file_set as sealed
from recsys.config import Settings
from recsys.errors import ModelFolderError, NotFoundError
from recsys.evaluate.backtest import PAIRED_SCHEMA, SCHEMA, EvaluationResult
from recsys.pipeline.project import Project
from recsys.store import publication as pointer

logger = logging.getLogger(__name__)
_NAME, _FIGURES, _PAIRED = "evaluation", "figures.parquet", "paired.parquet"


@dataclass(frozen=True)
class StoredEvaluation:
    """One evaluation.

    Attributes:
        judged: its figures and pairs.
        facts: `verdict`, `at` (UTC seconds), `split`, `test_days`, `k`, `models`, `test_users`, `train_events`,
            `data_fingerprint`, `list_hash`, `model_hash`, `run_id` (published then, None = none), `seed`, `version`.
    """

    judged: EvaluationResult
    facts: dict[str, Any]


def folder(settings: Settings) -> Path:
    """Where the last evaluation is kept."""
    return settings.artifacts / "evaluation"


def save_evaluation(
    project: Project, judged: EvaluationResult, *, said: str, test_users: int, train_events: int
) -> Path:
    """Keep an evaluation in the place of the one before; return its manifest.

    Args:
        project: the project.
        judged: figures and pairs.
        said: the verdict in words.
        test_users: users judged.
        train_events: events learned from.
    """
    asked, settings = project.settings.evaluate, project.settings
    facts = {
        "verdict": said,
        "at": int(time.time()),
        "split": asked.split,
        "test_days": asked.test_days if asked.split == "time" else None,
        "k": asked.k,
        "models": list(asked.models),
        "test_users": test_users,
        "train_events": train_events,
        "data_fingerprint": project.dataset.fingerprint,
        "list_hash": project.recommendation_settings_hash(),
        "model_hash": project.model_settings_hash(),
        "run_id": _published(project),
        "seed": settings.training.seed,
        "version": __version__,
    }
    where = folder(settings)
    parts = {_FIGURES: judged.frame.write_parquet, _PAIRED: judged.paired.write_parquet}
    sealed.write_file_set(where, _NAME, parts=parts, metadata=facts)
    return where / f"{_NAME}.json"


def load_last_evaluation(settings: Settings) -> StoredEvaluation | None:
    """The last evaluation; None where there was none.

    One that was altered since it was written is not used, and a warning says so.
    """

    def read(facts: dict[str, Any], files: dict[str, Path]) -> StoredEvaluation:
        frame, paired = (pl.read_parquet(files[name]) for name in (_FIGURES, _PAIRED))
        return StoredEvaluation(EvaluationResult(frame.select(list(SCHEMA)), paired.select(list(PAIRED_SCHEMA))), facts)

    try:
        return sealed.read_file_set(folder(settings), _NAME, read)
    except FileNotFoundError:
        return None
    except (ModelFolderError, KeyError, pl.exceptions.PolarsError) as error:
        logger.warning("the last evaluation cannot be read (%s); run 'recsys evaluate' again", error)
        return None


def _published(project: Project) -> str | None:
    """The run consumers read while this was judged; None where there is none or no store with runs."""
    from sqlalchemy.exc import DBAPIError

    try:
        with project.store.reader() as connection:
            found = pointer.published_run(connection, project.settings.recommend.placement)
    except (NotFoundError, DBAPIError):  # a store that was never made has no such table
        return None
    return None if found is None else str(found["run_id"])
