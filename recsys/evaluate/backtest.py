"""Evaluate systems on holdout purchases: metrics with intervals by slice, and paired comparisons.

In: `HoldoutCases`, the training events, systems (histories, k) -> (b, k) rows. Out: a frame with one row per system,
slice and metric; a frame of paired differences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from recsys.data.catalogue import Catalogue
from recsys.data.holdout import HoldoutCases
from recsys.data.interactions import Interactions
from recsys.data.schema import PURCHASE_CODE
from recsys.evaluate import beyond_accuracy, metrics
from recsys.evaluate.baselines import System
from recsys.evaluate.sampled_lists import drop_purchased, rank_among_negatives, sample_negatives
from recsys.evaluate.significance import bootstrap_means, paired_test, percentile_interval
from recsys.evaluate.slices import NEW_PURCHASES, Slice, Targets, create_slices, purchased_products
from recsys.types import DoubleArray, IntArray

METRIC_SCHEMA = {
    "system": pl.String,
    "slice": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "users": pl.Int64,
}
COMPARISON_SCHEMA = {
    "slice": pl.String,
    "metric": pl.String,
    "system": pl.String,
    "other": pl.String,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p_bootstrap": pl.Float64,
    "p_signflip": pl.Float64,
    "users": pl.Int64,
}
_PAIRED_SLICES = ("all", NEW_PURCHASES)


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics of all systems and their paired differences.

    Attributes:
        metrics: columns of SCHEMA.
        comparisons: columns of PAIRED_SCHEMA; NDCG, HR and MAP of one system minus those of each other system.
    """

    metrics: pl.DataFrame
    comparisons: pl.DataFrame


@dataclass(frozen=True)
class _SystemLists:
    """Recommendations of one system: unchanged, without earlier purchases, among sampled negatives."""

    unchanged: IntArray
    without_purchased: IntArray
    sampled: IntArray | None

    def select(self, part: Slice) -> IntArray:
        return (self.without_purchased if part.exclude_purchased else self.unchanged)[part.rows]


@dataclass(frozen=True)
class Evaluator:
    """Settings of an evaluation.

    Attributes:
        catalogue: for images, prices, categories and the sellable products.
        train: the events the systems learned from, for slices and metrics by product popularity.
        k: length of the lists; HR, NDCG and MRR are always at 10.
        samples: of the bootstrap over users; there are ten times as many sign flips.
        seed: of bootstrap, sign flips and negatives.
        cutoff: UTC seconds from which on the purchases are held out, if all users share one cutoff.
        n_negatives: also rank the targets among this many sampled negatives per user; 0 = off.
        content: (n, d) rows of unit length, for diversity; without it diversity is left out.
        reference: the system the others are compared with; if it is missing, the system with the best NDCG.
        target: code of the event type of the targets.
    """

    catalogue: Catalogue
    train: Interactions
    k: int = 12
    samples: int = 1000
    seed: int = 0
    cutoff: int | None = None
    n_negatives: int = 0
    content: npt.NDArray[np.floating] | sparse.csr_matrix | None = field(default=None, repr=False)
    reference: str = "recsys"
    target: int = PURCHASE_CODE

    def evaluate(self, cases: HoldoutCases, systems: Mapping[str, System]) -> EvaluationResult:
        """Evaluate one or more systems on the same cases and histories."""
        bought_before = purchased_products(cases, self.train, target=self.target)
        lists = {name: self._recommend(cases, system, bought_before) for name, system in systems.items()}
        names = list(systems)
        weights = metrics.inverse_popularity(_count_events(self.train, self.target))
        rows: list[tuple[int, tuple[object, ...]]] = []
        paired_rows: list[tuple[object, ...]] = []
        for part in create_slices(cases, self.catalogue, self.train, cutoff=self.cutoff, target=self.target):
            accuracy = [self._compute_accuracy(lists[name], part, weights) for name in names]
            rows += self._summarize(part.name, names, accuracy)
            if part.name in _PAIRED_SLICES and len(names) > 1:
                paired_rows += self._compare(part.name, names, accuracy)
        beyond = [self._compute_beyond_accuracy(cases, lists[name].unchanged) for name in names]
        rows += self._summarize("all", names, beyond)
        for position, name in enumerate(names):
            catalogue_rows = self._compute_catalogue_metrics(name, lists[name].unchanged, len(cases))
            rows += [(position, row) for row in catalogue_rows]
        ordered = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
        return EvaluationResult(
            pl.DataFrame(ordered, schema=METRIC_SCHEMA, orient="row"),
            pl.DataFrame(paired_rows, schema=COMPARISON_SCHEMA, orient="row"),
        )

    def _recommend(self, cases: HoldoutCases, system: System, bought_before: Targets) -> _SystemLists:
        unchanged = system(cases.histories, max(10, self.k))
        sampled = None
        if self.n_negatives:
            sellable = self.catalogue.sellable
            negatives = sample_negatives(cases, bought_before, sellable, count=self.n_negatives, seed=self.seed)
            sampled = rank_among_negatives(system, cases, negatives, n_items=len(sellable), k=max(10, self.k))
        return _SystemLists(unchanged, drop_purchased(system, cases, unchanged, bought_before), sampled)

    def _compute_accuracy(self, lists: _SystemLists, part: Slice, weights: DoubleArray) -> dict[str, DoubleArray]:
        out = metric_values(lists.select(part), part.targets, self.k, weights=weights)
        if lists.sampled is not None and not part.exclude_purchased:
            sampled = metric_values(lists.sampled[part.rows], part.targets, self.k, weights=weights)
            out |= {f"{metric} (sampled {self.n_negatives})": values for metric, values in sampled.items()}
        return out

    def _compute_beyond_accuracy(self, cases: HoldoutCases, lists: IntArray) -> dict[str, DoubleArray]:
        top_k, history = lists[:, : self.k], cases.histories.items
        out = {"novelty": beyond_accuracy.novelty(top_k, _count_events(self.train, self.target))}
        if self.content is not None:
            out["diversity"] = beyond_accuracy.diversity(top_k, self.content)
        categories, prices = (
            beyond_accuracy.category_codes(self.catalogue),
            beyond_accuracy.price_deciles(self.catalogue),
        )
        out["category_calibration"] = beyond_accuracy.calibration(top_k, history, categories)
        out["price_calibration"] = beyond_accuracy.calibration(top_k, history, prices)
        return {f"{name}@{self.k}": values for name, values in out.items()}

    def _compute_catalogue_metrics(self, name: str, lists: IntArray, users: int) -> list[tuple[object, ...]]:
        """Return one row per metric of all lists together; such a metric has no interval over users."""
        top_k, sellable = lists[:, : self.k], self.catalogue.sellable
        values = {
            "coverage": beyond_accuracy.coverage(top_k, sellable),
            "gini": beyond_accuracy.gini(top_k, sellable),
        }
        return [(name, "all", f"{metric}@{self.k}", value, value, value, users) for metric, value in values.items()]

    def _summarize(
        self, part: str, names: list[str], per_system: list[dict[str, DoubleArray]]
    ) -> list[tuple[int, tuple[object, ...]]]:
        """Return one row per system and metric; all columns share one bootstrap per slice."""
        columns = [(position, metric) for position, values in enumerate(per_system) for metric in values]
        values = np.stack([per_system[position][metric] for position, metric in columns], axis=1)
        low, high = percentile_interval(bootstrap_means(values, samples=self.samples, seed=self.seed))
        is_defined = ~np.isnan(values)
        out: list[tuple[int, tuple[object, ...]]] = []
        for column, (position, metric) in enumerate(columns):
            users = int(is_defined[:, column].sum())
            mean = float(values[is_defined[:, column], column].mean()) if users else float("nan")
            row = (names[position], part, metric, mean, float(low[column]), float(high[column]), users)
            out.append((position, row))
        return out

    def _compare(
        self, part: str, names: list[str], per_system: list[dict[str, DoubleArray]]
    ) -> list[tuple[object, ...]]:
        """Return one row per metric and other system: the difference to the reference system and its tests."""
        if self.reference in names:
            reference = names.index(self.reference)
        else:
            reference = int(np.argmax([values["ndcg@10"].mean() for values in per_system]))
        others = [position for position in range(len(names)) if position != reference]
        out: list[tuple[object, ...]] = []
        for metric in ("ndcg@10", "hr@10", f"map@{self.k}"):
            reference_values = per_system[reference][metric]
            other_values = np.stack([per_system[position][metric] for position in others], axis=1)
            results = paired_test(reference_values, other_values, samples=self.samples, seed=self.seed)
            for position, result in zip(others, results, strict=True):
                numbers = (result.difference, result.low, result.high, result.p_bootstrap, result.p_signflip)
                out.append((part, metric, names[reference], names[position], *numbers, len(reference_values)))
        return out


