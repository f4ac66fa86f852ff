"""Split the log as [evaluate] says, and train recsys on what lies before the test.

In: an open project. Out: the split, what the systems may see of it, and recsys as a system to evaluate.
"""

from __future__ import annotations

import numpy as np

from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Histories, Interactions
from recsys.errors import DataContractError
from recsys.evaluate.baselines import System
from recsys.evaluate.split import Split, create_split
from recsys.evaluate.target import event_code
from recsys.evaluate.training_view import TrainingView
from recsys.pipeline.project import Project
from recsys.pipeline.train_job import TrainingJob
from recsys.recommend.recommender import Recommender
from recsys.types import BoolArray, IntArray


def split_interactions(project: Project, interactions: Interactions) -> Split:
    """Split a log as [evaluate] says."""
    settings = project.settings.evaluate
    return create_split(
        settings.split,
        interactions,
        days=settings.test_days,
        max_users=settings.max_users,
        seed=project.settings.training.seed,
        target=event_code(settings.target),
    )


def create_training_view(project: Project, catalogue: Catalogue, held_out: Split) -> TrainingView:
    """Return what the systems may see of a split shop."""
    settings = project.settings
    return TrainingView.from_catalogue(
        catalogue,
        held_out.train,
        now=held_out.cases.now,
        cutoff=held_out.cutoff,
        seed=settings.training.seed,
        target=event_code(settings.evaluate.target),
        catalogue_setting=settings.data.catalogue,
    )


def train_on_past(project: Project, view: TrainingView) -> System:
    """Train recsys on the training view alone.

    Products that the catalogue did not have at the cutoff are left out. Encoder and ranker learn from the products that
    existed at the cutoff; products created since are encoded by the trained encoder, and their words stay out of the
    word counts.

    Raises:
        DataContractError: there is too little data before the test to train on.
    """
    if not view.in_catalogue.all():
        return on_all_rows(train_on_past(project, view.restricted_to_catalogue()), view.in_catalogue)
    settings = project.settings
    catalogue, events = view.without_new_products()
    job = TrainingJob(project, catalogue, events, settings.artifacts / "evaluation")
    try:
        model, table = job.train_encoder()
    except DataContractError as error:
        raise DataContractError(
            f"recsys cannot be trained on what is before the test: {error}, or compare the others alone with --models"
        ) from None
    ranker = job.fit_ranker(model, table.vectors)
    content = np.array(table.vectors)
    if not view.known.all():
        content = np.zeros((len(view.catalogue), table.vectors.shape[1]), np.float32)
        content[view.known] = table.vectors
        content[~view.known] = model.encode(view.catalogue, np.flatnonzero(~view.known))
    job.clean_up()
    recommender = Recommender.build(
        view.with_blank_new_texts(),
        view.train,
        model=model,
        content=content,
        ranker=ranker,
        recommend=settings.recommend,
        rules=settings.rules,
        privacy=settings.privacy,
        users=project.dataset.users,
        now=view.now,
    )

    def recommend_rows(histories: Histories, k: int) -> IntArray:
        return recommender.recommend_rows(histories, k)

    return recommend_rows


def on_all_rows(system: System, keep: BoolArray) -> System:
    """Let a system of the products of `keep` (n,) take and return rows of all n products."""
    if keep.all():
        return system
    rows, position = np.flatnonzero(keep), np.where(keep, np.cumsum(keep) - 1, -1)

    def recommend_rows(histories: Histories, k: int) -> IntArray:
        items = np.where(histories.mask, position[histories.items], -1)
        lists = system(Histories(histories.users, items, histories.times, histories.event_types), k)
        return np.where(lists >= 0, rows[lists], -1)

    return recommend_rows
