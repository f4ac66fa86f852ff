"""How good lists are on held-back purchases: metrics with intervals by slices, and systems compared in pairs.

In: `HoldoutCases`, what was learned from, systems (histories, k) -> (b, k) rows. Out: a frame, one row a system, slice,
metric; a frame of differences.
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
from recsys.evaluate import beyond_accuracy as shape
from recsys.evaluate import metrics
from recsys.evaluate import sampled_lists as candidates
from recsys.evaluate import significance as intervals
from recsys.evaluate.baselines import System, purchases
from recsys.evaluate.slices import NEW_PURCHASES, Slice, Targets, purchased_products, slices
from recsys.types import DoubleArray, IntArray

SCHEMA = {
    "system": pl.String,
    "slice": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "users": pl.Int64,
}
PAIRED_SCHEMA = {
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
_PAIRED = ("all", NEW_PURCHASES)


@dataclass(frozen=True)
class EvaluationResult:
    """What came out.

    Attributes:
        frame: columns of SCHEMA.
        paired: columns of PAIRED_SCHEMA; NDCG, HR and MAP of one system minus those of each other one.
    """

    frame: pl.DataFrame
    paired: pl.DataFrame


@dataclass(frozen=True)
class _Lists:
    """One system's lists: as they are, without what was bought before, among drawn negatives."""

    whole: IntArray
    unbought: IntArray
    drawn: IntArray | None

    def judged_by(self, part: Slice) -> IntArray:
        return (self.unbought if part.unbought else self.whole)[part.rows]


