"""Array types shared by all packages; the shape of each array is given in the docstring that uses it.

In: nothing. Out: type aliases.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
"""Row numbers, counts, UTC seconds."""
FloatArray = npt.NDArray[np.float32]
"""Vectors and scores."""
DoubleArray = npt.NDArray[np.float64]
"""Sums and statistics that need the precision."""
BoolArray = npt.NDArray[np.bool_]
"""Masks."""

Device = Literal["auto", "cpu", "cuda"]
"""Where a computation runs; "auto" takes a GPU where there is one."""
