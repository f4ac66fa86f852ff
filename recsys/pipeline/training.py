"""Training without leaks: the encoder of products and users, then the ranker on a window the sources did not see.

In: a Bench. Out: model folders `encoder/<version>` and `ranker/<version>`, and a note of what they were trained on.

The product encoder's co-purchase objective sees only what happened before the ranker's window. The rehearsal trains a
user encoder of its own on the same earlier events, so that in fitting the blend every source is as ignorant of the
window as it will be of tomorrow.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recsys.data.catalogue import Catalogue
from recsys.data.dataset import Dataset
from recsys.data.interactions import Interactions
from recsys.encoder import checkpoint
from recsys.encoder.model import Model
from recsys.encoder.train import train_products, train_users
from recsys.errors import DataContractError, UsageError
from recsys.pipeline import rankers
from recsys.pipeline.bench import Bench
from recsys.pipeline.report import Report
from recsys.pipeline.space import embedded
from recsys.pipeline.trained import Trained
from recsys.recommend import cases, rank, rehearsal
from recsys.vectors.build import bring_up_to_date
from recsys.vectors.table import EmbeddingTable

logger = logging.getLogger(__name__)

PARTS = ("encoder", "ranker")


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
    lesson = Lesson(
        bench, dataset.catalogue, dataset.interactions, bench.settings.artifacts / "training", resume=resume
    )
    artifacts: dict[str, Path] = {}
    if "encoder" in parts:
        model, table = lesson.encoder()
        seed = bench.settings.training.seed
        artifacts["encoder"] = checkpoint.save(
            model, bench.models / "encoder", data_fingerprint=dataset.fingerprint, seed=seed
        )
        table.save(bench.embeddings)  # they are those of the model just saved: nobody encodes them again
        Trained.now(bench, dataset, encoder=model.version, ranker="").save(bench.models)
        bench.refresh_models()
    if "ranker" in parts:
        content = np.array(embedded(bench).table.vectors)
        blend = lesson.ranker(bench.model, content)
        artifacts["ranker"] = rankers.save(
            blend,
            bench.models / "ranker",
            encoder=bench.model.version,
            data_fingerprint=dataset.fingerprint,
            seed=bench.settings.training.seed,
        )
        Trained.now(bench, dataset, encoder=bench.model.version, ranker=artifacts["ranker"].name).save(bench.models)
        bench.refresh_models()
    counts = {"products": len(dataset.catalogue), "users": len(dataset.users), "events": len(dataset.interactions)}
    return Report("train", counts=counts, artifacts=artifacts, tables=[bench.times()])


def trainable(dataset: Dataset) -> None:
    """Refuse data nothing can be learned from.

    Raises:
        DataContractError: there is no product, or no event.
    """
    if not len(dataset.catalogue):
        raise DataContractError("the catalogue is empty: the store holds no product; run 'recsys ingest' with products")
    if not len(dataset.interactions):
        raise DataContractError("the store holds no events; run 'recsys ingest' with events such as purchases")


@dataclass(frozen=True)
class Lesson:
    """One training: what is learned from, and where checkpoints go. `train` and `evaluate` both give lessons.

    Attributes:
        bench: settings and watch.
        catalogue: n products.
        interactions: all events that may be learned from.
        folder: of checkpoints and logs.
        resume: go on from checkpoints of the same training.
    """

    bench: Bench
    catalogue: Catalogue
    interactions: Interactions
    folder: Path
    resume: bool = False

    def encoder(self) -> tuple[Model, EmbeddingTable]:
        """Product encoder on what was before the ranker's window, user encoder on everything; model and vectors."""
        settings, watch = self.bench.settings, self.bench.watch
        with watch.stage("train products", draws_itself=True):
            model = train_products(
                self.catalogue,
                self.before_window(),
                encoder=settings.encoder,
                objectives=settings.objectives,
                training=settings.training,
                folder=self.folder / "encoder",
                resume=self.resume,
                progress=watch.shown,
            )
        with watch.stage("encode products") as progress:
            table = bring_up_to_date(self.catalogue, model, folder=self.folder / "vectors", progress=progress).table
        with watch.stage("train users", draws_itself=True):
            return self.users(model, np.array(table.vectors), self.interactions, name="encoder"), table

    def ranker(self, model: Model, content: npt.NDArray[np.float32]) -> rank.Blend:
        """The blend, fitted on the newest window with a user encoder that has not seen it."""
        settings, watch = self.bench.settings, self.bench.watch
        with watch.stage("fit ranker", draws_itself=True):
            return rehearsal.rehearse(
                self.catalogue,
                self.interactions,
                content,
                lambda early: self.users(model, content, early, name="rehearsal"),
                ranker=settings.ranker,
                recommend=settings.recommend,
                rules=settings.rules,
                seed=settings.training.seed,
            )

    def users(self, model: Model, content: npt.NDArray[np.float32], interactions: Interactions, *, name: str) -> Model:
        """The model with a user encoder trained on some events."""
        settings = self.bench.settings
        return train_users(
            model,
            content,
            self.catalogue,
            interactions,
            objectives=settings.objectives,
            training=settings.training,
            folder=self.folder / name,
            resume=self.resume,
            progress=self.bench.watch.shown,
        )

    def before_window(self) -> Interactions:
        """Events before the window the ranker is fitted on; all of them when they share one moment."""
        try:
            cut = cases.newest(self.interactions, self.bench.settings.ranker.window_fraction)
        except UsageError as error:
            logger.warning("there is no earlier and later among the events, so nothing is held back: %s", error)
            return self.interactions
        return self.interactions.split(cut)[0]