@dataclass(frozen=True)
class Evaluator:
    """How lists are judged.

    Attributes:
        catalogue: for pictures, prices, categories and for what may be recommended.
        train: the events the systems learned from, for slices and metrics by how often a product was bought.
        k: length of the lists; HR, NDCG and MRR are always at 10.
        samples: of the bootstrap over users; the sign flips are ten times as many.
        seed: of bootstrap, sign flips and negatives.
        cut: UTC seconds from which on the purchases are held back, if there is one moment for all.
        sampled: draw so many negatives a user, too, and rank the targets among them; 0 = do not.
        content: (n, d) rows of unit length, for diversity; left out without.
        first: the system the others are compared with; that with the best NDCG when it is not there.
    """

    catalogue: Catalogue
    train: Interactions
    k: int = 12
    samples: int = 1000
    seed: int = 0
    cut: int | None = None
    sampled: int = 0
    content: npt.NDArray[np.floating] | sparse.csr_matrix | None = field(default=None, repr=False)
    first: str = "recsys"

    def judge(self, cases: HoldoutCases, systems: Mapping[str, System]) -> EvaluationResult:
        """Judge one system or more on the same cases; all get the same histories."""
        own = purchased_products(cases, self.train)
        lists = {name: self._asked(cases, system, own) for name, system in systems.items()}
        names = list(systems)
        worth = metrics.rarity(_purchases(self.train))
        rows: list[tuple[int, tuple[object, ...]]] = []
        apart: list[tuple[object, ...]] = []
        for part in slices(cases, self.catalogue, self.train, cut=self.cut):
            measured = [self._measured(lists[name], part, worth) for name in names]
            rows += self._figures(part.name, names, measured)
            if part.name in _PAIRED and len(names) > 1:
                apart += self._differences(part.name, names, measured)
        looks = [self._shape(cases, lists[name].whole) for name in names]
        rows += self._figures("all", names, looks)
        for place, name in enumerate(names):
            rows += [(place, row) for row in self._together(name, lists[name].whole, len(cases))]
        ordered = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
        return EvaluationResult(
            pl.DataFrame(ordered, schema=SCHEMA, orient="row"),
            pl.DataFrame(apart, schema=PAIRED_SCHEMA, orient="row"),
        )

    def _asked(self, cases: HoldoutCases, system: System, own: Targets) -> _Lists:
        whole = system(cases.histories, max(10, self.k))
        drawn = None
        if self.sampled:
            sellable = self.catalogue.sellable
            some = candidates.sample_negatives(cases, own, sellable, number=self.sampled, seed=self.seed)
            drawn = candidates.rank_among_negatives(system, cases, some, n=len(sellable), k=max(10, self.k))
        return _Lists(whole, candidates.drop_purchased(system, cases, whole, own), drawn)

    def _measured(self, lists: _Lists, part: Slice, worth: DoubleArray) -> dict[str, DoubleArray]:
        out = metric_values(lists.judged_by(part), part.targets, self.k, worth=worth)
        if lists.drawn is not None and not part.unbought:
            found = metric_values(lists.drawn[part.rows], part.targets, self.k, worth=worth)
            out |= {f"{metric} (sampled {self.sampled})": values for metric, values in found.items()}
        return out

    def _shape(self, cases: HoldoutCases, lists: IntArray) -> dict[str, DoubleArray]:
        shown, given = lists[:, : self.k], cases.histories.items
        out = {"novelty": shape.novelty(shown, _purchases(self.train))}
        if self.content is not None:
            out["diversity"] = shape.diversity(shown, self.content)
        out["category_calibration"] = shape.calibration(shown, given, shape.categories(self.catalogue))
        out["price_calibration"] = shape.calibration(shown, given, shape.prices(self.catalogue))
        return {f"{name}@{self.k}": values for name, values in out.items()}

    def _together(self, name: str, lists: IntArray, users: int) -> list[tuple[object, ...]]:
        shown, sellable = lists[:, : self.k], self.catalogue.sellable
        found = {"coverage": shape.coverage(shown, sellable), "gini": shape.gini(shown, sellable)}
        return [(name, "all", f"{kind}@{self.k}", value, value, value, users) for kind, value in found.items()]

    def _figures(
        self, part: str, names: list[str], measured: list[dict[str, DoubleArray]]
    ) -> list[tuple[int, tuple[object, ...]]]:
        """One row a system and metric; all columns are resampled together, so that it is done once a slice."""
        columns = [(place, metric) for place, found in enumerate(measured) for metric in found]
        values = np.stack([measured[place][metric] for place, metric in columns], axis=1)
        low, high = intervals.percentile_interval(
            intervals.bootstrap_means(values, samples=self.samples, seed=self.seed)
        )
        held = ~np.isnan(values)
        out: list[tuple[int, tuple[object, ...]]] = []
        for at, (place, metric) in enumerate(columns):
            users = int(held[:, at].sum())
            mean = float(values[held[:, at], at].mean()) if users else float("nan")
            out.append((place, (names[place], part, metric, mean, float(low[at]), float(high[at]), users)))
        return out

    def _differences(
        self, part: str, names: list[str], measured: list[dict[str, DoubleArray]]
    ) -> list[tuple[object, ...]]:
        if self.first in names:
            one = names.index(self.first)
        else:
            one = int(np.argmax([found["ndcg@10"].mean() for found in measured]))
        others = [place for place in range(len(names)) if place != one]
        out: list[tuple[object, ...]] = []
        for metric in ("ndcg@10", "hr@10", f"map@{self.k}"):
            mine = measured[one][metric]
            theirs = np.stack([measured[place][metric] for place in others], axis=1)
            for place, found in zip(
                others, intervals.paired_test(mine, theirs, samples=self.samples, seed=self.seed), strict=True
            ):
                figures = (found.difference, found.low, found.high, found.p_bootstrap, found.p_signflip)
                out.append((part, metric, names[one], names[place], *figures, len(mine)))
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
    """Judge systems on the same cases.

    Args:
        cases: users, what they did, what they bought then.
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
        return pl.DataFrame(schema=SCHEMA)
    return Evaluator(catalogue, train, k=k, samples=samples, seed=seed, content=content).judge(cases, systems).frame


def metric_values(lists: IntArray, targets: Targets, k: int, *, worth: DoubleArray) -> dict[str, DoubleArray]:
    """Each metric of each list; `worth` (n,) is what finding a product counts in the debiased recall."""
    found, size = metrics.hits(lists, targets), metrics.sizes(targets)
    of: dict[str, Callable[[], DoubleArray]] = {
        "ndcg@10": lambda: metrics.ndcg(found, size, 10),
        "hr@10": lambda: metrics.hr(found, 10),
        "mrr@10": lambda: metrics.reciprocal_rank(found, 10),
        f"map@{k}": lambda: metrics.average_precision(found, size, k),
        f"recall@{k}": lambda: metrics.recall(found, size, k),
        f"precision@{k}": lambda: metrics.precision(found, k),
        f"debiased_recall@{k}": lambda: metrics.debiased_recall(lists, found, targets, worth, k=k),
    }
    return {name: values() for name, values in of.items()}


def _purchases(train: Interactions) -> IntArray:
    """Purchases of each product: (n,)."""
    return purchases(train).counts()
