"""The data a system may use in an evaluation: events before the cutoff, products that existed by then.

In: today's catalogue, the training events, the cutoff. Out: `TrainingView`.
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
from recsys.evaluate.slices import creation_times
from recsys.types import BoolArray


@dataclass(frozen=True)
class TrainingView:
    """The training data of an evaluated system.

    Attributes:
        catalogue: n products of today.
        train: training events, on the rows of `catalogue`.
        now: UTC seconds, the moment the recommendations are for.
        known: (n,) bool, products that existed at the cutoff. Nothing is learned from the others: no words, no
            vocabulary, no clusters; their attributes may be read to recommend them.
        seed: for systems that draw random numbers.
    """

    catalogue: Catalogue
    train: Interactions
    now: int
    known: BoolArray
    seed: int = 0

    @staticmethod
    def from_catalogue(
        catalogue: Catalogue, train: Interactions, *, now: int, cutoff: int | None, seed: int = 0
    ) -> TrainingView:
        """Mark products created since `cutoff` without an earlier event as unknown; None = no cutoff.

        A product without a creation time counts as known: that it had not been bought says little.
        """
        known = np.ones(len(catalogue), np.bool_)
        if cutoff is not None:
            known = ~(creation_times(catalogue) >= cutoff) | (train.counts() > 0)
            if train.versions is not None:
                known[train.versions.item] = True
        return TrainingView(catalogue, train, now, known, seed)

    def without_new_products(self) -> tuple[Catalogue, Interactions]:
        """Return catalogue and events without the unknown products; rows are positions among the `known`."""
        if self.known.all():
            return self.catalogue, self.train
        rows = np.flatnonzero(self.known)
        frame, images = self.catalogue.frame[rows.tolist()], self.catalogue.images
        catalogue = Catalogue(
            IdMap(self.catalogue.ids.ids(rows)),
            frame,
            self.catalogue.sellable[rows].copy(),
            Images(images.pixels, images.rows[rows]),
        )
        new_row = np.cumsum(self.known) - 1
        versions = self.train.versions
        if versions is not None:
            versions = versions.where(self.known[versions.item])
            versions = dataclasses.replace(versions, item=new_row[versions.item])
        events = Interactions.from_events(
            user=self.train.user,
            item=new_row[self.train.item],
            time=self.train.time,
            event_type=self.train.event_type,
            weight=self.train.weight,
            n_users=self.train.n_users,
            n_items=len(rows),
            type_weights=self.train.type_weights,
            versions=versions,
        )
        return catalogue, events

    def with_blank_new_texts(self) -> Catalogue:
        """Return the catalogue with the texts of unknown products blanked, so that no word is counted."""
        if self.known.all():
            return self.catalogue
        known = pl.Series(self.known)
        texts = [name for name, kind in self.catalogue.frame.schema.items() if kind == pl.String]
        blank = [pl.when(known).then(pl.col(name)).alias(name) for name in texts if name != schema.PRODUCT_ID]
        return dataclasses.replace(self.catalogue, frame=self.catalogue.frame.with_columns(blank))
