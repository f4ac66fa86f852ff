"""The content of a report as frozen dataclasses; the page is a pure function of them.

In: numbers and texts collected by the pipeline. Out: `ReportContent`, a tree of tuples without tables or models.
Texts come from the shop and may contain anything; products are referenced by their index in `ReportContent.products`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from recsys.report.measurements import Evaluation, Figure, Grid, Training


@dataclass(frozen=True)
class ProductCard:
    """A product shown in the report.

    Attributes:
        id: its id.
        title: its title, or its id if it has none.
        about: brand, category and price, shown below the title.
        picture: row in `ReportContent.pixels`, -1 = no image.
    """

    id: str
    title: str
    about: str
    picture: int


@dataclass(frozen=True)
class DataQuality:
    """Quality of the shop's data.

    Attributes:
        counts: products, users, events and so on by name.
        span: first and last event, UTC seconds; None = no event.
        events: number of events by type.
        missing: column, missing cells, their share.
        rejects: table, reason code, meaning, rows, an example, its source.
    """

    counts: tuple[tuple[str, int], ...]
    span: tuple[int, int] | None
    events: Grid
    missing: Grid
    rejects: Grid


@dataclass(frozen=True)
class ExposureShare:
    """Shares of a set of products in the catalogue, in sales and in list positions, each 0 to 1."""

    name: str
    catalogue: float
    sales: float
    exposure: float


@dataclass(frozen=True)
class CatalogueExposure:
    """Exposure of the products in the published recommendations.

    Attributes:
        listed: products in at least one list.
        sellable: products that may be listed.
        places: positions in all lists.
        gini: of the positions over the sellable products, 0 = all equally often.
        gini_sales: of the purchases.
        tenths: by decile of sales, bestsellers first.
        lorenz: (share of products, share of positions, share of sales), ascending.
        brands: by brand, most shown first.
        prices: by price band, cheapest first.
        most: product and positions of the most shown products.
    """

    listed: int
    sellable: int
    places: int
    gini: float | None
    gini_sales: float | None
    tenths: tuple[ExposureShare, ...]
    lorenz: tuple[tuple[float, float, float], ...]
    brands: tuple[ExposureShare, ...]
    prices: tuple[ExposureShare, ...]
    most: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ClusterCard:
    """A cluster of products.

    Attributes:
        id: its id.
        label: its label.
        size: number of products.
        terms: its characteristic words.
        parent: label of its parent cluster, empty = none.
        products: examples.
    """

    id: int
    label: str
    size: int
    terms: tuple[str, ...]
    parent: str
    products: tuple[int, ...]


@dataclass(frozen=True)
class ClusterMap:
    """Clusters, largest first, and a 2-D map.

    Attributes:
        groups: the clusters shown.
        dots: (product, x, y, cluster id) of the products drawn.
        whole: number of products in total.
        number: number of clusters in total.
    """

    groups: tuple[ClusterCard, ...]
    dots: tuple[tuple[int, float, float, int], ...]
    whole: int
    number: int


@dataclass(frozen=True)
class UserEvent:
    """A user's interaction with a product, in words, and its latest time (UTC seconds)."""

    product: int
    kind: str
    at: int


@dataclass(frozen=True)
class RankedItem:
    """A recommended product."""

    product: int
    reason: str
    score: float


@dataclass(frozen=True)
class UserExample:
    """A user: latest events (newest first), total number of events, and the recommendation list."""

    id: str
    events: int
    history: tuple[UserEvent, ...]
    list: tuple[RankedItem, ...]


@dataclass(frozen=True)
class NeighbourExample:
    """A product and its neighbours: (product, cosine), most similar first."""

    product: int
    near: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class RunChanges:
    """Comparison of this run with the previous one.

    Attributes:
        before: id of the previous run.
        rows: quantity, previous value, current value.
        overlap: mean share of a user's previous list that remained, None = no user is in both runs.
        users: users compared.
    """

    before: str
    rows: Grid
    overlap: float | None
    users: int


@dataclass(frozen=True)
class ListSummary:
    """The published recommendations.

    Attributes:
        run_id: their run.
        published: time of publication, UTC seconds.
        users: users expected to have a list.
        covered: users with a list.
        k: requested length.
        short: number of shorter lists.
        drops: rule, effect, count.
        stages: seconds and memory of the steps of the run.
    """

    run_id: str
    published: int
    users: int
    covered: int
    k: int
    short: int
    drops: Grid
    stages: Grid


@dataclass(frozen=True)
class ReportContent:
    """A complete report.

    For a part that is None or empty, because it does not exist yet, the page names the command that creates it.

    Attributes:
        shop: name of the project.
        at: time of creation, UTC seconds.
        products: all products shown.
        pixels: (m, 3, S, S) uint8 images of these products.
        provenance: name, value; secrets masked.
        settings: settings that differ from their default; secrets masked.
        agreement: how often neighbours share an attribute, by system; `slice` names the attribute.
    """

    shop: str
    at: int
    products: tuple[ProductCard, ...]
    quality: DataQuality
    training: Training | None
    agreement: tuple[Figure, ...]
    evaluation: Evaluation | None
    lists: ListSummary | None
    exposure: CatalogueExposure | None
    clusters: ClusterMap | None
    people: tuple[UserExample, ...]
    explorer: tuple[NeighbourExample, ...]
    changes: RunChanges | None
    provenance: Grid
    settings: Grid
    pixels: npt.NDArray[np.uint8] = field(repr=False)
