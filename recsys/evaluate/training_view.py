"""The data a system may use in an evaluation: events before the cutoff, products that existed by then.

In: today's catalogue, the training events, the cutoff. Out: `TrainingView`, whose candidates depend on nothing that
is held out.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue, Images
from recsys.data.id_map import IdMap
from recsys.data.interactions import Interactions
from recsys.data.schema import PURCHASE_CODE
from recsys.data.selection import listed_without_events
from recsys.evaluate.slices import creation_times
from recsys.types import BoolArray


@dataclass(frozen=True)
class TrainingView:
    """The training data of an evaluated system.

    Attributes:
        catalogue: n products of today; its sellable products are the candidates, which the held-out events do not
            decide.
        train: training events, on the rows of `catalogue`.
        now: UTC seconds, the moment the recommendations are for.
        known: (n,) bool, products that existed at the cutoff. Nothing is learned from the others: no words, no
            vocabulary, no clusters; their attributes may be read to recommend them.
        in_catalogue: (n,) bool, products that the catalogue had at the cutoff; the others have no event and are no
            candidates. All without a cutoff.
        seed: for systems that draw random numbers.
        target: code of the event type that is predicted.
    """

    catalogue: Catalogue
    train: Interactions
    now: int
    known: BoolArray
    in_catalogue: BoolArray
    seed: int = 0
    target: int = PURCHASE_CODE

    @staticmethod
    def from_catalogue(
        catalogue: Catalogue,
        train: Interactions,
        *,
        now: int,
        cutoff: int | None,
        seed: int = 0,
        target: int = PURCHASE_CODE,
        catalogue_setting: str = "all",
    ) -> TrainingView:
        """Decide candidates and known products from the training events.

        Candidates are the products that `catalogue_setting` includes for what they are, and those with a training
        event. Today's availability is not used: it may be a consequence of what was bought after the cutoff.

        Args:
            catalogue: n products of today.
            train: training events.
            now: UTC seconds, the moment the recommendations are for.
            cutoff: UTC seconds; products created since then without an earlier event are unknown. None = no cutoff. A
                product without a creation time counts as known: that it had not been bought says little.
            seed: for systems that draw random numbers.
            target: code of the event type that is predicted.
            catalogue_setting: `data.catalogue`.
        """
        has_event = train.has_events()
        candidates = has_event | listed_without_events(catalogue, catalogue_setting)
        known = candidates.copy()
        if cutoff is not None:
            known &= ~(creation_times(catalogue) >= cutoff) | has_event
        in_catalogue = candidates if cutoff is not None else np.ones(len(catalogue), np.bool_)
        catalogue = dataclasses.replace(catalogue, sellable=candidates.copy())
        return TrainingView(catalogue, train, now, known, in_catalogue, seed, target)

    def with_candidates(self, allowed: BoolArray) -> TrainingView:
        """Return the view with only those candidates that are `allowed`: (n,) bool."""
        catalogue = dataclasses.replace(self.catalogue, sellable=self.catalogue.sellable & allowed)
        return dataclasses.replace(self, catalogue=catalogue)

    def restricted_to_catalogue(self) -> TrainingView:
        """Return the view of the products of `in_catalogue`; rows are positions among them."""
        keep = self.in_catalogue
        catalogue, train = take_products(self.catalogue, self.train, keep)
        return dataclasses.replace(
            self, catalogue=catalogue, train=train, known=self.known[keep], in_catalogue=keep[keep]
        )

    def without_new_products(self) -> tuple[Catalogue, Interactions]:
        """Return catalogue and events without the unknown products; rows are positions among the `known`."""
        return take_products(self.catalogue, self.train, self.known)

    def with_blank_new_texts(self) -> Catalogue:
        """Return the catalogue with the texts of unknown products blanked, so that no word is counted."""
        if self.known.all():
            return self.catalogue
        known = pl.Series(self.known)
        texts = [name for name, kind in self.catalogue.frame.schema.items() if kind == pl.String]
        blank = [pl.when(known).then(pl.col(name)).alias(name) for name in texts if name != schema.PRODUCT_ID]
        return dataclasses.replace(self.catalogue, frame=self.catalogue.frame.with_columns(blank))


def take_products(catalogue: Catalogue, interactions: Interactions, keep: BoolArray) -> tuple[Catalogue, Interactions]:
    """Return the products of `keep` (n,) and the events with them; rows become positions among the kept products."""
    if keep.all():
        return catalogue, interactions
    rows = np.flatnonzero(keep)
    frame, images = catalogue.frame[rows.tolist()], catalogue.images
    taken = Catalogue(
        IdMap(catalogue.ids.ids(rows)), frame, catalogue.sellable[rows].copy(), Images(images.pixels, images.rows[rows])
    )
    new_row, event, versions = np.cumsum(keep) - 1, keep[interactions.item], interactions.versions
    if versions is not None:
        versions = versions.where(keep[versions.item])
        versions = dataclasses.replace(versions, item=new_row[versions.item])
    events = Interactions.from_events(
        user=interactions.user[event],
        item=new_row[interactions.item[event]],
        time=interactions.time[event],
        event_type=interactions.event_type[event],
        weight=interactions.weight[event],
        n_users=interactions.n_users,
        n_items=len(rows),
        type_weights=interactions.type_weights,
        versions=versions,
    )
    return taken, events
