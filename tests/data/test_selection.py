"""Which products belong to the catalogue without an event."""

from __future__ import annotations

import dataclasses

import polars as pl
import pytest

from recsys.data.selection import listed_without_events, selected_without_events
from tests.recommend.shops import catalogue

AVAILABLE = pl.Series([True, False, None, None])
HASHES = pl.Series([None, None, "a", None], dtype=pl.String)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("all", [1, 1, 1, 1]), ("auto", [1, 1, 1, 0]), ("bought_or_pictured", [0, 0, 1, 0])],
)
def test_the_setting_decides(setting, expected):
    assert selected_without_events(AVAILABLE, HASHES, setting).tolist() == [bool(value) for value in expected]
    shop = catalogue(4)
    columns = [AVAILABLE.alias("available"), HASHES.alias("image_hash")]
    stored = dataclasses.replace(shop, frame=shop.frame.drop("image_hash", strict=False).with_columns(columns))
    assert listed_without_events(stored, setting).tolist() == [bool(value) for value in expected]


def test_a_frame_without_both_columns_has_nothing_to_leave_out():
    shop = catalogue(4)
    bare = dataclasses.replace(shop, frame=shop.frame.drop("available", "image_hash", strict=False))
    assert listed_without_events(bare, "auto").all()
