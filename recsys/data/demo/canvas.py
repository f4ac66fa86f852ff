"""Draw products from outlines as antialiased images with soft shading.

In: outlines in the unit square (0, 0 = top left), written like SVG paths; fills, colours. Out: an RGB image.
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
"""Side of the drawing in pixels; it is downsampled to the image, which smooths all edges."""

_CURVE_STEPS = 14


def path(text: str) -> list[Point]:
    """Parse an outline `M x y L x y Q cx cy x y ...` (move, line, quadratic curve) into points."""
    tokens = text.split()
    points: list[Point] = []
    position = 0
    while position < len(tokens):
        command = tokens[position]
        n_numbers = 4 if command == "Q" else 2
        numbers = [float(token) for token in tokens[position + 1 : position + 1 + n_numbers]]
        position += 1 + n_numbers
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
    """Return the closed outline of a symmetric shape.

    Args:
        half: left half of the outline, from top to bottom.
    """
    return [*half, *((1 - x, y) for x, y in reversed(half))]


def ellipse(x: float, y: float, width: float, height: float) -> list[Point]:
    """Return the outline of an ellipse.

    Args:
        x: centre, from the left.
        y: centre, from the top.
        width: horizontal half axis.
        height: vertical half axis.
    """
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return list(zip((x + width * np.cos(angle)).tolist(), (y + height * np.sin(angle)).tolist(), strict=True))


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
        self._drawing = _create_background(backdrop)

    def shadow(self, x: float, y: float, width: float, height: float = 0.025) -> None:
        """Draw a soft shadow under the product.

        Args:
            x: centre, from the left.
            y: centre, from the top.
            width: horizontal half axis.
            height: vertical half axis.
        """
        shadow_mask = _draw_mask(ellipse(x, y, width, height)).filter(ImageFilter.GaussianBlur(PAPER * 0.018))
        shadow_colour = Image.new("RGB", self._drawing.size, (70, 66, 72))
        self._drawing.paste(shadow_colour, mask=shadow_mask.point(lambda value: value * 0.42))

    def layer(
        self, outline: Sequence[Point], fill: Image.Image | Colour, *, edge: Colour | None = None, relief: float = 0.3
    ) -> None:
        """Draw a filled outline.

        Args:
            outline: points of a closed outline.
            fill: a colour, or a pattern of the size of the drawing.
            edge: colour of the contour, None = no contour.
            relief: darkness of the edge away from the light, 0..1; 0 = flat.
        """
        mask = _draw_mask(outline)
        bounds = mask.getbbox()
        if bounds is None:
            return
        fill_image = Image.new("RGB", self._drawing.size, fill) if isinstance(fill, tuple) else fill
        region, region_mask = fill_image.crop(bounds), mask.crop(bounds)
        if relief:
            region = ImageChops.multiply(region, _compute_light(region_mask, relief))
        self._drawing.paste(region, bounds[:2], region_mask)
        if edge is not None:
            self.line([*outline, outline[0]], edge, width=0.009)

    def line(self, points: Sequence[Point], colour: Colour, *, width: float = 0.011) -> None:
        """Draw an open line with rounded joints.

        Args:
            points: points of the line.
            colour: colour of the line.
            width: width of the line; the drawing is 1 wide.
        """
        draw = ImageDraw.Draw(self._drawing)
        draw.line(_scale_points(points), fill=colour, width=max(1, round(width * PAPER)), joint="curve")

    def dot(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Draw a small disc, for example a button, a hole or a highlight."""
        radius_px = radius * PAPER
        ImageDraw.Draw(self._drawing).ellipse(
            (x * PAPER - radius_px, y * PAPER - radius_px, x * PAPER + radius_px, y * PAPER + radius_px), fill=colour
        )

    def render(self, *, tilt: float = 0.0) -> Image.Image:
        """Return the image, SIZE x SIZE pixels, rotated by `tilt` degrees."""
        rotated = self._drawing.rotate(tilt, Image.Resampling.BILINEAR)
        margin = PAPER / 2 * np.sin(np.radians(abs(tilt)))  # cropped: the rotation leaves the corners empty
        return rotated.resize(
            (SIZE, SIZE), Image.Resampling.HAMMING, box=(margin, margin, PAPER - margin, PAPER - margin)
        )


def _scale_points(points: Sequence[Point]) -> list[Point]:
    return [(x * PAPER, y * PAPER) for x, y in points]


def _draw_mask(outline: Sequence[Point]) -> Image.Image:
    mask = Image.new("L", (PAPER, PAPER))
    ImageDraw.Draw(mask).polygon(_scale_points(outline), fill=255)
    return mask


def _compute_light(mask: Image.Image, relief: float) -> Image.Image:
    """Compute light from the top left: the blurred and shifted mask is darker near the opposite edge."""
    radius = round(PAPER * 0.055)
    padded = Image.new("L", (mask.width + 2 * radius, mask.height + 2 * radius))
    padded.paste(mask, (radius, radius))
    blurred = padded.filter(ImageFilter.BoxBlur(radius * 0.7))
    shift = radius // 2
    shifted = blurred.crop((radius + shift, radius + shift, radius + shift + mask.width, radius + shift + mask.height))
    brightness = shifted.point(lambda value: 255 * (1 - relief) + value * relief)
    return Image.merge("RGB", (brightness, brightness, brightness))


def _create_background(colour: Colour) -> Image.Image:
    """Create a background that becomes slightly darker towards the bottom."""
    brightness = np.linspace(1.0, 0.93, PAPER)[:, None, None]
    background = np.broadcast_to(np.asarray(colour)[None, None, :] * brightness, (PAPER, PAPER, 3))
    return Image.fromarray(np.ascontiguousarray(background.round().astype(np.uint8)))
