"""Detect leakage: rebuild a system on shops that differ only in the holdout and compare its lists.

In: a function that builds a system from a complete shop, holdout included. Out: names of the changes that alter a list.

Products created at or after the cutoff are hidden in every shop: they appear in no list, so that a list changes only
if something was learned from them.
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
from recsys.data.selection import listed_without_events
from recsys.evaluate.baselines import System
from recsys.evaluate.slices import creation_times
from recsys.evaluate.split import Split
from recsys.evaluate.training_view import TrainingView
from recsys.types import BoolArray, IntArray


@dataclass(frozen=True)
class ShopView:
    """A complete shop, holdout included.

    Attributes:
        catalogue: n products, those included that no event and no attribute makes part of the catalogue.
        interactions: all events.
    """

    catalogue: Catalogue
    interactions: Interactions

    def catalogue_mask(self, catalogue_setting: str) -> BoolArray:
        """Mark the products that the loader selects from this shop by `data.catalogue`: (n,) bool."""
        has_event = self.interactions.has_events()
        return np.asarray(has_event | listed_without_events(self.catalogue, catalogue_setting), np.bool_)


SystemBuilder = Callable[[ShopView], System]
UNCHANGED, TOGETHER = "unchanged", "all together"


def perturb_holdout(
    catalogue: Catalogue, interactions: Interactions, split: Split, *, seed: int = 0, target: int = PURCHASE_CODE
) -> dict[str, ShopView]:
    """Return the shop unchanged, and copies whose holdout is changed at random.

    Args:
        catalogue: n products.
        interactions: all events.
        split: the split of these events.
        seed: of the changes.
        target: code of the event type of the targets.

    Returns:
        By the name of the change, `UNCHANGED` first. With a cutoff: other events (`events`), three times as many
        (`counts`), none (`nothing`); other texts, prices and images of the products created since (`texts`), other
        products of those without an earlier event bought (`catalogue`), other products available (`availability`), if
        there are such products; and everything at once (`TOGETHER`). Without one: other products as targets
        (`targets`).
    """
    g = np.random.default_rng(seed)
    if split.cutoff is None:
        return _replace_targets(catalogue, interactions, split, g, target)
    past = TrainingView.from_catalogue(catalogue, split.train, now=split.cutoff, cutoff=split.cutoff)
    after = interactions.where(split.held_out)
    before = interactions.as_of(split.cutoff)
    user = g.integers(0, interactions.n_users, len(after))
    item = g.integers(0, interactions.n_items, len(after))
    other_events = _join(before, _replace_columns(after, user=user, item=item))
    out = {
        UNCHANGED: ShopView(catalogue, interactions),
        "events": ShopView(catalogue, other_events),
        "counts": ShopView(catalogue, _join(before, after, after, after)),
        "nothing": ShopView(catalogue, before),
    }
    other_catalogue, other_available = catalogue, _replace_availability(catalogue, g)
    if not past.known.all():
        other_catalogue = _replace_content(catalogue, ~past.known, g)
        out["texts"] = ShopView(other_catalogue, interactions)
    never_bought = np.flatnonzero(~split.train.has_events())
    if len(never_bought) > 1:
        out["catalogue"] = ShopView(catalogue, _join(before, _exchange_products(after, never_bought)))
    if not np.array_equal(other_available, catalogue.sellable):
        out["availability"] = ShopView(_set_availability(catalogue, other_available), interactions)
    out[TOGETHER] = ShopView(_set_availability(other_catalogue, other_available), other_events)
    return out


def visible_products(catalogue: Catalogue, split: Split) -> BoolArray:
    """Mark the products that a list may show in the comparison, all but those created since the cutoff: (n,) bool."""
    if split.cutoff is None:
        return np.ones(len(catalogue), np.bool_)
    return ~(creation_times(catalogue) >= split.cutoff) | split.train.has_events()


def find_leaks(build: SystemBuilder, views: Mapping[str, ShopView], histories: Histories, *, k: int = 20) -> list[str]:
    """Return the names of the changes that alter any list: none if the system uses nothing of the holdout.

    Args:
        build: creates the system from a shop; it splits off the holdout itself, as it does in an evaluation.
        views: by `perturb_holdout`.
        histories: of b users, before the cutoff.
        k: length of the lists.
    """
    expected = build(views[UNCHANGED])(histories, k)
    return [
        name
        for name, view in views.items()
        if name != UNCHANGED and not np.array_equal(build(view)(histories, k), expected)
    ]


def _replace_targets(
    catalogue: Catalogue, interactions: Interactions, split: Split, g: np.random.Generator, target: int
) -> dict[str, ShopView]:
    """Replace the product of each target, a second later so that it stays the newest event.

    All other held-out events are removed, so that only the targets differ.
    """
    events = interactions.where(~split.held_out | (interactions.event_type == target))
    is_target = split.held_out[~split.held_out | (interactions.event_type == target)]
    time, item = events.time + is_target, events.item.copy()
    for event in np.flatnonzero(is_target).tolist():
        user_items = events.item[events.starts[events.user[event]] : events.starts[events.user[event] + 1]]
        other_items = np.setdiff1d(np.arange(events.n_items), user_items)
        if len(other_items):
            item[event] = g.choice(other_items)
    return {
        UNCHANGED: ShopView(catalogue, _replace_columns(events, time=time)),
        "targets": ShopView(catalogue, _replace_columns(events, time=time, item=item)),
    }


def _replace_content(catalogue: Catalogue, new: BoolArray, g: np.random.Generator) -> Catalogue:
    """Give new products other words and prices, and no image.

    The words are one that no product has, and words of all products.
    """
    frame, is_new = catalogue.frame, pl.Series(new)
    vocabulary = sorted(set(" ".join(value or "" for value in frame[schema.TITLE].to_list()).split())) or ["word"]
    columns = []
    for name, kind in frame.schema.items():
        if name in (schema.PRODUCT_ID, schema.CREATED_AT):
            continue
        if kind == pl.String:
            texts = [" ".join(["unheard", *g.choice(vocabulary, min(8, len(vocabulary)))]) for _ in range(len(frame))]
            columns.append(pl.when(is_new).then(pl.Series(texts)).otherwise(pl.col(name)).alias(name))
        elif name == schema.PRICE:
            columns.append(pl.when(is_new).then(pl.col(name) * 1000 + 7).otherwise(pl.col(name)).alias(name))
    images = catalogue.images
    without_new = dataclasses.replace(images, rows=np.where(new, -1, images.rows))
    return dataclasses.replace(catalogue, frame=frame.with_columns(columns), images=without_new)


def _exchange_products(after: Interactions, never_bought: IntArray) -> Interactions:
    """Give the held-out events of each product without an earlier event to another such product.

    Where products without any event are left, those take the place of the ones with events.
    """
    bought_since = np.intersect1d(never_bought, after.item)
    order = np.concatenate([bought_since, np.setdiff1d(never_bought, bought_since)])
    other = np.arange(after.n_items)
    other[order] = np.roll(order, -max(1, min(len(bought_since), len(order) - len(bought_since))))
    return _replace_columns(after, item=other[after.item])


def _replace_availability(catalogue: Catalogue, g: np.random.Generator) -> BoolArray:
    """Return another availability of a third of the products whose availability is known: (n,) bool."""
    if schema.AVAILABLE not in catalogue.frame.columns:
        return catalogue.sellable
    is_known = catalogue.frame[schema.AVAILABLE].is_not_null().to_numpy()
    return np.asarray(catalogue.sellable ^ (is_known & (g.random(len(catalogue)) < 1 / 3)), np.bool_)


def _set_availability(catalogue: Catalogue, sellable: BoolArray) -> Catalogue:
    if sellable is catalogue.sellable or schema.AVAILABLE not in catalogue.frame.columns:
        return catalogue
    is_known = pl.col(schema.AVAILABLE).is_not_null()
    column = pl.when(is_known).then(pl.Series(sellable)).alias(schema.AVAILABLE)
    return dataclasses.replace(catalogue, sellable=sellable, frame=catalogue.frame.with_columns(column))


def _replace_columns(
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
        event_type=interactions.event_type,
        weight=interactions.weight,
        n_users=interactions.n_users,
        n_items=interactions.n_items,
        type_weights=interactions.type_weights,
    )


def _join(before: Interactions, *later: Interactions) -> Interactions:
    """Return the events of all; what returns changed is known of the first."""
    user, item, time, event_type, weight = (
        np.concatenate([getattr(part, name) for part in (before, *later)])
        for name in ("user", "item", "time", "event_type", "weight")
    )
    return Interactions.from_events(
        user=user,
        item=item,
        time=time,
        event_type=event_type,
        weight=weight,
        n_users=before.n_users,
        n_items=before.n_items,
        type_weights=before.type_weights,
        versions=before.versions,
    )
