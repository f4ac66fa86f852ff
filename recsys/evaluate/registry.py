"""Baseline systems by name, each created from a `TrainingView`.

In: names, the data known at the cutoff. Out: systems (histories, k) -> (b, k) product rows, by display name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from recsys.errors import UsageError, suggestion
from recsys.evaluate import baselines, linear_baselines
from recsys.evaluate.baselines import Scorer, System
from recsys.evaluate.target import histories_as_purchase, target_as_purchase
from recsys.evaluate.training_view import TrainingView

OWN_SYSTEM = "recsys"
"""Name of the trained recommender, the only system that is not a baseline."""
_RECENT_DAYS = 7


def _create_recent_popularity(view: TrainingView) -> Scorer:
    return baselines.popularity(view.train, days=_RECENT_DAYS, now=view.now)


def _create_ease(view: TrainingView) -> Scorer:
    return linear_baselines.ease(view.train)


def _create_chain(view: TrainingView) -> Scorer:
    repurchase = baselines.repurchase(len(view.catalogue))
    return baselines.chain(repurchase, baselines.item_knn(view.train), _create_recent_popularity(view))


BASELINES: dict[str, Callable[[TrainingView], Scorer]] = {
    "popular": lambda view: baselines.popularity(view.train),
    "popular-7d": _create_recent_popularity,
    "repurchase": lambda view: baselines.repurchase(len(view.catalogue)),
    "item-item": lambda view: baselines.item_knn(view.train),
    "ease": _create_ease,
    "als": lambda view: linear_baselines.als(view.train, seed=view.seed),
    "tf-idf": lambda view: baselines.tfidf(view.catalogue, known=view.known),
    "repurchase+item-item+popular": _create_chain,
}
"""Scorer factories by the name `--models` takes; `recsys` is added by the caller."""
_WITH_REPURCHASES = ("repurchase", "repurchase+item-item+popular")
"""Baselines that may list products the user has bought; the others exclude them."""


def resolve_names(names: Sequence[str]) -> list[str]:
    """Validate the names and drop duplicates.

    Raises:
        UsageError: a name is unknown, or there is no name.
    """
    allowed = [*BASELINES, OWN_SYSTEM]
    unique_names = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    for name in unique_names:
        if name not in allowed:
            raise UsageError(f"unknown model '{name}'{suggestion(name, allowed)} (known: {', '.join(allowed)})")
    if not unique_names:
        raise UsageError(f"no model is named; choose some of {', '.join(allowed)}")
    return unique_names


def create_baseline(name: str, view: TrainingView) -> tuple[str, System]:
    """Create a system and its display name.

    The name of EASE states its product limit if some bought products are left out. With another target than purchases,
    the baselines learn from the events of that type instead.
    """
    display_name = name
    view = dataclasses.replace(view, train=target_as_purchase(view.train, view.target))
    if name == "ease":
        n_bought = int((baselines.purchase_events(view.train).counts() > 0).sum())
        if n_bought > linear_baselines.MAX_EASE_PRODUCTS:
            display_name = f"{name} ({linear_baselines.MAX_EASE_PRODUCTS:,} most bought)"
    system = baselines.to_ranked_lists(
        BASELINES[name](view),
        exclude_purchased=name not in _WITH_REPURCHASES,
        allowed=view.catalogue.sellable,
        train=view.train,
    )
    return display_name, lambda histories, k: system(histories_as_purchase(histories, view.target), k)
