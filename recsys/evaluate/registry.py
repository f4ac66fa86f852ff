"""Baseline systems by name, each created from a `TrainingView`.

In: names, the data known at the cutoff. Out: systems (histories, k) -> (b, k) product rows, by display name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recsys.errors import UsageError, suggestion
from recsys.evaluate import baselines, linear_baselines
from recsys.evaluate.baselines import Scorer, System
from recsys.evaluate.training_view import TrainingView

OWN_SYSTEM = "recsys"
"""Name of the trained recommender, the only system that is not a baseline."""
_RECENT_DAYS = 7


def _create_recent_popularity(past: TrainingView) -> Scorer:
    return baselines.popular(past.train, days=_RECENT_DAYS, now=past.now)


def _create_ease(past: TrainingView) -> Scorer:
    return linear_baselines.ease(past.train)


def _create_chain(past: TrainingView) -> Scorer:
    repurchase = baselines.repurchase(len(past.catalogue))
    return baselines.chain(repurchase, baselines.item_item(past.train), _create_recent_popularity(past))


BASELINES: dict[str, Callable[[TrainingView], Scorer]] = {
    "popular": lambda past: baselines.popular(past.train),
    "popular-7d": _create_recent_popularity,
    "repurchase": lambda past: baselines.repurchase(len(past.catalogue)),
    "item-item": lambda past: baselines.item_item(past.train),
    "ease": _create_ease,
    "als": lambda past: linear_baselines.als(past.train, seed=past.seed),
    "tf-idf": lambda past: baselines.tfidf(past.catalogue, known=past.known),
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


def create_baseline(name: str, past: TrainingView) -> tuple[str, System]:
    """Create a system and its display name.

    The name of EASE states its product limit if some bought products are left out.
    """
    display_name = name
    if name == "ease":
        n_bought = int((baselines.purchases(past.train).counts() > 0).sum())
        if n_bought > linear_baselines.MOST:
            display_name = f"{name} ({linear_baselines.MOST:,} most bought)"
    system = baselines.to_ranked_lists(
        BASELINES[name](past), exclude_seen=name not in _WITH_REPURCHASES, allowed=past.catalogue.sellable
    )
    return display_name, system
