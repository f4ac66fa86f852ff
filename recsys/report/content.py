"""All that a report tells, as plain frozen data: the page is a function of this and of nothing else.

In: numbers and texts that the pipeline has gathered. Out: `ReportContent`, a tree of tuples that knows no table and no model.
Texts are data of the shop and may hold anything; a product is named by its place in `ReportContent.products`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from recsys.report.measurements import Evaluation, Figure, Grid, Training


@dataclass(frozen=True)
class ProductCard:
    """A product that is shown somewhere.

    Attributes:
        id: its id.
        title: its title, the id where it has none.
        about: brand, category, price: what stands under the title.
        picture: row in `ReportContent.pixels`, -1 = none.
    """

    id: str
    title: str
    about: str
    picture: int


@dataclass(frozen=True)
class DataQuality:
    """What the shop's data is like.

    Attributes:
        counts: products, users, events and so on by name.
        span: first and last event, UTC seconds; None = there is none.
        events: how many of each type.
        missing: column, missing cells, their share.
        rejects: table, code, what it means, rows, an example, its source.
    """

    counts: tuple[tuple[str, int], ...]
    span: tuple[int, int] | None
    events: Grid
    missing: Grid
    rejects: Grid


@dataclass(frozen=True)
class ExposureShare:
    """How much of catalogue, sales and places in lists one group of products has, each 0 to 1."""

    name: str
    catalogue: float
    sales: float
    exposure: float


@dataclass(frozen=True)
class CatalogueExposure:
    """Which products the published lists show.

    Attributes:
        listed: products that stand in a list.
        sellable: products that might.
        places: places in all lists.
        gini: of the places over the sellable products, 0 = all as often.
        gini_sales: the same of the purchases.
        tenths: the products by tenths of their sales, the best-selling first.
        lorenz: (share of products, share of places, share of sales), least first.
        brands: by brand, the most shown first.
        prices: by price band, the cheapest first.
        most: product and places of those shown most.
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
    """A group of products; `parent` names the group of groups, empty = none; `products` are shown on its sheet."""

    id: int
    label: str
    size: int
    terms: tuple[str, ...]
    parent: str
    products: tuple[int, ...]


@dataclass(frozen=True)
class ClusterMap:
    """Groups, the largest first, and a map: (product, x, y, id of its group), of `whole` products in all."""

    groups: tuple[ClusterCard, ...]
    dots: tuple[tuple[int, float, float, int], ...]
    whole: int
    number: int


@dataclass(frozen=True)
class UserEvent:
    """What a user did with a product, in words, and when last (UTC seconds)."""

    product: int
    kind: str
    at: int


@dataclass(frozen=True)
class RankedItem:
    """A place in a list."""

    product: int
    reason: str
    score: float


@dataclass(frozen=True)
class UserExample:
    """A user: the newest events, the newest first, how many there are in all, and the list."""

    id: str
    events: int
    history: tuple[UserEvent, ...]
    list: tuple[RankedItem, ...]


@dataclass(frozen=True)
class NeighbourExample:
    """A product and what is like it: (product, cosine), the most alike first."""

    product: int
    near: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class RunChanges:
    """This run beside the one before.

    Attributes:
        before: id of the earlier run.
        rows: what, before, now.
        overlap: mean share of a user's earlier list that stayed, None = no user is in both.
        users: users compared.
    """

    before: str
    rows: Grid
    overlap: float | None
    users: int


@dataclass(frozen=True)
class ListSummary:
    """The published lists.

    Attributes:
        run_id: their run.
        published: when, UTC seconds.
        users: that should have one.
        covered: that do.
        k: length wished for.
        short: lists that are shorter.
        drops: rule, what, how often.
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
    """A whole report; what is None or empty does not exist yet, and the page says which command makes it.

    Attributes:
        shop: name of the project.
        at: when it was made, UTC seconds.
        products: those shown anywhere.
        pixels: (m, 3, S, S) uint8 pictures of theirs.
        provenance: what, value; secrets masked.
        settings: those that are not the default; secrets masked.
        agreement: how often neighbours share an attribute, by system: `slice` names the attribute.
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
