"""Popularity that counts customers: a customer who does the same many times counts a little more than one.

In: users, products and worths of events. Out: one number per product.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recsys.types import DoubleArray, IntArray

_REPEAT_WEIGHT = 0.25
"""What a customer adds to a product each time the customer's events of it are multiplied by e."""


def count_customers(
    user: IntArray, item: IntArray, worth: npt.NDArray[np.floating], *, n_users: int, n_items: int
) -> DoubleArray:
    """Sum each customer's events of a product up to 1, and add a quarter of the logarithm of what is above: (n,).

    3,000 purchases by one customer count 3, one purchase by each of 20 customers counts 20.

    Args:
        user: (e,) user rows.
        item: (e,) product rows.
        worth: (e,) of each event, 0..1, decayed by time or not.
        n_users: u.
        n_items: n.
    """
    per_customer = sparse.csr_matrix((worth.astype(np.float64), (user, item)), shape=(n_users, n_items))
    per_customer.sum_duplicates()
    total = per_customer.data
    counted = np.where(total > 1.0, 1.0 + _REPEAT_WEIGHT * np.log(np.maximum(total, 1.0)), total)
    return np.bincount(per_customer.indices, counted, minlength=n_items).astype(np.float64)
