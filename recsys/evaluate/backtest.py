"""How good lists are on held-back purchases: metrics with intervals, by kinds of users and of products.

In: `Cases`, what was learned from, systems (histories, k) -> (b, k) rows.
Out: a frame, one row a system, slice, metric.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Interactions
from recsys.evaluate import metrics
from recsys.evaluate.baselines import System
from recsys.recommend.cases import Cases

SCHEMA = {
    "system": pl.String,
    "slice": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "users": pl.Int64,
}
Targets = tuple[npt.NDArray[np.int64], ...]


@dataclass(frozen=True)
class Slice:
    """Some of the cases, judged by some of their targets.

    Attributes:
        name: for the table.
        rows: (s,) positions among the cases.
        targets: s arrays, the targets that count.
    """

    name: str
    rows: npt.NDArray[np.int64]
    targets: Targets


def backtest(
    cases: Cases,
    systems: Mapping[str, System],
    *,
    catalogue: Catalogue,
    train: Interactions,
    k: int = 12,
    samples: int = 1000,
    seed: int = 0,
) -> pl.DataFrame:
    """Judge systems on the same cases; all get the same histories and are asked once.

    Args:
        cases: users, what they did, what they bought then.
        systems: by name, in the order of the table.
        catalogue: for pictures and for what may be recommended.
        train: the events the systems learned from, for the slices by product.
        k: length of the lists MAP and coverage are taken of; HR and NDCG are always at 10.
        samples: of the bootstrap over users.
        seed: of the bootstrap.

    Returns:
        Columns system, slice, metric (`ndcg@10`, `hr@10`, `map@k`, `coverage@k`), value, low, high (95 %), users.
    """
    parts = slices(cases, catalogue, train)
    out: list[tuple[str, str, str, float, float, float, int]] = []
    for name, system in systems.items():
        lists = system(cases.histories, max(10, k))
        for part in parts:
            for metric, values in judged(lists[part.rows], part.targets, k).items():
                value = float(values.mean()) if len(values) else float("nan")
                low, high = metrics.interval(values, samples=samples, seed=seed)
                out.append((name, part.name, metric, value, low, high, len(values)))
        listed = np.unique(lists[:, :k])
        share = float((listed >= 0).sum() / max(1, int(catalogue.sellable.sum())))
        out.append((name, "all", f"coverage@{k}", share, share, share, len(cases)))
    return pl.DataFrame(out, schema=SCHEMA, orient="row")


def judged(lists: npt.NDArray[np.int64], targets: Targets, k: int) -> dict[str, metrics.Values]:
    """Each metric of each list."""
    found, size = metrics.hits(lists, targets), metrics.sizes(targets)
    return {
        "ndcg@10": metrics.ndcg(found, size, 10),
        "hr@10": metrics.hr(found, 10),
        f"map@{k}": metrics.average_precision(found, size, k),
    }


def slices(cases: Cases, catalogue: Catalogue, train: Interactions) -> list[Slice]:
    """All cases; by the user's distinct earlier products; by how often a target was bought before; by its picture.

    A slice by product judges the lists by those targets alone, on the users who have one.
    """
    everybody = np.arange(len(cases))
    distinct = np.array([len(np.unique(row[row >= 0])) for row in cases.histories.items], np.int64)
    by_user = {
        "all": np.ones(len(cases), np.bool_),
        "with_history": distinct > 0,
        "no_history": distinct == 0,
        "history_1_2": (distinct >= 1) & (distinct <= 2),
        "history_3_9": (distinct >= 3) & (distinct <= 9),
        "history_10_up": distinct >= 10,
    }
    out = [
        Slice(name, everybody[rows], tuple(cases.targets[row] for row in np.flatnonzero(rows).tolist()))
        for name, rows in by_user.items()
    ]
    counts, pictured = train.counts(), catalogue.pictures.present
    by_product: dict[str, Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]]] = {
        "unseen_products": lambda items: counts[items] == 0,
        "rare_products": lambda items: (counts[items] >= 1) & (counts[items] <= 2),
        "common_products": lambda items: counts[items] >= 3,
        "pictured_products": lambda items: pictured[items],
        "unpictured_products": lambda items: ~pictured[items],
    }
    for name, which in by_product.items():
        kept = [items[which(items)] for items in cases.targets]
        rows = np.array([row for row, items in enumerate(kept) if len(items)], np.int64)
        out.append(Slice(name, rows, tuple(kept[row] for row in rows.tolist())))
    return [part for part in out if len(part.rows)]
