"""Small pictures inside the page: WebP as data URIs, each once, together never above a budget.

In: pixels, the most wanted picture first. Out: base64 of each, empty where the budget left it out.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from recsys.report.content import ProductCard

BUDGET: Final = 4_500_000
"""Bytes of base64 that all pictures of a page may take."""
_LEVELS: Final = ((96, 78), (64, 74), (64, 55), (48, 50), (40, 40), (32, 30))
"""Side in pixels and quality, the best first; a picture smaller than the side is not enlarged."""
_PROBES: Final = 24


def thumbnails(
    products: Sequence[ProductCard], pixels: npt.NDArray[np.uint8], *, budget: int = BUDGET
) -> tuple[str, ...]:
    """Base64 of the picture of each product, empty for those without one.

    The best size and quality that fit the budget are taken, judged by some pictures from all over; what is over the
    budget at the smallest size is left out from the end.

    Args:
        products: the most wanted first; `picture` is a row of `pixels`, -1 = none.
        pixels: (m, 3, S, S).
        budget: bytes.
    """
    rows = [product.picture for product in products]
    wanted = [row for row in dict.fromkeys(rows) if row >= 0]
    if not wanted:
        return ("",) * len(rows)
    probes = wanted[:: max(1, len(wanted) // _PROBES)]
    levels = [level for level in _LEVELS if level[0] <= pixels.shape[-1] or level == _LEVELS[-1]]
    sizes = {level: sum(len(_webp(pixels[row], *level)) for row in probes) / len(probes) for level in levels[:-1]}
    fitting = [level for level in levels[:-1] if sizes[level] * len(wanted) <= 0.9 * budget]
    made = _within(wanted, pixels, (fitting or [levels[-1]])[0], budget)
    return tuple(made.get(row, "") for row in rows)


def _within(
    wanted: Sequence[int], pixels: npt.NDArray[np.uint8], level: tuple[int, int], budget: int
) -> dict[int, str]:
    made: dict[int, str] = {}
    left = budget
    for row in wanted:
        held = _webp(pixels[row], *level)
        left -= len(held)
        if left < 0:
            break
        made[row] = held
    return made


def _webp(picture: npt.NDArray[np.uint8], side: int, quality: int) -> str:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0)))
    if image.width > side:
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    held = io.BytesIO()
    image.save(held, "WEBP", quality=quality, method=4)
    return base64.b64encode(held.getvalue()).decode("ascii")
