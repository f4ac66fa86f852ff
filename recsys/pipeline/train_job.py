"""Trains without leakage: the product and user encoders, then the ranker on a window the candidate sources did not see.

In: catalogue, events, settings. Out: a model with its embeddings, a ranker. Used by `train` and `evaluate`.

The product encoder's co-purchase objective sees only events before the ranker's window. To fit the ranker, a separate
user encoder is trained on the same earlier events, so that no source has seen the window, as none will have seen the
future when it is used.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys.data.catalogue import Catalogue
from recsys.data.holdout import cutoff_for_fraction
from recsys.data.interactions import Interactions
from recsys.encoder.model import Model
from recsys.encoder.training import distributed
from recsys.encoder.training.plan import DEFAULT_PLAN, TrainingPlan
from recsys.encoder.training.train import NoSequencesError, train_products, train_users
from recsys.errors import DataContractError, UsageError
from recsys.pipeline.project import Project
from recsys.recommend.ranking.boosted_trees import BoostedTreesRanker
from recsys.recommend.ranking.linear import LinearRanker, equal_weights
from recsys.recommend.ranking.training import fit_ranker
from recsys.types import FloatArray
from recsys.vectors.embeddings.table import EmbeddingTable
from recsys.vectors.embeddings.update import update_embeddings

logger = logging.getLogger(__name__)

_ENCODER, _RANKER_USERS, _VECTORS = "encoder", "rehearsal", "vectors"
"""Subfolders of checkpoints and logs; the second is of the user encoder that the ranker is fitted with."""


@dataclass(frozen=True)
class TrainingJob:
    """Training data, settings and the folder of checkpoints.

    Attributes:
        project: provides settings and progress.
        catalogue: n products.
        interactions: all events that may be learned from.
        folder: of checkpoints and logs; used only for this data and these settings.
        resume: resume from the checkpoints in it.
        plan: initial model and additional objectives of the product encoder.
    """

    project: Project
    catalogue: Catalogue
    interactions: Interactions
    folder: Path
    resume: bool = False
    plan: TrainingPlan = DEFAULT_PLAN

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return any(self.folder.glob("*/*.safetensors"))

    def clean_up(self) -> None:
        """Remove checkpoints and vectors; metrics and TensorBoard logs stay."""
        for path in self.folder.glob("*/*.safetensors"):
            path.unlink()
        shutil.rmtree(self.folder / _VECTORS, ignore_errors=True)

    def train_encoder(self) -> tuple[Model, EmbeddingTable]:
        """Train the product encoder on events before the ranker's window and the user encoder on all events.

        If no user has two events, the model has no user encoder, and a warning says so.

        Returns:
            The model and the embeddings of the catalogue.
        """
        settings, progress = self.project.settings, self.project.progress
        with (
            progress.stage("train products", has_own_display=True),
            distributed.process_group(settings.training.device),
        ):
            distributed.broadcast(1)
            model = self.train_product_encoder()
        with progress.stage("encode products") as report_progress:
            table = update_embeddings(
                self.catalogue, model, folder=self.folder / _VECTORS, progress=report_progress
            ).table
        with progress.stage("train users", has_own_display=True):
            try:
                return self._train_users(model, table.vectors, self.interactions, name=_ENCODER), table
            except NoSequencesError:
                logger.warning("no user has two events: the model has no user encoder, 'sequence' proposes nothing")
                return model, table

    def train_product_encoder(self) -> Model:
        """Train the product encoder alone, together with the other processes of the group."""
        settings = self.project.settings
        return train_products(
            self.catalogue,
            self._events_before_window(),
            encoder=settings.encoder,
            objectives=settings.objectives,
            training=settings.training,
            folder=self.folder / _ENCODER,
            resume=self.resume,
            progress=self.project.progress.has_display,
            plan=self.plan,
        )

    def fit_ranker(self, model: Model, content: FloatArray) -> LinearRanker | BoostedTreesRanker:
        """Fit the ranker on the newest windows, with a user encoder that has not seen them.

        Without enough users to fit on, all sources get equal weights, and a warning says so.
        """
        settings, progress = self.project.settings, self.project.progress
        with progress.stage("fit ranker", has_own_display=True):
            try:
                return fit_ranker(
                    self.catalogue,
                    self.interactions,
                    np.asarray(content),
                    lambda earlier_events: self._train_users(model, content, earlier_events, name=_RANKER_USERS),
                    ranker=settings.ranker,
                    recommend=settings.recommend,
                    rules=settings.rules,
                    seed=settings.training.seed,
                )
            except DataContractError as error:
                logger.warning("ranker: not fitted, using equal source weights; before its window, %s", error)
                return equal_weights(settings.recommend.sources)

    def _train_users(self, model: Model, content: FloatArray, interactions: Interactions, *, name: str) -> Model:
        """Return the model with a user encoder trained on the given events."""
        settings = self.project.settings
        return train_users(
            model,
            np.array(content),  # a copy, because torch rejects the table's read-only memory map
            self.catalogue,
            interactions,
            objectives=settings.objectives,
            training=settings.training,
            folder=self.folder / name,
            resume=self.resume,
            progress=self.project.progress.has_display,
        )

    def _events_before_window(self) -> Interactions:
        """Return events before the window the ranker is fitted on; all of them if they share one moment."""
        try:
            cut = cutoff_for_fraction(self.interactions, self.project.settings.ranker.window_fraction)
        except UsageError as error:
            logger.warning("nothing is held back from the encoder: %s", error)
            return self.interactions
        return self.interactions.split(cut)[0]
