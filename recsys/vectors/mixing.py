"""One vector for a query of many parts: what is wanted, summed; what is not wanted, taken out of it.

In: weights and unit vectors. Out: a unit vector, to be searched with like any other.

What is not wanted is taken out in two steps. First all that the wanted has of it: the wanted is projected onto the
vectors that are at most at right angles to it, so a "red dress" without "red" is asked for as a "dress", however much
of it was red. Then a quarter step beyond, so that products that are red of their own fall behind. Plain subtraction is
one fixed step: measured on a shop of 600 products (a product without its own colour; "red dress" without "red"), a
short one leaves 17 to 59 % of the ten best in that colour, and a long one leads so far away that other kinds of product
come near; a penalty on what resembles the unwanted does as well at its best, but no index can search with it. This way
leaves 2 % and 0 %, and all ten of the right kind for texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from recsys.errors import UsageError
from recsys.vectors.exact import Vectors

BEYOND: Final = 0.25
"""Length of the step beyond the right angle, the wanted having length 1."""
_NOTHING: Final = 1e-6

Weighted = Sequence[tuple[float, Vectors]]


def mixed(wanted: Weighted, unwanted: Weighted = ()) -> Vectors:
    """The vector to search with: (d,) float32, unit length.

    Args:
        wanted: at least one weight and unit vector (d,).
        unwanted: weights and unit vectors; 1 takes all of it out, 0.5 half.

    Raises:
        UsageError: what is wanted cancels itself out, or nothing of it is left.
    """
    summed = np.sum([weight * part.astype(np.float64) for weight, part in wanted], axis=0)
    length = float(np.linalg.norm(summed))
    if length < _NOTHING:
        raise UsageError("the parts of the query cancel each other out; change their weights")
    out: npt.NDArray[np.float64] = summed / length
    if unwanted:
        away = np.stack([part.astype(np.float64) for _, part in unwanted])
        weights = np.array([weight for weight, _ in unwanted])
        steps = shares(out, away)
        if float(np.linalg.norm(out - steps @ away)) < 1e-3:
            raise UsageError("nothing of the query is left without what is not wanted; ask for something else")
        out = out - (weights * (steps + BEYOND / len(away))) @ away
        length = float(np.linalg.norm(out))
        if length < _NOTHING:
            raise UsageError("the parts of the query cancel each other out; change their weights")
        out = out / length
    return out.astype(np.float32)


def shares(wanted: npt.NDArray[np.float64], unwanted: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How much of each unwanted direction the wanted has: c >= 0 (m,) with the least |wanted - c @ unwanted|.

    The rest is at most at right angles to each of them (the conditions of Karush, Kuhn and Tucker), whatever their
    number and order. Non-negative least squares: Lawson and Hanson 1974.
    """
    from scipy.optimize import nnls

    found, _ = nnls(unwanted.T, wanted)
    return np.asarray(found, np.float64)
