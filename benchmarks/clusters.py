"""Groups of products without a label: what they know of types, beside k-means of words and of pixels; ids that stay.

In: a catalogue and its pictures by path. Out: a table; with --json one line of JSON at the end.

    python benchmarks/clusters.py --products styles.parquet --images images_160px.zip --pictured-only --epochs 16

Grouped are the products with a picture. The encoder is trained here unless vectors are given; article type, colour and
gender, and the categories that give them away, are kept out of all it sees (titles do speak of them). Slices say how
many groups: "as types" = as many as there are article types; "chosen" = the number ours chooses by silhouette, for the
others too; "as hdbscan" = as many as HDBSCAN found, where the products it leaves in no group count as one. Low and high
are the extremes of the seeds. `ids_kept` is the share of the unchanged products that have the same id after a night in
which 5 % were replaced or altered; "made anew" groups afresh and only matches ids.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from clusters_measures import kept, made, others, telling, worth
from clusters_shop import Grouped, grouped
from representation_training import add_training
from telling import answered, machine, say

from recsys.config import ClusterSettings
from recsys.types import IntArray

METHODS = ("kmeans", "agglomerative", "hdbscan")
Figures = dict[tuple[str, str, str], list[float]]
"""By system, metric and slice: a value for each seed."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--products", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--embeddings", type=Path, help="folder of an embedding table to group instead of training")
    parser.add_argument("--vectors", type=Path, help="parquet (product_id, vector) to group instead of training")
    parser.add_argument("--pictured-only", action="store_true", help="train on products with a picture alone")
    parser.add_argument("--only", choices=["recsys"], help="leave out what it is compared with")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the grouping; the training has one")
    parser.add_argument("--nights", type=int, default=5, help="seeds of the nights with changes")
    parser.add_argument("--labels", type=int, default=20, help="labels printed to be read")
    add_training(parser)
    return parser.parse_args()


def main() -> int:
    return answered("clusters", measured, arguments())


def measured(asked: argparse.Namespace, work: Path) -> int:
    shop = grouped(asked, work)
    types = len(np.unique(shop.labels["articleType"].astype(str)))
    say(f"{len(shop.catalogue):,} products with a picture, {types} article types")
    found: Figures = defaultdict(list)
    sizes = ours(shop, asked, found, types=types)
    if not asked.only:
        for name, method in others(shop):
            for place, number in sizes.items():
                say(f"{name}, {number} groups")
                for seed in range(asked.seeds):
                    started = time.perf_counter()
                    group = method(number, seed)
                    noted(found, (name, place), group, shop, seconds=time.perf_counter() - started)
    for method in METHODS:
        nights(shop, method, asked, found)
    rows = [
        {
            "system": system,
            "metric": metric,
            "value": float(np.mean(values)),
            "low": min(values),
            "high": max(values),
            "slice": place,
        }
        for (system, metric, place), values in found.items()
    ]
    tell(rows)
    if asked.json:
        facts = {"benchmark": "clusters", "quick": asked.quick, "products": len(shop.catalogue), "types": types}
        print(
            json.dumps({**facts, "rows": rows, "ratios": ratios(rows), "learned": shop.learned, "machine": machine()})
        )
    return 0


def ours(shop: Grouped, asked: argparse.Namespace, found: Figures, *, types: int) -> dict[str, int]:
    """Each method of ours at each number of groups; the numbers, for the others."""
    sizes = {"as types": types}
    named = {"recsys": "kmeans", "recsys agglomerative": "agglomerative"}
    for seed in range(asked.seeds):
        for name, method in named.items():
            for place, number in (("chosen", 0), ("as types", types)):
                settings = ClusterSettings(method=method, number=number)
                started = time.perf_counter()
                groups = made(shop.catalogue, shop.views["all"], settings, seed=seed)
                noted(found, (name, place), groups.cluster_id, shop, seconds=time.perf_counter() - started)
                if (name, place, seed) == ("recsys", "chosen", 0):
                    sizes["chosen"] = groups.n_clusters
                    print(f"labels of {asked.labels} of {groups.n_clusters} groups, sizes, article types in them:")
                    print("\n".join(telling(shop, groups, asked.labels)), end="\n\n")
        started = time.perf_counter()
        dense = made(shop.catalogue, shop.views["all"], ClusterSettings(method="hdbscan"), seed=seed)
        spent = time.perf_counter() - started
        noted(found, ("recsys hdbscan", "as hdbscan"), dense.cluster_id, shop, seconds=spent)
        sizes.setdefault("as hdbscan", max(1, min(len(np.unique(dense.cluster_id)), len(shop.catalogue))))
    for place, number in sizes.items():
        for view in ("all", "text", "image"):
            if view not in shop.views or (view, place) in (("all", "as types"), ("all", "chosen")):
                continue
            for seed in range(asked.seeds):
                settings = ClusterSettings(number=number)
                groups = made(shop.catalogue, shop.views[view], settings, seed=seed)
                noted(found, ("recsys" if view == "all" else f"recsys, {view} alone", place), groups.cluster_id, shop)
    return sizes


def noted(
    found: Figures, where: tuple[str, str], group: IntArray, shop: Grouped, *, seconds: float | None = None
) -> None:
    """Keep the figures of one grouping; `seconds` = how long it took, with labels and all where it is ours."""
    system, place = where
    values = worth(group, shop.labels)
    values |= {"clusters": float(len(np.unique(group[group >= 0]))), "grouped": float((group >= 0).mean())}
    values |= {} if seconds is None else {"seconds": seconds}
    for metric, value in values.items():
        found[system, metric, place].append(value)


def nights(shop: Grouped, method: str, asked: argparse.Namespace, found: Figures) -> None:
    """Ids after a night with changes."""
    settings = ClusterSettings(method=method)
    name = "recsys" if method == "kmeans" else f"recsys {method}"
    for how in ("replaced", "altered"):
        for seed in range(asked.nights):
            say(f"{name}: 5 % {how}, seed {seed}")
            found[name, "ids_kept", f"5 % {how}"].append(kept(shop, settings, seed=seed, how=how)[0])
            if how == "replaced":
                share = kept(shop, settings, seed=seed, how=how, anew=True)[0]
                found[f"{name}, made anew", "ids_kept", f"5 % {how}"].append(share)


def tell(rows: list[dict[str, Any]]) -> None:
    """All figures, a line each system and slice."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    held = {(row["system"], row["slice"], row["metric"]): row["value"] for row in rows}
    print(" " * 42 + "".join(f"{metric:>20s}" for metric in metrics))
    for system, place in dict.fromkeys((row["system"], row["slice"]) for row in rows):
        cells = [held.get((system, place, metric)) for metric in metrics]
        shown = "".join(f"{'' if cell is None else f'{cell:.3f}':>20s}" for cell in cells)
        print(f"{system:30s}{place:12s}{shown}")


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Ours to each of the others at the same number of groups."""
    own = {(row["metric"], row["slice"]): row["value"] for row in rows if row["system"] == "recsys"}
    return {
        f"{row['metric']} {row['slice']} recsys / {row['system']}": round(own[key] / row["value"], 4)
        for row in rows
        if not row["system"].startswith("recsys") and (key := (row["metric"], row["slice"])) in own and row["value"]
    }


if __name__ == "__main__":
    sys.exit(main())
