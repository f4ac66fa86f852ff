"""Batches are numbered and told apart as one whole table is."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import DataSettings
from recsys.data.deduplication import Deduplicator, _HashMap
from recsys.data.validation import ValidationResult, validate_batch

SETTINGS = DataSettings(max_bad_fraction=1)
CELLS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), min_size=1, max_size=40)


def _judged(table: str, frame: pl.DataFrame, twins: Deduplicator | None) -> ValidationResult:
    return validate_batch(table, frame, source="s", settings=SETTINGS, now=1_700_000_000, deduplicator=twins)


def _table(table: str, cells: list[tuple[str, str]]) -> pl.DataFrame:
    first, second = zip(*cells, strict=True)
    if table == "products":
        return pl.DataFrame({"product_id": first, "title": second})
    return pl.DataFrame({"user_id": first, "product_id": second, "occurred_at": [1_600_000_000] * len(first)})


@pytest.mark.parametrize("table", ["products", "events"])
@given(cells=CELLS, cut=st.integers(1, 9))
def test_in_batches_as_at_once(table: str, cells: list[tuple[str, str]], cut: int) -> None:
    frame, twins = _table(table, cells), Deduplicator(table)
    expected = _judged(table, frame, None)
    found = [_judged(table, frame[at : at + cut], twins) for at in range(0, frame.height, cut)]
    assert pl.concat([each.accepted for each in found]).equals(expected.accepted)
    assert sum(each.rejected.height for each in found) == expected.rejected.height
    assert sum(sum(each.filtered.values()) for each in found) == sum(expected.filtered.values())


@given(batches=st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 99)), max_size=12), max_size=12))
def test_what_was_seen_is_a_dictionary(batches: list[list[tuple[int, int]]]) -> None:
    seen, oracle = _HashMap(np.uint32), {}
    for batch in batches:
        keys = np.array([key for key, _ in batch], np.uint64)
        found, values = seen.get(keys)
        assert found.tolist() == [key in oracle for key, _ in batch]
        assert values.tolist() == [oracle.get(key, 0) for key, _ in batch]
        seen.add(keys, np.array([value for _, value in batch], np.uint32))
        oracle.update(dict(batch))
