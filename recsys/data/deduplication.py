"""Handle rows with equal keys within a batch and across the batches of one ingest.

In: validated rows, batch by batch. Out: numbered events, so that none is lost; the first row of each product or user.
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
    """The keys of earlier batches as 64-bit hashes: 12 bytes for each event, 16 for each product or user.

    A collision of hashes happens about once in 3,000 ingests of 100 million events (an event is then numbered 1 instead
    of 0, and nothing is lost) and once in 300,000 ingests of 10 million products (one is then rejected as a duplicate
    of another, and listed in rejected_rows).
    """

    def __init__(self, table: str) -> None:
        self._values: type[np.generic] = np.uint32 if table == "events" else np.uint64
        self._seen = _HashMap(self._values)

    def number_duplicates(self, events: pl.DataFrame) -> pl.DataFrame:
        """Number events with equal keys, continuing from earlier batches, so that all of them are kept."""
        keys = _hashes(events, EVENT_KEY)
        is_known, numbers = self._seen.get(keys)
        lines = line_numbers(events)
        if is_known.any():
            lines = lines.with_columns(pl.col(schema.LINE_NO) + pl.Series(numbers.astype(np.int64)))
        self._add_events(keys, lines)
        return lines

    def reset_to(self, events: pl.DataFrame) -> None:
        """Keep the keys of these numbered events only; later events cannot equal the others."""
        self._seen = _HashMap(self._values)
        self._add_events(_hashes(events, EVENT_KEY), events)

    def _add_events(self, keys: Keys, lines: pl.DataFrame) -> None:
        self._seen.add(keys, (lines[schema.LINE_NO].to_numpy() + 1).astype(np.uint32))

    def drop_duplicates(self, rows: pl.DataFrame, key: str) -> tuple[pl.DataFrame, pl.DataFrame, int]:
        """Keep the first row of each id over all batches; returns the same as `drop_duplicates`."""
        content = [name for name in rows.columns if not name.startswith("__")]
        ids, contents = _hashes(rows, (key,)), _hashes(rows, tuple(content))
        is_known, known_contents = self._seen.get(ids)
        first, conflicts, n_equal = drop_duplicates(rows.filter(~pl.Series(is_known)), key)
        if is_known.any():
            changed = pl.Series(is_known & (known_contents != contents))
            later = rows.filter(changed).select(ROW, pl.lit(value=True).alias(_TWIN))
            conflicts = pl.concat([conflicts, later])
            n_equal += int(is_known.sum()) - later.height
        self._seen.add(_hashes(first, (key,)), _hashes(first, tuple(content)))
        return first, conflicts, n_equal


def line_numbers(events: pl.DataFrame) -> pl.DataFrame:
    """Number rows with equal keys, so that the same product twice in one order is kept twice."""
    return events.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).over(*EVENT_KEY).alias(schema.LINE_NO))


def drop_duplicates(rows: pl.DataFrame, key: str) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Keep the first row of each id; also return ROW of later rows that differ, and the number of equal ones."""
    is_first = rows[key].is_first_distinct()
    if is_first.all():
        return rows, pl.DataFrame(schema={ROW: pl.Int64, _TWIN: pl.Boolean}), 0
    content = [name for name in rows.columns if not name.startswith("__")]
    first = rows.filter(is_first)
    later = rows.filter(~is_first)
    equal = later.join(first.select(content), on=content, how="semi", nulls_equal=True)[ROW]
    conflicts = later.filter(~pl.col(ROW).is_in(equal.implode()))
    return first, conflicts.select(ROW, pl.lit(value=True).alias(_TWIN)), equal.len()


def warn_similar_ids(ids: pl.Series, table: str = "products") -> list[str]:
    """Return a warning if distinct ids differ only in case, outer spaces or Unicode form; they are not merged."""
    if not ids.len():
        return []
    folded = (
        ids.alias("id")
        .to_frame()
        .with_columns(pl.col("id").str.normalize("NFC").str.strip_chars().str.to_lowercase().alias("folded"))
    )
    similar = folded.group_by("folded", maintain_order=True).agg(pl.col("id")).filter(pl.col("id").list.len() > 1)
    if not similar.height:
        return []
    kind = "user " if table != "products" else ""
    example = " and ".join(repr(text) for text in similar["id"][0].to_list()[:2])
    return [
        f"{table}: {similar.height:,} groups of {kind}ids differ only in case, spaces or accents (e.g. {example}); "
        "kept apart"
    ]


def _hashes(rows: pl.DataFrame, names: tuple[str, ...]) -> Keys:
    return rows.select(names).hash_rows().to_numpy()


class _HashMap:
    """Map from hashes to numbers in sorted runs, each at least twice as long as the next, which makes adding cheap."""

    def __init__(self, values: type[np.generic]) -> None:
        self._type = values
        self._runs: list[tuple[Keys, npt.NDArray[np.generic]]] = []

    def get(self, keys: Keys) -> tuple[BoolArray, npt.NDArray[np.generic]]:
        """Return which keys are known, and their numbers (0 for unknown keys)."""
        is_known, values = np.zeros(len(keys), np.bool_), np.zeros(len(keys), self._type)
        order = np.argsort(keys)  # sorted keys pass through a run once
        sorted_keys = keys[order]
        for run_keys, run_values in self._runs:  # the last run is the newest, and its values win
            positions = np.minimum(np.searchsorted(run_keys, sorted_keys), len(run_keys) - 1)
            hit = run_keys[positions] == sorted_keys
            is_known[order[hit]] = True
            values[order[hit]] = run_values[positions[hit]]
        return is_known, values

    def add(self, keys: Keys, values: npt.NDArray[np.generic]) -> None:
        """Add numbers; of several with one key the last is used."""
        if not len(keys):
            return
        self._runs.append(_sort_keys(keys, values))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            (new_keys, new_values), (old_keys, old_values) = self._runs.pop(), self._runs.pop()
            self._runs.append(
                _sort_keys(np.concatenate([old_keys, new_keys]), np.concatenate([old_values, new_values]))
            )


def _sort_keys(keys: Keys, values: npt.NDArray[np.generic]) -> tuple[Keys, npt.NDArray[np.generic]]:
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    is_last = np.append(keys[1:] != keys[:-1], True)
    return keys[is_last], values[is_last]
