"""Charts and words: places on an axis against plain arithmetic, numbers that never lie by rounding."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recsys.report import chart_geometry as charts
from recsys.report import formatting as words
from recsys.report.content import ProductCard
from recsys.report.measurements import Curve
from recsys.report.thumbnails import encode_thumbnails
from tests.report.contents import figure, pixels


@given(st.lists(st.floats(-1e6, 1e6), max_size=8))
@example([1.908367349515151e-41])
@example([5e-324, -5e-324])
@example([1e-310])
@example([0.6, 1e-300])
def test_an_axis_holds_all_values_and_zero_on_round_ticks(values: list[float]) -> None:
    axis = charts.create_axis(values)
    assert all(axis.low <= value <= axis.high for value in [0.0, *values])
    places = [place for place, _ in axis.ticks]
    assert places[0] == 0 and places[-1] == 100 and 2 <= len(places) <= 8
    for place, number in axis.ticks:
        assert axis.to_percent(number) == pytest.approx(place, abs=1e-3)


def test_whiskers_stand_where_the_numbers_say() -> None:
    axis, (one,) = charts.create_interval_rows([figure("recsys", 0.5)], ours="recsys")
    assert one.ours and (axis.low, axis.high) == pytest.approx((0.0, 0.6))
    assert (one.low, one.position, one.high) == pytest.approx((75.0, 83.333, 91.667), abs=0.01)
    assert charts.create_axis([math.nan]).to_percent(math.nan) == 0


def test_a_curve_fills_its_box() -> None:
    (line,) = charts.create_lines([Curve("s", "loss", (10, 20, 30), (4.0, 2.0, 3.0))])
    assert line.points == "0.00,2.00 50.00,38.00 100.00,20.00"
    assert charts.create_lines([Curve("s", "loss", (), ())]) == ()
    assert charts.create_lines([Curve("s", "one point", (1,), (2.0,))]) == ()
    assert charts.create_lines([Curve("s", "flat", (1, 2), (2.0, 2.0))])[0].points == "0.00,38.00 100.00,38.00"


def test_a_map_keeps_its_order_inside_the_frame() -> None:
    dots = charts.scale_to_percent(((0, -5.0, 0.0, 1), (1, 5.0, 10.0, 1), (2, 0.0, 5.0, 2)))
    assert dots == ((0, 3.0, 97.0, 1), (1, 97.0, 3.0, 1), (2, 50.0, 50.0, 2))
    assert charts.scale_to_percent(((0, 1.0, 1.0, 1),)) == ((0, 50.0, 50.0, 1),) and charts.scale_to_percent(()) == ()
    assert charts.cluster_label_positions(dots)[2] == (50.0, 50.0)


@given(st.floats(0, 1))
def test_a_share_is_rounded_to_nothing_or_all_only_when_it_is(share: float) -> None:
    assert (words.format_percent(share) in ("0 %", "0.0 %")) == (share == 0)
    assert (words.format_percent(share) in ("100 %", "100.0 %")) == (share == 1)


def test_numbers_and_times_as_people_read_them() -> None:
    assert [words.format_number(value) for value in (12345, 0.12345, 1234.5, None, math.nan)] == [
        "12,345", "0.1235", "1,234", "–", "–",
    ]  # fmt: skip
    assert [words.format_age(0, gone) for gone in (5, 60, 7200, 86400 * 3)] == [
        "just now", "1 minute ago", "2 hours ago", "3 days ago",
    ]  # fmt: skip
    assert words.clean_text("a" * 500, 10) == "aaaaaaaaa…" and words.clean_text("a\u202eb\x1b") == "ab"
    assert words.pluralize(1, "user") == "1 user" and words.pluralize(2000, "user") == "2,000 users"


def test_pictures_fit_the_budget_and_the_last_go_first() -> None:
    noise = pixels(16, side=64)
    shown = [ProductCard(str(at), "", "", at) for at in range(16)] + [ProductCard("none", "", "", -1)]
    whole = encode_thumbnails(shown, noise)
    assert all(whole[:-1]) and whole[-1] == ""
    tight = encode_thumbnails(shown, noise, budget=6_000)
    assert sum(map(len, tight)) <= 6_000
    kept = [bool(held) for held in tight]
    assert kept == sorted(kept, reverse=True) and kept[0] and not kept[-2]
    assert encode_thumbnails([], np.zeros((0, 3, 8, 8), np.uint8)) == ()
