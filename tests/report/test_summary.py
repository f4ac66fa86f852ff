"""The verdict: what is said first follows from the figures, and what needs a look is named."""

from __future__ import annotations

import dataclasses

import pytest

from recsys.report.content import ListSummary
from recsys.report.summary import compare_with_popularity, summarize
from tests.report.contents import DAY, NOW, bare, evaluation, filled


@pytest.mark.parametrize(
    ("ours", "theirs", "p", "tone", "said"),
    [
        (0.3, 0.1, 0.001, "good", "Yes, better than popularity, 3 times as good."),
        (0.12, 0.1, 0.01, "good", "Yes, better than popularity."),
        (0.12, 0.1, 0.3, "open", "No difference to popularity can be shown."),
        (0.1, 0.3, 0.001, "bad", "Popularity does better than the recommender."),
    ],
)
def test_better_than_popularity_is_said_only_when_it_is_sure(
    ours: float, theirs: float, p: float, tone: str, said: str
) -> None:
    found = summarize(dataclasses.replace(filled(), evaluation=evaluation(ours=ours, theirs=theirs, p=p)))
    assert (found.tone, found.headline) == (tone, said)
    assert "popular" in found.because[0] and "100 users" in found.because[0]


def test_ours_is_compared_with_the_better_of_the_popular_ones() -> None:
    pair = compare_with_popularity(evaluation())
    assert pair is not None and pair.other == "popular"


def test_without_an_evaluation_nothing_is_claimed() -> None:
    found = summarize(bare())
    assert (found.tone, found.headline) == ("open", "Whether it beats popularity is not known yet.")
    assert {note.section for note in found.look} >= {"lists", "figures", "training"}
    alone = dataclasses.replace(evaluation(), ours="", pairs=())
    assert summarize(dataclasses.replace(filled(), evaluation=alone)).tone == "open"


def test_what_to_look_at_is_named() -> None:
    good = filled()
    clean = dataclasses.replace(good.quality, counts=(("products", 10), ("products with a picture", 10)))
    calm = dataclasses.replace(good, quality=clean, evaluation=evaluation())
    assert summarize(calm).look == ()

    def notes(**parts: object) -> list[str]:
        return [note.text for note in summarize(dataclasses.replace(calm, **parts)).look]

    lists, exposure, changes = calm.lists, calm.exposure, calm.changes
    assert isinstance(lists, ListSummary) and exposure is not None and changes is not None
    assert (
        "1 user have" in notes(lists=dataclasses.replace(lists, covered=9))[0]
        or "1 user" in notes(lists=dataclasses.replace(lists, covered=9))[0]
    )
    assert "shorter than 12" in notes(lists=dataclasses.replace(lists, short=4))[0]
    assert "12 %" in notes(changes=dataclasses.replace(changes, overlap=0.12))[0]
    assert "Gini 0.95" in notes(exposure=dataclasses.replace(exposure, gini=0.95))[0]
    assert "Only 5.0 %" in notes(exposure=dataclasses.replace(exposure, listed=1))[0]
    assert "3 rows" in notes(quality=good.quality)[0]
    assert "Settings have changed" in notes(evaluation=dataclasses.replace(evaluation(), same_settings=False))[0]
    assert "30 days ago" in notes(evaluation=dataclasses.replace(evaluation(), at=NOW - 30 * DAY))[0]
    assert any("strongest baseline" in note for note in notes(evaluation=evaluation(ours=0.12, p=0.2)))
