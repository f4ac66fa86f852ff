"""Rows that agree in their key, inside of one batch and across the batches of one reading.

In: judged rows, batch by batch. Out: events numbered so that none is lost; of products and users the first of each id.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data import schema
from recsys.data.file_readers import ROW
from recsys.types import BoolArray

EVENT_KEY: Final = (schema.USER_ID, schema.OCCURRED_AT, schema.PRODUCT_ID, schema.EVENT_TYPE, schema.ORDER_ID)
_TWIN: Final = "__twin__"

Keys = npt.NDArray[np.uint64]


class Deduplicator:
    """What a reading has seen so far: 12 bytes an event, 16 a product or user, as hashes of 64 bits.

    Two keys of a reading share a hash by chance about once in 3,000 readings of 100 million events (the event is then
    numbered 1 where it could be 0, and nothing is lost) and once in 300,000 of 10 million products (one is then
    rejected as the twin of another, and stands in rejected_rows).
    """

    def __init__(self, table: str) -> None:
        self._values: type[np.generic] = np.uint32 if table == "events" else np.uint64
        self._seen = _Seen(self._values)

    def number_duplicates(self, events: pl.DataFrame) -> pl.DataFrame:
        """Number events that agree in the whole key, going on from earlier batches: two of an article stay two."""
        keys = _hashes(events, EVENT_KEY)
        found, before = self._seen.of(keys)
        lines = line_numbers(events)
        if found.any():
            lines = lines.with_columns(pl.col(schema.LINE_NO) + pl.Series(before.astype(np.int64)))
        self._add_events(keys, lines)
        return lines

    def only(self, events: pl.DataFrame) -> None:
        """Forget everything but these numbered events: what follows cannot agree with the others."""
        self._seen = _Seen(self._values)
        self._add_events(_hashes(events, EVENT_KEY), events)

    def _add_events(self, keys: Keys, lines: pl.DataFrame) -> None:
        self._seen.add(keys, (lines[schema.LINE_NO].to_numpy() + 1).astype(np.uint32))

    def firsts(self, rows: pl.DataFrame, key: str) -> tuple[pl.DataFrame, pl.DataFrame, int]:
        """Keep the first row of each id. Out: as `drop_duplicates`."""
        content = [name for name in rows.columns if not name.startswith("__")]
        ids, contents = _hashes(rows, (key,)), _hashes(rows, tuple(content))
        found, before = self._seen.of(ids)
        again = pl.Series(found)
        kept, different, same = drop_duplicates(rows.filter(~again), key)
        if found.any():
            changed = pl.Series(found & (before != contents))
            later = rows.filter(changed).select(ROW, pl.lit(value=True).alias(_TWIN))
            different = pl.concat([different, later])
            same += int(found.sum()) - later.height
        self._seen.add(_hashes(kept, (key,)), _hashes(kept, tuple(content)))
        return kept, different, same


def line_numbers(events: pl.DataFrame) -> pl.DataFrame:
    """Number rows that agree in the whole key, so that two of the same article in one order stay two."""
    return events.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).over(*EVENT_KEY).alias(schema.LINE_NO))


def drop_duplicates(rows: pl.DataFrame, key: str) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Keep the first row of each id. Out: kept rows, ROW of later ones that differ, number of those that do not."""
    first = rows[key].is_first_distinct()
    if first.all():
        return rows, pl.DataFrame(schema={ROW: pl.Int64, _TWIN: pl.Boolean}), 0
    content = [name for name in rows.columns if not name.startswith("__")]
    kept = rows.filter(first)
    later = rows.filter(~first)
    equal = later.join(kept.select(content), on=content, how="semi", nulls_equal=True)[ROW]
    different = later.filter(~pl.col(ROW).is_in(equal.implode()))
    return kept, different.select(ROW, pl.lit(value=True).alias(_TWIN)), equal.len()


def warn_similar_ids(ids: pl.Series) -> list[str]:
    """Warn of product ids that only differ in case, outer spaces or the way accents are encoded; they stay apart."""
    if not ids.len():
        return []
    folded = (
        ids.alias("id")
        .to_frame()
        .with_columns(pl.col("id").str.normalize("NFC").str.strip_chars().str.to_lowercase().alias("folded"))
    )
    near = folded.group_by("folded", maintain_order=True).agg(pl.col("id")).filter(pl.col("id").list.len() > 1)
    if not near.height:
        return []
    example = " and ".join(repr(text) for text in near["id"][0].to_list()[:2])
    return [
        f"products: {near.height:,} groups of ids differ only in case, spaces or accents (e.g. {example}); kept apart"
    ]


def _hashes(rows: pl.DataFrame, names: tuple[str, ...]) -> Keys:
    return rows.select(names).hash_rows().to_numpy()


class _Seen:
    """A map from hashes to numbers in sorted runs, each at least twice as long as the next: cheap to add to."""

    def __init__(self, values: type[np.generic]) -> None:
        self._type = values
        self._runs: list[tuple[Keys, npt.NDArray[np.generic]]] = []

    def of(self, keys: Keys) -> tuple[BoolArray, npt.NDArray[np.generic]]:
        """Which keys are there, and their numbers (0 where not)."""
        found, values = np.zeros(len(keys), np.bool_), np.zeros(len(keys), self._type)
        order = np.argsort(keys)  # sorted needles walk through a run once
        needles = keys[order]
        for run, held in self._runs:  # the newest run is the last, and counts
            place = np.minimum(np.searchsorted(run, needles), len(run) - 1)
            hit = run[place] == needles
            found[order[hit]] = True
            values[order[hit]] = held[place[hit]]
        return found, values

    def add(self, keys: Keys, values: npt.NDArray[np.generic]) -> None:
        """Put numbers in; of several with one key the last counts."""
        if not len(keys):
            return
        self._runs.append(_sorted(keys, values))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            (newer, later), (older, sooner) = self._runs.pop(), self._runs.pop()
            self._runs.append(_sorted(np.concatenate([older, newer]), np.concatenate([sooner, later])))


def _sorted(keys: Keys, values: npt.NDArray[np.generic]) -> tuple[Keys, npt.NDArray[np.generic]]:
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    last = np.append(keys[1:] != keys[:-1], True)
    return keys[last], values[last]
