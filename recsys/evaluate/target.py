"""Evaluate a target event type other than purchases: baselines learn from it as if it were purchases.

In: events or histories, the code of the target. Out: the same with exchanged event types.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from recsys.data import schema
from recsys.data.interactions import Histories, Interactions
from recsys.data.schema import PURCHASE_CODE


def event_code(target: str) -> int:
    """Return the code of an event type."""
    return schema.EVENT_TYPES.index(target)


def target_as_purchase(interactions: Interactions, target: int) -> Interactions:
    """Exchange the target type and purchases, so that what learns from purchases learns from the target."""
    if target == PURCHASE_CODE:
        return interactions
    return dataclasses.replace(interactions, event_type=_exchange(interactions.event_type, target))


def histories_as_purchase(histories: Histories, target: int) -> Histories:
    """Exchange the target type and purchases in histories."""
    if target == PURCHASE_CODE:
        return histories
    return dataclasses.replace(histories, event_types=_exchange(histories.event_types, target))


def _exchange(event_types: npt.NDArray[np.int8], target: int) -> npt.NDArray[np.int8]:
    out = event_types.copy()
    out[event_types == target] = PURCHASE_CODE
    out[event_types == PURCHASE_CODE] = target
    return out
