"""Files of sequences as the rooms see them: products with the words there are, a step of time an event.

In: sequences, attributes, names. Out: `Log`.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue, Images
from recsys.data.holdout import HoldoutCases
from recsys.data.id_map import IdMap
from recsys.data.interactions import Interactions
from recsys.errors import UsageError

LONGEST = 100
START = 1_000_000_000


@dataclass(frozen=True)
class Log:
    """One file.

    Attributes:
        catalogue: items of the file.
        users: ids.
        train: all events but each user's last.
        test: the last, given all before.
    """

    catalogue: Catalogue
    users: IdMap
    train: Interactions
    test: HoldoutCases


def read(path: Path, *, attributes: Path | None, items: Path | None, most_users: int | None = None) -> Log:
    """Read the file; users with fewer than three events are in no case, but are learned from.

    Raises:
        UsageError: there is no such file, or nobody in it has four products, as the two held back ask for.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    lists = _lists(path)
    texts = sorted({item for own in lists.values() for item in own})
    if most_users is not None:
        lists = dict(list(lists.items())[:most_users])
    if max(map(len, lists.values()), default=0) < 4:
        raise UsageError(f"{path}: nobody has four products; two are held back, and two are needed to learn from")
    ids, users = IdMap(texts), IdMap(list(lists))
    lengths = np.array([len(own) for own in lists.values()])
    every = Interactions.from_events(
        user=np.repeat(np.arange(len(users)), lengths),
        item=ids.rows([item for own in lists.values() for item in own]),
        time=START + np.concatenate([np.arange(length) for length in lengths]),
        n_users=len(users),
        n_items=len(ids),
    )
    frame = _products(texts, attributes, items)
    catalogue = Catalogue(ids, frame, np.ones(len(ids), np.bool_), Images.empty(len(ids)))
    train, test = without_last(every)
    return Log(catalogue, users, train, test)


def without_last(every: Interactions) -> tuple[Interactions, HoldoutCases]:
    """All events but the last of each user with three or more, and those last ones as cases.

    `now` is the moment after the last event: sequences have no common clock.
    """
    ends = every.starts[1:]
    asked = np.flatnonzero(np.diff(every.starts) >= 3)
    last = ends[asked] - 1
    kept = np.ones(len(every), np.bool_)
    kept[last] = False
    train = every.where(kept)
    longest = int(min(LONGEST, np.diff(train.starts).max()))
    targets = tuple(every.item[at : at + 1] for at in last)
    return train, HoldoutCases(train.histories(asked, longest), targets, int(every.time.max()) + 1)


def _lists(path: Path) -> dict[str, list[str]]:
    """Items of each user, in order."""
    opened = gzip.open if path.suffix == ".gz" else open
    out: dict[str, list[str]] = {}
    with opened(path, "rt", encoding="utf-8") as file:
        for line in file:
            if line.strip():
                user, *found = line.split()
                out.setdefault(user, []).extend(found)
    return out


def _products(ids: list[str], attributes: Path | None, items: Path | None) -> pl.DataFrame:
    """What is known of the items: keywords as title, names of attributes as description, the first as brand."""
    frame = pl.DataFrame({schema.PRODUCT_ID: ids})
    if items is not None:
        known = pl.read_parquet(items).select(
            pl.col("item_id").cast(pl.String).alias(schema.PRODUCT_ID),
            pl.col("text_keywords").alias(schema.TITLE),
            pl.col("attribute_names").list.join(" ", ignore_nulls=True).alias(schema.DESCRIPTION),
        )
        frame = frame.join(known, on=schema.PRODUCT_ID, how="left", maintain_order="left")
    else:
        frame = frame.with_columns(pl.lit(None, pl.String).alias(schema.TITLE))
    if attributes is not None:
        held = json.loads(attributes.read_text(encoding="utf-8"))
        words = [" ".join(f"a{one}" for one in held.get(item, [])) or None for item in ids]
        frame = frame.with_columns(pl.Series("attributes.codes", words, dtype=pl.String))
    return frame
