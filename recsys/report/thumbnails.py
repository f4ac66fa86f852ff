"""Encode product images as WebP for inline data URIs, within a total budget of bytes.

In: pixels, most important image first. Out: base64 of each image, empty if the budget excludes it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from recsys.report.content import ProductCard

MAX_IMAGE_BYTES: Final = 4_500_000
"""Most bytes of base64 for all images of a page."""
_LEVELS: Final = ((96, 78), (64, 74), (64, 55), (48, 50), (40, 40), (32, 30))
"""Side in pixels and WebP quality, best first; an image smaller than the side is not enlarged."""
_SAMPLE_SIZE: Final = 24


def encode_thumbnails(
    products: Sequence[ProductCard], pixels: npt.NDArray[np.uint8], *, budget: int = MAX_IMAGE_BYTES
) -> tuple[str, ...]:
    """Return the base64 of each product's image, empty for products without one.

    Uses the best size and quality that fit the budget, estimated on an evenly spaced sample of the images; images
    beyond the budget at the smallest size are dropped from the end.

    Args:
        products: most important first; `picture` is a row of `pixels`, -1 = no image.
        pixels: (m, 3, S, S).
        budget: bytes.
    """
    rows = [product.picture for product in products]
    image_rows = [row for row in dict.fromkeys(rows) if row >= 0]
    if not image_rows:
        return ("",) * len(rows)
    sample = image_rows[:: max(1, len(image_rows) // _SAMPLE_SIZE)]
    levels = [level for level in _LEVELS if level[0] <= pixels.shape[-1] or level == _LEVELS[-1]]
    sizes = {
        level: sum(len(_encode_webp(pixels[row], *level)) for row in sample) / len(sample) for level in levels[:-1]
    }
    fitting = [level for level in levels[:-1] if sizes[level] * len(image_rows) <= 0.9 * budget]
    encoded = _encode_within_budget(image_rows, pixels, (fitting or [levels[-1]])[0], budget)
    return tuple(encoded.get(row, "") for row in rows)


def _encode_within_budget(
    image_rows: Sequence[int], pixels: npt.NDArray[np.uint8], level: tuple[int, int], budget: int
) -> dict[int, str]:
    encoded: dict[int, str] = {}
    remaining = budget
    for row in image_rows:
        data = _encode_webp(pixels[row], *level)
        remaining -= len(data)
        if remaining < 0:
            break
        encoded[row] = data
    return encoded


def _encode_webp(pixels: npt.NDArray[np.uint8], side: int, quality: int) -> str:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    if image.width > side:
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
