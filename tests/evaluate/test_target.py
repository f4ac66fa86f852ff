"""Exchanging a target type with purchases."""

from __future__ import annotations

from recsys.data.schema import EVENT_TYPES
from recsys.evaluate.target import event_code, histories_as_purchase, target_as_purchase
from tests.recommend.shops import events, histories


def test_the_target_and_purchases_change_places_and_the_rest_stays():
    log = events([(0, 0, 0, 0), (0, 1, 1, 2), (1, 2, 2, 4), (1, 0, 3, 2)], n_users=2, n_items=3)
    assert event_code("view") == EVENT_TYPES.index("view") == 2
    assert target_as_purchase(log, 2).event_type.tolist() == [2, 0, 4, 0]
    assert target_as_purchase(log, 2).item.tolist() == log.item.tolist() and target_as_purchase(log, 0) is log
    own = histories([[0, 1, 2]], kinds=[[0, 2, 5]])
    assert histories_as_purchase(own, 2).event_types.tolist() == [[2, 0, 5]] and histories_as_purchase(own, 0) is own
