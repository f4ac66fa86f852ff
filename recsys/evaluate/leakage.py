"""Detect leakage: rebuild a system on shops that differ only in the holdout and compare its lists.

In: a function that builds a system from a complete shop, holdout included. Out: names of the changes that alter a list.

In every changed shop the products created at or after the cutoff are not sellable: they appear in no list, so that a
list changes only if something was learned from them.
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
    """A complete shop, holdout included.

    Attributes:
        catalogue: n products.
        interactions: all events.
    """

    catalogue: Catalogue
    interactions: Interactions


SystemBuilder = Callable[[ShopView], System]
UNCHANGED = "unchanged"


def perturb_holdout(
    catalogue: Catalogue, interactions: Interactions, split: Split, *, seed: int = 0
) -> dict[str, ShopView]:
    """Return the shop unchanged, and copies whose holdout is changed at random.

    Args:
        catalogue: n products.
        interactions: all events.
        split: the split of these events.
        seed: of the changes.

    Returns:
        By the name of the change, `UNCHANGED` first. With a cutoff: other events (`events`), three times as many
        (`counts`), none (`nothing`), other texts, prices and images of the products created since (`texts`, if there
        are such products). Without one: other products as targets (`targets`).
    """
    g = np.random.default_rng(seed)
    if split.cutoff is None:
        return _replace_targets(catalogue, interactions, split, g)
    past = TrainingView.from_catalogue(catalogue, split.train, now=split.cutoff, cutoff=split.cutoff)
    without_new = dataclasses.replace(catalogue, sellable=catalogue.sellable & past.known)
    after = interactions.where(split.held_out)
    before = interactions.as_of(split.cutoff)
    # products unknown at the cutoff may be bought after it in every shop
    user = g.integers(0, interactions.n_users, len(after))
    item = g.integers(0, interactions.n_items, len(after))
    out = {
        UNCHANGED: ShopView(without_new, interactions),
        "events": ShopView(without_new, _join(before, _replace_columns(after, user=user, item=item))),
        "counts": ShopView(without_new, _join(before, after, after, after)),
        "nothing": ShopView(without_new, before),
    }
    if not past.known.all():
        out["texts"] = ShopView(_replace_content(without_new, ~past.known, g), interactions)
    return out


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
    catalogue: Catalogue, interactions: Interactions, split: Split, g: np.random.Generator
) -> dict[str, ShopView]:
    """Replace the product of each target, a second later so that it stays the newest event.

    All other held-out events are removed, so that only the targets differ.
    """
    events = interactions.where(~split.held_out | (interactions.event_type == PURCHASE_CODE))
    is_target = split.held_out[~split.held_out | (interactions.event_type == PURCHASE_CODE)]
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
