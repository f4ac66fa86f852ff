"""Whether a system saw what is held back: build it on worlds that differ in that part alone, demand the same lists.

In: a way to build a system from a whole shop, held-back part included. Out: the names of the changes it noticed.

In every world the products created since the cut may not be sold: they stand in no list, so that a list changes only
when something was learned from them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Histories, Interactions
from recsys.data.schema import PURCHASE_CODE
from recsys.evaluate.baselines import System
from recsys.evaluate.split import Split
from recsys.evaluate.training_view import TrainingView
from recsys.types import BoolArray, IntArray


@dataclass(frozen=True)
class ShopView:
    """A whole shop, what is held back included.

    Attributes:
        catalogue: n products.
        interactions: all events.
    """

    catalogue: Catalogue
    interactions: Interactions


Build = Callable[[ShopView], System]
AS_IS = "as it is"


def perturbed_views(
    catalogue: Catalogue, interactions: Interactions, held: Split, *, seed: int = 0
) -> dict[str, ShopView]:
    """The shop as it is, and the same with the held-back part changed at random.

    Args:
        catalogue: n products.
        interactions: all events.
        held: what of them is held back.
        seed: of the changes.

    Returns:
        By the name of the change, `AS_IS` first. With a cut: other events (`events`), three times as many (`counts`),
        none (`nothing`), other texts, prices and pictures of the products created since (`texts`, where there are such
        products). Without one: other products for the targets (`targets`).
    """
    g = np.random.default_rng(seed)
    if held.cut is None:
        return _retargeted(catalogue, interactions, held, g)
    past = TrainingView.of(catalogue, held.train, now=held.cut, cut=held.cut)
    unsold = dataclasses.replace(catalogue, sellable=catalogue.sellable & past.known)
    back = held.back
    # products that are not known to have been there may be bought after the cut, in any world
    user, item = interactions.user.copy(), interactions.item.copy()
    user[back] = g.integers(0, interactions.n_users, int(back.sum()))
    item[back] = g.integers(0, interactions.n_items, int(back.sum()))
    out = {
        AS_IS: ShopView(unsold, interactions),
        "events": ShopView(unsold, _with(interactions, user=user, item=item)),
        "counts": ShopView(unsold, _repeated(interactions, np.where(back, 3, 1))),
        "nothing": ShopView(unsold, interactions.where(~back)),
    }
    if not past.known.all():
        out["texts"] = ShopView(_rewritten(unsold, ~past.known, g), interactions)
    return out


def find_leaks(build: Build, changed: Mapping[str, ShopView], histories: Histories, *, k: int = 20) -> list[str]:
    """Names of the changes that change any list: none, if the system saw nothing of what is held back.

    Args:
        build: makes the system from a world; it holds back by itself, as it does when it is judged.
        changed: by `perturbed_views`.
        histories: of b users, before the cut.
        k: length of the lists.
    """
    expected = build(changed[AS_IS])(histories, k)
    return [
        name
        for name, world in changed.items()
        if name != AS_IS and not np.array_equal(build(world)(histories, k), expected)
    ]


def _retargeted(
    catalogue: Catalogue, interactions: Interactions, held: Split, g: np.random.Generator
) -> dict[str, ShopView]:
    """Each target bought a second later, so that it is the newest whatever its row, and of another product.

    What else was held back is left out, so that nothing but the targets differs.
    """
    kept = interactions.where(~held.back | (interactions.event_type == PURCHASE_CODE))
    back = held.back[~held.back | (interactions.event_type == PURCHASE_CODE)]
    time, item = kept.time + back, kept.item.copy()
    for at in np.flatnonzero(back).tolist():
        own = kept.item[kept.starts[kept.user[at]] : kept.starts[kept.user[at] + 1]]
        others = np.setdiff1d(np.arange(kept.n_items), own)
        if len(others):
            item[at] = g.choice(others)
    return {
        AS_IS: ShopView(catalogue, _with(kept, time=time)),
        "targets": ShopView(catalogue, _with(kept, time=time, item=item)),
    }


def _rewritten(catalogue: Catalogue, new: BoolArray, g: np.random.Generator) -> Catalogue:
    """Other words and prices for some products, and no picture: words that nobody else has, and words of all others."""
    frame, which = catalogue.frame, pl.Series(new)
    told = sorted(set(" ".join(value or "" for value in frame[schema.TITLE].to_list()).split())) or ["word"]
    cells = []
    for name, kind in frame.schema.items():
        if name in (schema.PRODUCT_ID, schema.CREATED_AT):
            continue
        if kind == pl.String:
            said = [" ".join(["unheard", *g.choice(told, min(8, len(told)))]) for _ in range(len(frame))]
            cells.append(pl.when(which).then(pl.Series(said)).otherwise(pl.col(name)).alias(name))
        elif name == schema.PRICE:
            cells.append(pl.when(which).then(pl.col(name) * 1000 + 7).otherwise(pl.col(name)).alias(name))
    pictures = catalogue.images
    blind = dataclasses.replace(pictures, rows=np.where(new, -1, pictures.rows))
    return dataclasses.replace(catalogue, frame=frame.with_columns(cells), images=blind)


def _with(
    interactions: Interactions,
    *,
    user: IntArray | None = None,
    item: IntArray | None = None,
    time: IntArray | None = None,
) -> Interactions:
    return Interactions.from_events(
        user=interactions.user if user is None else user,
        item=interactions.item if item is None else item,
        time=interactions.time if time is None else time,
        kind=interactions.event_type,
        weight=interactions.weight,
        n_users=interactions.n_users,
        n_items=interactions.n_items,
    )


def _repeated(interactions: Interactions, times: IntArray) -> Interactions:
    return Interactions.from_events(
        user=np.repeat(interactions.user, times),
        item=np.repeat(interactions.item, times),
        time=np.repeat(interactions.time, times),
        kind=np.repeat(interactions.event_type, times),
        weight=np.repeat(interactions.weight, times),
        n_users=interactions.n_users,
        n_items=interactions.n_items,
    )
