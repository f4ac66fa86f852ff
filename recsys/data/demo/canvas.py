"""Draw products from outlines as antialiased images with soft light.

In: outlines in the unit square (0, 0 = top left) written like SVG paths, fills, colours. Out: an RGB image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Point = tuple[float, float]
Colour = tuple[int, int, int]

SIZE = 128
"""Side of an image in pixels."""
_SCALE = 3
PAPER = SIZE * _SCALE
"""Side of the drawing in pixels; the image is a reduction of it, which smooths all edges."""

_CURVE_STEPS = 14


def path(text: str) -> list[Point]:
    """Return the points of an outline `M x y L x y Q cx cy x y ...` (move, line, quadratic curve)."""
    words = text.split()
    points: list[Point] = []
    position = 0
    while position < len(words):
        command = words[position]
        count = 4 if command == "Q" else 2
        numbers = [float(word) for word in words[position + 1 : position + 1 + count]]
        position += 1 + count
        if command == "Q":
            (x0, y0), (cx, cy, x1, y1) = points[-1], numbers
            for step in range(1, _CURVE_STEPS + 1):
                t = step / _CURVE_STEPS
                s = 1 - t
                points.append((s * s * x0 + 2 * s * t * cx + t * t * x1, s * s * y0 + 2 * s * t * cy + t * t * y1))
        else:
            points.append((numbers[0], numbers[1]))
    return points


def mirror(half: Sequence[Point]) -> list[Point]:
    """Return the closed outline whose left half is given from top to bottom."""
    return [*half, *((1 - x, y) for x, y in reversed(half))]


def ellipse(x: float, y: float, width: float, height: float) -> list[Point]:
    """Return the outline of an ellipse around (x, y) with the given half axes."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return list(zip((x + width * np.cos(turn)).tolist(), (y + height * np.sin(turn)).tolist(), strict=True))


def box(left: float, top: float, right: float, bottom: float) -> list[Point]:
    """Return the outline of a rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Interpolate between two colours: 0 gives the first, 1 the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


class Canvas:
    """The drawing of one product, from back to front.

    Args:
        backdrop: background colour.
    """

    def __init__(self, backdrop: Colour) -> None:
        self._paper = _backdrop(backdrop)

    def shadow(self, x: float, y: float, width: float, height: float = 0.025) -> None:
        """Draw a soft shadow under the product."""
        dark = _mask(ellipse(x, y, width, height)).filter(ImageFilter.GaussianBlur(PAPER * 0.018))
        tone = Image.new("RGB", self._paper.size, (70, 66, 72))
        self._paper.paste(tone, mask=dark.point(lambda value: value * 0.42))

    def layer(
        self, outline: Sequence[Point], fill: Image.Image | Colour, *, edge: Colour | None = None, relief: float = 0.3
    ) -> None:
        """Draw a filled outline.

        Args:
            outline: closed outline.
            fill: a colour, or a pattern of the size of the drawing.
            edge: colour of the contour, None for no contour.
            relief: relative darkness of the far edge; 0 = flat.
        """
        mask = _mask(outline)
        area = mask.getbbox()
        if area is None:
            return
        cloth = Image.new("RGB", self._paper.size, fill) if isinstance(fill, tuple) else fill
        part, part_mask = cloth.crop(area), mask.crop(area)
        if relief:
            part = ImageChops.multiply(part, _light(part_mask, relief))
        self._paper.paste(part, area[:2], part_mask)
        if edge is not None:
            self.line([*outline, outline[0]], edge, width=0.009)

    def line(self, points: Sequence[Point], colour: Colour, *, width: float = 0.011) -> None:
        """Draw an open line with rounded joints."""
        pen = ImageDraw.Draw(self._paper)
        pen.line(_scaled(points), fill=colour, width=max(1, round(width * PAPER)), joint="curve")

    def dot(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Draw a small disc: a button, a hole, a highlight."""
        reach = radius * PAPER
        ImageDraw.Draw(self._paper).ellipse(
            (x * PAPER - reach, y * PAPER - reach, x * PAPER + reach, y * PAPER + reach), fill=colour
        )

    def render(self, *, tilt: float = 0.0) -> Image.Image:
        """Return the image, SIZE x SIZE pixels, rotated by `tilt` degrees."""
        turned = self._paper.rotate(tilt, Image.Resampling.BILINEAR)
        rim = PAPER / 2 * np.sin(np.radians(abs(tilt)))  # crops the corners that the rotation leaves empty
        return turned.resize((SIZE, SIZE), Image.Resampling.HAMMING, box=(rim, rim, PAPER - rim, PAPER - rim))


def _scaled(points: Sequence[Point]) -> list[Point]:
    return [(x * PAPER, y * PAPER) for x, y in points]


def _mask(outline: Sequence[Point]) -> Image.Image:
    mask = Image.new("L", (PAPER, PAPER))
    ImageDraw.Draw(mask).polygon(_scaled(outline), fill=255)
    return mask


def _light(mask: Image.Image, relief: float) -> Image.Image:
    """Return light from the top left: the blurred and shifted mask is darker near the far edge."""
    reach = round(PAPER * 0.055)
    margin = Image.new("L", (mask.width + 2 * reach, mask.height + 2 * reach))
    margin.paste(mask, (reach, reach))
    soft = margin.filter(ImageFilter.BoxBlur(reach * 0.7))
    shift = reach // 2
    seen = soft.crop((reach + shift, reach + shift, reach + shift + mask.width, reach + shift + mask.height))
    tone = seen.point(lambda value: 255 * (1 - relief) + value * relief)
    return Image.merge("RGB", (tone, tone, tone))


def _backdrop(colour: Colour) -> Image.Image:
    """Return a background that becomes a little darker towards the bottom."""
    rows = np.linspace(1.0, 0.93, PAPER)[:, None, None]
    background = np.broadcast_to(np.asarray(colour)[None, None, :] * rows, (PAPER, PAPER, 3))
    return Image.fromarray(np.ascontiguousarray(background.round().astype(np.uint8)))
