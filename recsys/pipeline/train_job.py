"""One training without leaks: the encoder of products and users, then the ranker on a window the sources did not see.

In: catalogue, events, settings. Out: a model with its vectors, a blend. `train` and `evaluate` both give lessons.

The product encoder's co-purchase objective sees only what happened before the ranker's window. The rehearsal trains a
user encoder of its own on the same earlier events, so that in fitting the blend every source is as ignorant of the
window as it will be of tomorrow.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys.data import holdout as cases
from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Interactions
from recsys.encoder.model import Model
from recsys.encoder.training import distributed
from recsys.encoder.training.plan import DEFAULT_PLAN, TrainingPlan
from recsys.encoder.training.train import train_products, train_users
from recsys.errors import DataContractError, UsageError
from recsys.pipeline.project import Project
from recsys.recommend.ranking import linear as rank
from recsys.recommend.ranking import training as rehearsal
from recsys.recommend.ranking.boosted_trees import BoostedTreesRanker
from recsys.recommend.ranking.linear import LinearRanker
from recsys.types import FloatArray
from recsys.vectors.embeddings.table import EmbeddingTable
from recsys.vectors.embeddings.update import update_embeddings

logger = logging.getLogger(__name__)

_ENCODER, _REHEARSAL, _VECTORS = "encoder", "rehearsal", "vectors"


@dataclass(frozen=True)
class TrainingJob:
    """What is learned from, and where checkpoints go.

    Attributes:
        project: settings and watch.
        catalogue: n products.
        interactions: all events that may be learned from.
        folder: of checkpoints and logs; of this data and these settings alone.
        resume: go on from the checkpoints in it.
        course: what the product encoder starts from, and what is asked of it besides.
    """

    project: Project
    catalogue: Catalogue
    interactions: Interactions
    folder: Path
    resume: bool = False
    plan: TrainingPlan = DEFAULT_PLAN

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return any(self.folder.glob("*/*.safetensors"))

    def clean_up(self) -> None:
        """Remove checkpoints and vectors; metrics and TensorBoard logs stay."""
        for path in self.folder.glob("*/*.safetensors"):
            path.unlink()
        shutil.rmtree(self.folder / _VECTORS, ignore_errors=True)

    def train_encoder(self) -> tuple[Model, EmbeddingTable]:
        """Product encoder on what was before the ranker's window, user encoder on everything; model and vectors."""
        settings, watch = self.project.settings, self.project.progress
        with watch.stage("train products", draws_itself=True), distributed.process_group(settings.training.device):
            distributed.broadcast(1)
            model = self.train_product_encoder()
        with watch.stage("encode products") as progress:
            table = update_embeddings(self.catalogue, model, folder=self.folder / _VECTORS, progress=progress).table
        with watch.stage("train users", draws_itself=True):
            return self._users(model, table.vectors, self.interactions, name=_ENCODER), table

    def train_product_encoder(self) -> Model:
        """The product encoder alone, by this process and those it works together with."""
        settings = self.project.settings
        return train_products(
            self.catalogue,
            self._before_window(),
            encoder=settings.encoder,
            objectives=settings.objectives,
            training=settings.training,
            folder=self.folder / _ENCODER,
            resume=self.resume,
            progress=self.project.progress.shown,
            course=self.plan,
        )

    def fit_ranker(self, model: Model, content: FloatArray) -> LinearRanker | BoostedTreesRanker:
        """The ranker, fitted on the newest windows with a user encoder that has not seen them.

        Without enough users to rehearse with, the sources count the same, and a warning says so.
        """
        settings, watch = self.project.settings, self.project.progress
        with watch.stage("fit ranker", draws_itself=True):
            try:
                return rehearsal.fit_ranker(
                    self.catalogue,
                    self.interactions,
                    np.asarray(content),
                    lambda early: self._users(model, content, early, name=_REHEARSAL),
                    ranker=settings.ranker,
                    recommend=settings.recommend,
                    rules=settings.rules,
                    seed=settings.training.seed,
                )
            except DataContractError as error:
                logger.warning("the ranker is not fitted, all sources count the same: before its window, %s", error)
                return rank.equal_weights(settings.recommend.sources)

    def _users(self, model: Model, content: FloatArray, interactions: Interactions, *, name: str) -> Model:
        """The model with a user encoder trained on some events."""
        settings = self.project.settings
        return train_users(
            model,
            np.array(content),  # a copy: the table's vectors are a read-only map, which torch does not take
            self.catalogue,
            interactions,
            objectives=settings.objectives,
            training=settings.training,
            folder=self.folder / name,
            resume=self.resume,
            progress=self.project.progress.shown,
        )

    def _before_window(self) -> Interactions:
        """Events before the window the ranker is fitted on; all of them when they share one moment."""
        try:
            cut = cases.cutoff_for_fraction(self.interactions, self.project.settings.ranker.window_fraction)
        except UsageError as error:
            logger.warning("nothing is held back from the encoder: %s", error)
            return self.interactions
        return self.interactions.split(cut)[0]
