"""Small shops and a stand-in for the encoder, for the tests of this room and of evaluate.

In: a seed and sizes. Out: catalogue, interactions, vectors, and a `StubModel` that needs no training.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from recsys.config import RecommendSettings, RuleSettings
from recsys.data.catalogue import Catalogue, Images
from recsys.data.id_map import IdMap
from recsys.data.interactions import Histories, Interactions
from recsys.recommend.ranking import linear as rank
from recsys.recommend.recommender import Recommender

DAY = 86_400
START = 1_600_000_000 - 1_600_000_000 % DAY
WORDS = "red blue green black wool cotton shirt dress shoe hat coat long short summer winter".split()


def catalogue(n, *, seed=0, sellable=None, titles=None):
    """n products with words and one attribute; ids are in the order of their bytes."""
    g = np.random.default_rng([n, seed])
    ids = [f"p{row:04d}" for row in range(n)]
    names = titles or [" ".join(g.choice(WORDS, 3, replace=False)) for _ in ids]
    colours = g.choice(WORDS[:4], n).tolist()
    frame = pl.DataFrame({"product_id": ids, "title": names, "attributes.colour": colours})
    flags = np.ones(n, bool) if sellable is None else np.array(sellable, bool)
    return Catalogue(IdMap(ids), frame, flags, Images.empty(n))


def vectors(n, d=8, *, seed=0):
    """Unit vectors: (n, d) float32."""
    out = np.random.default_rng([n, d, seed]).normal(size=(n, d))
    return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)


def events(rows, *, n_users, n_items):
    """Interactions of (user, item, day) or (user, item, day, kind) rows."""
    full = [(*row, 0)[:4] for row in rows]
    user, item, day, kind = (np.array(column, np.int64) for column in zip(*full, strict=True))
    return Interactions.from_events(
        user=user, item=item, time=START + day * DAY, event_type=kind, n_users=n_users, n_items=n_items
    )


def interactions(*, users=60, items=40, each=8, days=30, seed=0, kinds=(0,)):
    """Users of two tastes (even and odd products), popular products more often; every fourth user has nothing."""
    g = np.random.default_rng([users, items, seed])
    rows = []
    for user in range(users):
        if user % 4 == 3:
            continue
        own = np.arange(user % 2, items, 2)
        chance = 1 / np.arange(1, len(own) + 1)
        for item in g.choice(own, int(g.integers(1, each + 1)), p=chance / chance.sum()):
            rows.append((user, int(item), int(g.integers(days)), int(g.choice(kinds))))
    return events(rows, n_users=users, n_items=items)


def histories(lists, *, kinds=None, now=START):
    """Histories of lists of items, a day apart, newest last; the users are unknown to the data."""
    width = max(1, max(map(len, lists), default=1))
    items = np.full((len(lists), width), -1, np.int64)
    times, codes = np.zeros_like(items), np.zeros(items.shape, np.int8)
    for row, own in enumerate(lists):
        if own:
            items[row, width - len(own) :] = own
            times[row, width - len(own) :] = now - DAY * np.arange(len(own), 0, -1)
            if kinds is not None:
                codes[row, width - len(own) :] = kinds[row]
    return Histories(np.full(len(lists), -1, np.int64), items, times, codes)


class StubModel:
    """A user is the mean of the products of the history; an answer that depends on nothing but the history."""

    user_encoder = "the mean"

    def item_vectors(self, content, ids):
        assert len(content) == len(ids)
        return content

    def user_vectors(self, histories, items, *, now):
        assert now > 0
        real = histories.mask[..., None]
        return ((items[histories.items] * real).sum(axis=1) / np.maximum(real.sum(axis=1), 1)).astype(np.float32)


def recommender(
    *, n=40, known=None, seen="repurchase", sellable=None, blend=None, sources=None, titles=None, **settings
):
    """A recommender with the stub model and the blend without data, unless given."""
    names = list(sources or RecommendSettings().sources)
    held = known if known is not None else interactions(items=n)
    return Recommender.build(
        catalogue(n, sellable=sellable, titles=titles),
        held,
        model=StubModel(),
        content=vectors(n),
        ranker=blend or rank.equal_weights(names),
        recommend=RecommendSettings(sources=names, **settings),
        rules=RuleSettings(seen=seen),
        users=IdMap(f"u{row:04d}" for row in range(held.n_users)),
    )
