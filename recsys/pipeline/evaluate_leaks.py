"""The leak check of `evaluate`: build each system on shops that differ in held-out data only, and compare the lists.

In: an open project, names of systems. Out: a table, or an error that names the systems that see held-out data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from recsys.data.dataset import Dataset, load
from recsys.errors import RecsysError
from recsys.evaluate import registry
from recsys.evaluate.baselines import System
from recsys.evaluate.leakage import TOGETHER, UNCHANGED, ShopView, find_leaks, perturb_holdout, visible_products
from recsys.evaluate.split import Split
from recsys.evaluate.target import event_code
from recsys.evaluate.training_view import TrainingView, take_products
from recsys.pipeline.evaluate_systems import create_training_view, on_all_rows, split_interactions, train_on_past
from recsys.pipeline.project import Project
from recsys.pipeline.result import Table

_MAX_USERS = 500
"""Users whose recommendations are compared."""
_SystemFactory = Callable[[TrainingView], System]


def check_leakage(project: Project, names: Sequence[str]) -> Table:
    """Check that no system notices a change of the held-out data.

    The changes include the products that held-out events add to the catalogue.

    Each changed shop goes the whole way: the loader's selection of products, the split, the view, the system. recsys is
    trained on the unchanged shop and on the one with all changes together; only if they differ, on each of the others.

    Raises:
        RecsysError: a system notices.
    """
    dataset = _complete_dataset(project)
    held_out = split_interactions(project, dataset.interactions)
    seed, target = project.settings.training.seed, event_code(project.settings.evaluate.target)
    shops = perturb_holdout(dataset.catalogue, dataset.interactions, held_out, seed=seed, target=target)
    histories = held_out.cases.take(np.arange(min(_MAX_USERS, len(held_out.cases)))).histories
    rows, leaking = [], []
    for name in names:
        is_own = name == registry.OWN_SYSTEM

        def create(view: TrainingView, name: str = name, is_own: bool = is_own) -> System:
            return train_on_past(project, view) if is_own else registry.create_baseline(name, view)[1]

        def build(shop: ShopView, create: _SystemFactory = create) -> System:
            return _build(project, shop, held_out, create)

        compared = {key: shops[key] for key in (UNCHANGED, TOGETHER)} if is_own and TOGETHER in shops else shops
        with project.progress.stage("check for leaks"):
            leaks = find_leaks(build, compared, histories)
            if leaks and compared is not shops:
                leaks = find_leaks(build, shops, histories)
        leaking += [f"{name} ({', '.join(leaks)})"] if leaks else []
        rows.append((name, ", ".join(key for key in compared if key != UNCHANGED), ", ".join(leaks) or "nothing"))
    if leaking:
        raise RecsysError(
            f"these systems see what is held back: {'; '.join(leaking)}; their figures would be wrong, report this"
        )
    return Table("leak check: changes of what is held back", ("system", "changed", "noticed"), rows)


def _complete_dataset(project: Project) -> Dataset:
    """Return the data with all products of the store, those included that `data.catalogue` leaves out."""
    if not project.dataset.counts.get("products_left_out"):
        return project.dataset
    settings = project.settings.data.model_copy(update={"catalogue": "all"})
    return load(project.store.engine, settings, image_store=project.images)


def _build(project: Project, shop: ShopView, held_out: Split, create: _SystemFactory) -> System:
    """Build a system from a shop as `evaluate` does; it takes and returns rows of the complete catalogue."""
    keep = shop.catalogue_mask(project.settings.data.catalogue)
    catalogue, interactions = take_products(shop.catalogue, shop.interactions, keep)
    split = _split_again(project, ShopView(catalogue, interactions), held_out)
    view = create_training_view(project, catalogue, split)
    system = create(view.with_candidates(visible_products(catalogue, split)))
    return on_all_rows(system, keep)


def _split_again(project: Project, shop: ShopView, held_out: Split) -> Split:
    """Split a changed shop like the real one: at the same cutoff, or by the same rule."""
    if held_out.cutoff is None:
        return split_interactions(project, shop.interactions)
    return Split(
        held_out.method,
        shop.interactions.split(held_out.cutoff)[0],
        held_out.cases,
        held_out.cutoff,
        shop.interactions.time >= held_out.cutoff,
    )
