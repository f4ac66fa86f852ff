"""What groups are worth against labels nobody saw, and how many products keep their group's id from night to night.

In: groups, labels, vectors. Out: figures by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from clusters_shop import Grouped
from representation_parts import Labels
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import normalized_mutual_info_score

from recsys.config import ClusterSettings
from recsys.data.catalogue import Catalogue, Images
from recsys.data.id_map import IdMap
from recsys.types import FloatArray, IntArray
from recsys.vectors.clustering.clusters import Clustering, cluster_products, method_key
from recsys.vectors.clustering.id_matching import PreviousClusters
from recsys.vectors.embeddings.table import EmbeddingTable

PIXELS = 128
CHANGED = 0.05


def worth(group: IntArray, labels: Labels) -> dict[str, float]:
    """NMI (arithmetic mean) and purity by label; products in no group are one group more, which costs both.

    Purity is the share of products that bear the commonest label of their group.
    """
    out: dict[str, float] = {}
    for name, truth in labels.items():
        code = np.unique(truth.astype(str), return_inverse=True)[1]
        own = np.unique(group, return_inverse=True)[1]
        both = np.zeros((own.max() + 1, code.max() + 1))
        np.add.at(both, (own, code), 1)
        out[f"nmi_{name}"] = float(normalized_mutual_info_score(code, own))
        out[f"purity_{name}"] = float(both.max(axis=1).sum() / len(own))
    return out


def made(
    catalogue: Catalogue,
    vectors: FloatArray,
    settings: ClusterSettings,
    *,
    seed: int,
    last: PreviousClusters | None = None,
) -> Clustering:
    """Groups as `recsys cluster` makes them."""
    table = EmbeddingTable(catalogue.ids, vectors.copy(), np.zeros(len(vectors), np.uint64), "given")
    return cluster_products(table, catalogue, settings, seed=seed, previous=last)


def others(shop: Grouped) -> Iterator[tuple[str, Callable[[int, int], IntArray]]]:
    """k-means of scikit-learn on words counted and on pixels compressed: a name, and groups by number and seed."""
    words = TfidfVectorizer().fit_transform(shop.texts)
    yield "tf-idf k-means", lambda number, seed: KMeans(number, n_init=1, random_state=seed).fit(words).labels_
    pixels = shop.small.take(np.arange(len(shop.catalogue))).reshape(len(shop.catalogue), -1).astype(np.float32) / 255
    length = min(PIXELS, *(side - 1 for side in pixels.shape))
    short = PCA(length, svd_solver="randomized", random_state=0).fit_transform(pixels)
    yield "pixel k-means", lambda number, seed: KMeans(number, n_init=1, random_state=seed).fit(short).labels_


def kept(
    shop: Grouped, settings: ClusterSettings, *, seed: int, how: str, anew: bool = False
) -> tuple[float, Clustering]:
    """Share of products with the same id after a night in which 5 % of them changed, and the groups of that night.

    Args:
        shop: the products.
        settings: how they are grouped.
        seed: of the draw of what changes, and of the grouping.
        how: "replaced" = 5 % go and as many others come; "altered" = 5 % become other products (they have each other's
            vectors); the products that did not change are asked about.
        anew: forget how the groups of the first night were made, so that nothing is kept but matched ids.
    """
    vectors, n = shop.views["all"], len(shop.catalogue)
    drawn = np.random.default_rng(seed).permutation(n)
    count = max(1, round(CHANGED * n))
    if how == "replaced":
        first, second = np.sort(drawn[count:]), np.sort(np.concatenate([drawn[:count], drawn[2 * count :]]))
        then, now = vectors[first], vectors[second]
        asked_about = np.sort(drawn[2 * count :])
    else:
        first = second = np.arange(n)
        changed = drawn[:count]
        then, now = vectors, vectors.copy()
        now[changed] = vectors[np.roll(changed, 1)]
        asked_about = np.sort(drawn[count:])
    one = made(_some(shop.catalogue, first), then, settings, seed=seed)
    names = dict(zip(one.frame["cluster_id"].to_list(), one.frame["label"].to_list(), strict=True))
    last = PreviousClusters(
        one.members(_some(shop.catalogue, first).ids), names, "" if anew else method_key(settings), one.next_id
    )
    if anew:
        last = PreviousClusters(last.members, names, "another way", one.next_id)
    two = made(_some(shop.catalogue, second), now, settings, seed=seed + 1, last=last)
    before, after = (np.full(n, -9, np.int64) for _ in range(2))
    before[first], after[second] = one.cluster_id, two.cluster_id
    return float((before[asked_about] == after[asked_about]).mean()), two


def _some(catalogue: Catalogue, rows: IntArray) -> Catalogue:
    return Catalogue(
        IdMap(catalogue.ids.ids(rows)),
        catalogue.frame[rows.tolist()],
        catalogue.sellable[rows],
        Images.empty(len(rows)),
    )


def telling(shop: Grouped, groups: Clustering, count: int) -> list[str]:
    """Lines to read: the label of a group, its size, and which article types it holds; spread over all sizes."""
    frame = groups.frame.filter(groups.frame["cluster_id"] >= 0).sort("size", "cluster_id", descending=[True, False])
    rows = np.unique(np.linspace(0, frame.height - 1, min(count, frame.height)).round().astype(int))
    out = []
    for one in frame[rows.tolist()].iter_rows(named=True):
        held = shop.labels["articleType"][groups.cluster_id == one["cluster_id"]].astype(str)
        names, counts = np.unique(held, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:3]
        said = ", ".join(f"{names[at]} {counts[at] / len(held):.0%}" for at in order)
        out.append(f"{one['size']:5d}  {one['label']:60s}  {said}")
    return out
