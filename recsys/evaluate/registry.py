"""The systems of the comparison by name, each made from a `TrainingView`.

In: names, what may be known at the cut. Out: systems (histories, k) -> (b, k) product rows, by the name to show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recsys.errors import UsageError, suggestion
from recsys.evaluate import baselines
from recsys.evaluate import linear_baselines as linear
from recsys.evaluate.baselines import Scorer, System
from recsys.evaluate.training_view import TrainingView

OWN_SYSTEM = "recsys"
"""The one system that is not made here."""
_DAYS = 7


def _popular_lately(past: TrainingView) -> Scorer:
    return baselines.popular(past.train, days=_DAYS, now=past.now)


def _ease(past: TrainingView) -> Scorer:
    return linear.ease(past.train)


def _stacked(past: TrainingView) -> Scorer:
    again = baselines.repurchase(len(past.catalogue))
    return baselines.chain(again, baselines.item_item(past.train), _popular_lately(past))


BASELINES: dict[str, Callable[[TrainingView], Scorer]] = {
    "popular": lambda past: baselines.popular(past.train),
    "popular-7d": _popular_lately,
    "repurchase": lambda past: baselines.repurchase(len(past.catalogue)),
    "item-item": lambda past: baselines.item_item(past.train),
    "ease": _ease,
    "als": lambda past: linear.als(past.train, seed=past.seed),
    "tf-idf": lambda past: baselines.tfidf(past.catalogue, known=past.known),
    "repurchase+item-item+popular": _stacked,
}
"""What scores, by the name `--models` takes; `recsys` comes beside them."""
_AGAIN = ("repurchase", "repurchase+item-item+popular")
"""They list what the user has bought; the others leave it out."""


def resolve_names(names: Sequence[str]) -> list[str]:
    """The names, each once.

    Raises:
        UsageError: a name is unknown, or none is named.
    """
    known = [*BASELINES, OWN_SYSTEM]
    out = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    for name in out:
        if name not in known:
            raise UsageError(f"unknown model '{name}'{suggestion(name, known)} (known: {', '.join(known)})")
    if not out:
        raise UsageError(f"no model is named; choose some of {', '.join(known)}")
    return out


def create_baseline(name: str, past: TrainingView) -> tuple[str, System]:
    """One system and the name to show: EASE says so where it does not know all products that were bought."""
    shown = name
    if name == "ease":
        bought = int((baselines.purchases(past.train).counts() > 0).sum())
        shown = name if bought <= linear.MOST else f"{name} ({linear.MOST:,} most bought)"
    system = baselines.to_ranked_lists(
        BASELINES[name](past), exclude_seen=name not in _AGAIN, allowed=past.catalogue.sellable
    )
    return shown, system
