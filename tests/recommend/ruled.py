"""A shop with categories, brands, prices and dates, for the tests of rules, diversity and audience.

In: rules and settings by name. Out: a recommender with the stub model.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from recsys.config import RecommendSettings, RuleSettings
from recsys.data.catalogue import Catalogue, Images
from recsys.data.id_map import IdMap
from recsys.recommend.ranking import linear as rank
from recsys.recommend.recommender import Recommender
from tests.recommend.shops import DAY, START, StubModel, interactions, vectors

N = 40
CATEGORIES = ["shoes", "hats", "coats", None]
BRANDS = ["Aro", "Bex", "Cim"]


def goods(n=N, *, sellable=None, **columns):
    """n products: four categories (one of them none), three brands, prices 10, 11, ...; columns may be replaced."""
    ids = [f"p{row:04d}" for row in range(n)]
    held = {
        "title": [f"thing {row}" for row in range(n)],
        "category": pl.Series([CATEGORIES[row % 4] for row in range(n)], dtype=pl.String),
        "brand": [BRANDS[row % 3] for row in range(n)],
        "price": pl.Series([10.0 + row for row in range(n)], dtype=pl.Float64),
        "created_at": pl.Series([None] * n, dtype=pl.Int64),
        "attributes.colour": [("red", "blue")[row % 2] for row in range(n)],
        **columns,
    }
    flags = np.ones(n, bool) if sellable is None else np.array(sellable, bool)
    return Catalogue(IdMap(ids), pl.DataFrame({"product_id": ids, **held}), flags, Images.empty(n))


def shop(*, known=None, catalogue=None, rules=None, now=None, content=None, **settings):
    """A recommender under some rules and settings."""
    catalogue = catalogue or goods()
    held = interactions(items=len(catalogue)) if known is None else known
    chosen = RecommendSettings(**settings)
    return Recommender.build(
        catalogue,
        held,
        model=StubModel(),
        content=vectors(len(catalogue)) if content is None else content,
        ranker=rank.equal_weights(chosen.sources),
        recommend=chosen,
        rules=RuleSettings(**(rules or {})),
        users=IdMap(f"u{row:04d}" for row in range(held.n_users)),
        now=now,
    )


def whole(recommender, k=12):
    """All lists of the shop, and the histories they are for."""
    histories = recommender.histories(np.arange(recommender.interactions.n_users))
    return recommender.recommend_batch(histories, k), histories


__all__ = ["DAY", "START", "goods", "shop", "whole"]
