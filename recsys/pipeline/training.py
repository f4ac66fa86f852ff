"""Training without leaks: the encoder of products and users, then the ranker on a window the sources did not see.

In: a Bench. Out: model folders `encoder/<version>` and `ranker/<version>`, and a note of what they were trained on.

The product encoder's co-purchase objective sees only what happened before the ranker's window. The rehearsal trains a
user encoder of its own on the same earlier events, so that in fitting the blend every source is as ignorant of the
window as it will be of tomorrow.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from recsys.data.dataset import Dataset
from recsys.data.interactions import Interactions
from recsys.errors import DataContractError, UsageError
from recsys.pipeline.bench import Bench
from recsys.pipeline.report import Report

logger = logging.getLogger(__name__)

PARTS = ("encoder", "ranker")
_NOTE = "trained.json"


@dataclass(frozen=True)
class Trained:
    """On what the models in use were trained.

    Attributes:
        encoder: version of the encoder.
        ranker: version of the ranker, None before it is fitted.
        model_hash: names the settings.
        fingerprint: names the data.
        columns: the catalogue's columns.
        products: n.
        events: e.
        at: UTC seconds.
    """

    encoder: str
    ranker: str | None
    model_hash: str
    fingerprint: str
    columns: tuple[str, ...]
    products: int
    events: int
    at: int

    def save(self, models: Path) -> None:
        """Write the note, whole or not at all."""
        path = models / _NOTE
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        os.replace(draft, path)

    @staticmethod
    def load(models: Path) -> Trained | None:
        """Read the note; None when nothing was trained or it cannot be read (then training is due)."""
        path = models / _NOTE
        if not path.exists():
            return None
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            return Trained(**{**facts, "columns": tuple(facts["columns"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.warning("%s cannot be read (%s); the models count as stale", path, error)
            return None


def trainable(dataset: Dataset) -> None:
    """Refuse data nothing can be learned from.

    Raises:
        DataContractError: there is no product, or no event.
    """
    if not len(dataset.catalogue):
        raise DataContractError("the catalogue is empty: no product is in the store; run 'recsys ingest' with products")
    if not len(dataset.interactions):
        raise DataContractError("there are no events in the store; run 'recsys ingest' with events (purchases)")


@dataclass(frozen=True)
class Content:
    """The encoder as the embedding table sees it: its version changes only when product vectors do."""

    model: Model

    @property
    def version(self) -> str:
        """Names the product encoder's weights; the user encoder's do not matter here."""
        return self.model.content_version

    @property
    def columns(self) -> Sequence[str]:
        """Catalogue columns that decide a vector."""
        return self.model.columns

    def encode(self, catalogue: Catalogue, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Vectors (m, d) of some products."""
        return self.model.encode(catalogue, rows)


def train(bench: Bench, *, parts: Sequence[str] = PARTS, resume: bool = False) -> Report:
    """Train the encoder, fit the ranker, or both, and put them into use.

    Args:
        bench: the project.
        parts: "encoder", "ranker" or both.
        resume: go on from the checkpoint of the same training, if there is one.

    Raises:
        DataContractError: there is nothing to learn from.
        ModelFolderError: the ranker alone is asked for and there is no encoder, or a checkpoint is of another training.
        InterruptedRunError: a signal came; a checkpoint has been written.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise UsageError(f"unknown part '{unknown[0]}'; train {' or '.join(PARTS)}")
    dataset = bench.dataset
    trainable(dataset)
    before = _before_window(bench, dataset.interactions)
    known = Trained.load(bench.models)
    artifacts: dict[str, Path] = {}
    if "encoder" in parts:
        model, artifacts["encoder"] = _encoder(bench, dataset, before, resume=resume)
        known = _note(bench, dataset, encoder=model.version, ranker=None)
        known.save(bench.models)
        bench.refresh_models()
    if "ranker" in parts:
        artifacts["ranker"] = _ranker(bench, dataset, resume=resume)
        encoder = bench.model.version
        known = _note(bench, dataset, encoder=encoder, ranker=artifacts["ranker"].name)
        known.save(bench.models)
        bench.refresh_models()
    counts = {"products": len(dataset.catalogue), "users": len(dataset.users), "events": len(dataset.interactions)}
    return Report("train", counts=counts, artifacts=artifacts, tables=[bench.times()])
