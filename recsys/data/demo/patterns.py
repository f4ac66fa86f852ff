"""Draw the fabric patterns of demo products: plain, stripes, dots, checks, flowers, zigzag, triangles.

In: two colours, random generator for scale and position. Out: a fill of the size of the drawing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from recsys.data.demo.canvas import PAPER, Colour, mix

Pattern = Callable[[Colour, Colour, np.random.Generator], Image.Image]
"""Function that draws a pattern in a ground and a second colour; scale and position are random."""


def plain(ground: Colour, _second: Colour, g: np.random.Generator) -> Image.Image:
    """Draw one colour with the faint grain of cloth."""
    grain = g.normal(0, 3.0, (PAPER // 3, PAPER // 3, 1)).repeat(3, 0).repeat(3, 1)
    cloth = np.clip(np.asarray(ground)[None, None, :] + grain, 0, 255)
    return Image.fromarray(cloth.round().astype(np.uint8))


def stripes(ground: Colour, second: Colour, g: np.random.Generator) -> Image.Image:
    """Draw horizontal or, more rarely, vertical stripes."""
    cloth, draw = _create_cloth(ground)
    step = int(g.integers(30, 52))
    width = int(step * g.uniform(0.34, 0.5))
    is_vertical = g.random() < 0.3
    for start in range(int(g.integers(0, step)) - step, PAPER, step):
        stripe = (start, 0, start + width, PAPER) if is_vertical else (0, start, PAPER, start + width)
        draw.rectangle(stripe, fill=second)
    return cloth


def dots(ground: Colour, second: Colour, g: np.random.Generator) -> Image.Image:
    """Draw polka dots in offset rows."""
    cloth, draw = _create_cloth(ground)
    step = int(g.integers(36, 58))
    radius = step * g.uniform(0.2, 0.3)
    for row, y in enumerate(range(0, PAPER + step, step)):
        for x in range(-(step // 2) * (row % 2), PAPER + step, step):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=second)
    return cloth


def checks(ground: Colour, second: Colour, g: np.random.Generator) -> Image.Image:
    """Draw gingham checks with a thin line in each gap."""
    cloth, _ = _create_cloth(ground)
    step = int(g.integers(44, 66))
    offset = np.arange(PAPER) % step
    band = (offset < step * 0.45).astype(float)
    thin_line = (np.abs(offset - step * 0.72) < 2.5).astype(float)
    second_share = np.clip(
        (band[:, None] + band[None, :]) * 0.45 + (thin_line[:, None] + thin_line[None, :]) * 0.7, 0, 1
    )[..., None]
    blended = np.asarray(ground)[None, None, :] * (1 - second_share) + np.asarray(second)[None, None, :] * second_share
    cloth.paste(Image.fromarray(blended.round().astype(np.uint8)))
    return cloth


def floral(ground: Colour, second: Colour, g: np.random.Generator) -> Image.Image:
    """Draw scattered flowers of five petals with two leaves each."""
    cloth, draw = _create_cloth(ground)
    leaf_colour = mix((82, 128, 74), ground, 0.25)
    step = 62
    for row, y in enumerate(range(10, PAPER + step, step)):
        for x in range(-(step // 2) * (row % 2), PAPER + step, step):
            centre_x, centre_y = x + g.uniform(-9, 9), y + g.uniform(-9, 9)
            size, rotation = g.uniform(9, 14), g.uniform(0, 2 * np.pi)
            for leaf_angle in (0.9, 2.6):
                leaf_x, leaf_y = (
                    centre_x + 2.1 * size * np.cos(rotation + leaf_angle),
                    centre_y + 2.1 * size * np.sin(rotation + leaf_angle),
                )
                draw.line((centre_x, centre_y, leaf_x, leaf_y), fill=leaf_colour, width=5)
                draw.ellipse((leaf_x - 6, leaf_y - 6, leaf_x + 6, leaf_y + 6), fill=leaf_colour)
            for petal in range(5):
                angle = rotation + petal * 2 * np.pi / 5
                petal_x, petal_y = centre_x + size * np.cos(angle), centre_y + size * np.sin(angle)
                petal_radius = size * 0.72
                draw.ellipse(
                    (petal_x - petal_radius, petal_y - petal_radius, petal_x + petal_radius, petal_y + petal_radius),
                    fill=second,
                )
            centre_radius = size * 0.5
            draw.ellipse(
                (
                    centre_x - centre_radius,
                    centre_y - centre_radius,
                    centre_x + centre_radius,
                    centre_y + centre_radius,
                ),
                fill=(243, 205, 92),
            )
    return cloth


def zigzag(ground: Colour, second: Colour, g: np.random.Generator) -> Image.Image:
    """Draw chevrons from edge to edge."""
    cloth, draw = _create_cloth(ground)
    step, rise = int(g.integers(40, 58)), int(g.integers(20, 32))
    width = int(step * 0.32)
    for y in range(-step, PAPER + step, step):
        corners = [(x, y + (rise if index % 2 else 0)) for index, x in enumerate(range(0, PAPER + rise, rise))]
        draw.line(corners, fill=second, width=width, joint="curve")
    return cloth


def triangles(ground: Colour, second: Colour, g: np.random.Generator) -> Image.Image:
    """Draw a geometric print of triangles; some have a third colour, a mix of both."""
    cloth, draw = _create_cloth(ground)
    step = int(g.integers(46, 64))
    third_colour = mix(second, ground, 0.5)
    for row, y in enumerate(range(0, PAPER + step, step)):
        for x in range(-(step // 2) * (row % 2), PAPER + step, step):
            fill = second if g.random() < 0.62 else third_colour
            draw.polygon(
                [(x, y + step * 0.8), (x + step * 0.8, y + step * 0.8), (x + step * 0.4, y + step * 0.1)], fill
            )
    return cloth


PATTERNS: dict[str, Pattern] = {
    "plain": plain,
    "stripes": stripes,
    "dots": dots,
    "checks": checks,
    "floral": floral,
    "zigzag": zigzag,
    "triangles": triangles,
}
"""All patterns by name."""


def _create_cloth(ground: Colour) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    cloth = Image.new("RGB", (PAPER, PAPER), ground)
    return cloth, ImageDraw.Draw(cloth)
