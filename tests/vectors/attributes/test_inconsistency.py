"""Odd products: a picture, a category or a title that was exchanged stands among the first; a whole shop is quiet."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from recsys.vectors.attributes import inconsistency as odd
from tests.encoder import shops
from tests.vectors import shops as bare
from tests.vectors.planted import PlainModel, changed, swapped

N = 120
PICTURES = [(0, 5), (21, 31), (64, 71)]
"""Products of other colours and kinds."""
CATEGORIES = {50: "shirt", 70: "dress"}


@cache
def findings(*, broken: bool) -> tuple[odd.Inconsistency, ...]:
    catalogue = shops.catalogue(N)
    if broken:
        catalogue = changed(swapped(catalogue, PICTURES), category=CATEGORIES)
    return tuple(one for some in odd.find_inconsistencies(catalogue, PlainModel(), seed=0) for one in some)


def test_exchanged_pictures_and_categories_are_the_first() -> None:
    wrong = {row for pair in PICTURES for row in pair}
    found = odd.top_inconsistencies(findings(broken=True))
    pictures = [one for one in found if one.check == "picture"]
    assert {one.row for one in pictures[: len(wrong)]} >= {0, 5, 31, 64, 71} - {21} and len(pictures) < 2 * len(wrong)
    categories = {one.row: one for one in found if one.check == "category"}
    own = shops.catalogue(N).frame["category"]
    for row, value in CATEGORIES.items():
        assert (categories[row].current, categories[row].expected) == (value, own[row])
        assert categories[row].confidence > 0.7
    assert {one.row for one in found[:8]} <= wrong | set(CATEGORIES)
    assert all(0.5 <= one.confidence <= 1 for one in found)


def test_what_is_expected_of_a_picture_is_the_product_it_fits() -> None:
    own = shops.catalogue(N)
    for one in findings(broken=True):
        if one.check == "picture" and one.row in (0, 5):
            other = 5 - one.row
            assert one.current == own.frame["title"][one.row]
            assert own.frame["category"][other] in one.expected  # the kind that the exchanged picture shows


def test_a_shop_without_mistakes_is_nearly_quiet() -> None:
    quiet = findings(broken=False)
    assert len(quiet) <= 0.06 * N and "category" not in {one.check for one in quiet}


def test_a_title_of_another_product_is_found() -> None:
    own = shops.catalogue(N)
    found = [
        one
        for some in odd.find_inconsistencies(changed(own, title={8: own.frame["title"][0]}), PlainModel(), seed=0)
        for one in some
    ]
    assert (8, "text") in {(one.row, one.check) for one in odd.top_inconsistencies(found, 3)}


def test_a_value_that_the_text_names_is_not_odd() -> None:
    own = shops.catalogue(N)
    wrong = changed(own, category={50: "shirt"})
    told = changed(wrong, description={50: "really a shirt"})
    places = [
        {
            one.row
            for some in odd.find_inconsistencies(one, PlainModel(), seed=0)
            for one in some
            if one.check == "category"
        }
        for one in (wrong, told)
    ]
    assert 50 in places[0] and 50 not in places[1]


def test_too_little_to_compare_is_no_finding() -> None:
    few = bare.catalogue({"title": ["a", "b"], "brand": ["x", "y"]})
    assert [list(some) for some in odd.find_inconsistencies(few, PlainModel(), seed=0)] == [[], [], []]
    assert odd.count_checks(few) == 3
    same = bare.catalogue({"title": ["hat"] * 40, "brand": ["x"] * 40})
    assert [list(some) for some in odd.find_inconsistencies(same, PlainModel(), seed=0)] == [[], [], []]


def test_the_surest_come_first_and_ties_by_product() -> None:
    some = [odd.Inconsistency(row, "text", sure, "", "") for row, sure in ((3, 0.7), (1, 0.7), (2, 0.9))]
    assert [one.row for one in odd.top_inconsistencies(some)] == [2, 1, 3]
    assert [one.row for one in odd.top_inconsistencies(some, 1)] == [2]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_finds_the_same(seed: int) -> None:
    catalogue = changed(shops.catalogue(72), category=CATEGORIES)
    both = [
        [one for some in odd.find_inconsistencies(catalogue, PlainModel(), seed=seed) for one in some] for _ in range(2)
    ]
    assert both[0] == both[1]
    assert np.isfinite([one.confidence for one in both[0]]).all()