def backtest(
    cases: HoldoutCases,
    systems: Mapping[str, System],
    *,
    catalogue: Catalogue,
    train: Interactions,
    k: int = 12,
    samples: int = 1000,
    seed: int = 0,
    content: npt.NDArray[np.floating] | sparse.csr_matrix | None = None,
) -> pl.DataFrame:
    """Evaluate systems on the same cases.

    Args:
        cases: users with their histories and held-out purchases.
        systems: by name, in the order of the table.
        catalogue: as in `Evaluator`.
        train: as in `Evaluator`.
        k: as in `Evaluator`.
        samples: of the bootstrap over users.
        seed: of the bootstrap.
        content: as in `Evaluator`.

    Returns:
        Columns system, slice, metric (`ndcg@10`, `hr@10`, `map@k`, `coverage@k`, ...), value, low, high (95 %), users.
    """
    if not systems:
        return pl.DataFrame(schema=METRIC_SCHEMA)
    return (
        Evaluator(catalogue, train, k=k, samples=samples, seed=seed, content=content).evaluate(cases, systems).metrics
    )


def metric_values(lists: IntArray, targets: Targets, k: int, *, weights: DoubleArray) -> dict[str, DoubleArray]:
    """Compute each metric per user; `weights` (n,) weights the products in the debiased recall."""
    hits, n_targets = metrics.hit_matrix(lists, targets), metrics.target_counts(targets)
    functions: dict[str, Callable[[], DoubleArray]] = {
        "ndcg@10": lambda: metrics.ndcg(hits, n_targets, 10),
        "hr@10": lambda: metrics.hit_rate(hits, 10),
        "mrr@10": lambda: metrics.reciprocal_rank(hits, 10),
        f"map@{k}": lambda: metrics.average_precision(hits, n_targets, k),
        f"recall@{k}": lambda: metrics.recall(hits, n_targets, k),
        f"precision@{k}": lambda: metrics.precision(hits, k),
        f"debiased_recall@{k}": lambda: metrics.debiased_recall(lists, hits, targets, weights, k=k),
    }
    return {name: compute() for name, compute in functions.items()}


def _count_events(train: Interactions, target: int) -> IntArray:
    """Count the events of the target type of each product: (n,)."""
    return train.where(train.event_type == target).counts()
