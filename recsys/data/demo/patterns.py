"""Fabric patterns of demo products: plain, stripes, dots, checks, flowers, zigzag, triangles.

In: two colours, a random generator for scale and position. Out: a fill of the size of the drawing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from recsys.data.demo.canvas import PAPER, Colour, mix

Pattern = Callable[[Colour, Colour, np.random.Generator], Image.Image]


def plain(ground: Colour, _second: Colour, g: np.random.Generator) -> Image.Image:
    """One colour with the faint grain of cloth."""
    grain = g.normal(0, 3.0, (PAPER // 3, PAPER // 3, 1)).repeat(3, 0).repeat(3, 1)
    cloth = np.clip(np.asarray(ground)[None, None, :] + grain, 0, 255)
    return Image.fromarray(cloth.round().astype(np.uint8))


def stripes(ground: Colour, second: Colour, g: np.random.Generator) -> Image.Image:
    """Horizontal or, more rarely, vertical stripes."""
    cloth, pen = _sheet(ground)
    step = int(g.integers(30, 52))
    width = int(step * g.uniform(0.34, 0.5))
    is_vertical = g.random() < 0.3
    for start in range(int(g.integers(0, step)) - step, PAPER, step):
        area = (start, 0, start + width, PAPER) if is_vertical else (0, start, PAPER, start + width)
        pen.rectangle(area, fill=second)
    return cloth


def dots(ground: Colour, second: Colour, g: np.random.Generator) -> Image.Image:
    """Polka dots in offset rows."""
    cloth, pen = _sheet(ground)
    step = int(g.integers(36, 58))
    radius = step * g.uniform(0.2, 0.3)
    for row, y in enumerate(range(0, PAPER + step, step)):
        for x in range(-(step // 2) * (row % 2), PAPER + step, step):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=second)
    return cloth


def checks(ground: Colour, second: Colour, g: np.random.Generator) -> Image.Image:
    """Gingham with a thin line in between."""
    cloth, _ = _sheet(ground)
    step = int(g.integers(44, 66))
    offset = np.arange(PAPER) % step
    band = (offset < step * 0.45).astype(float)
    line = (np.abs(offset - step * 0.72) < 2.5).astype(float)
    share = np.clip((band[:, None] + band[None, :]) * 0.45 + (line[:, None] + line[None, :]) * 0.7, 0, 1)[..., None]
    woven = np.asarray(ground)[None, None, :] * (1 - share) + np.asarray(second)[None, None, :] * share
    cloth.paste(Image.fromarray(woven.round().astype(np.uint8)))
    return cloth


def floral(ground: Colour, second: Colour, g: np.random.Generator) -> Image.Image:
    """Blossoms of five petals with leaves, scattered."""
    cloth, pen = _sheet(ground)
    leaf = mix((82, 128, 74), ground, 0.25)
    step = 62
    for row, y in enumerate(range(10, PAPER + step, step)):
        for x in range(-(step // 2) * (row % 2), PAPER + step, step):
            middle_x, middle_y = x + g.uniform(-9, 9), y + g.uniform(-9, 9)
            size, turn = g.uniform(9, 14), g.uniform(0, 2 * np.pi)
            for side in (0.9, 2.6):
                leaf_x, leaf_y = (
                    middle_x + 2.1 * size * np.cos(turn + side),
                    middle_y + 2.1 * size * np.sin(turn + side),
                )
                pen.line((middle_x, middle_y, leaf_x, leaf_y), fill=leaf, width=5)
                pen.ellipse((leaf_x - 6, leaf_y - 6, leaf_x + 6, leaf_y + 6), fill=leaf)
            for petal in range(5):
                angle = turn + petal * 2 * np.pi / 5
                petal_x, petal_y = middle_x + size * np.cos(angle), middle_y + size * np.sin(angle)
                reach = size * 0.72
                pen.ellipse((petal_x - reach, petal_y - reach, petal_x + reach, petal_y + reach), fill=second)
            heart = size * 0.5
            pen.ellipse((middle_x - heart, middle_y - heart, middle_x + heart, middle_y + heart), fill=(243, 205, 92))
    return cloth


def zigzag(ground: Colour, second: Colour, g: np.random.Generator) -> Image.Image:
    """Chevrons from edge to edge."""
    cloth, pen = _sheet(ground)
    step, rise = int(g.integers(40, 58)), int(g.integers(20, 32))
    width = int(step * 0.32)
    for y in range(-step, PAPER + step, step):
        corners = [(x, y + (rise if index % 2 else 0)) for index, x in enumerate(range(0, PAPER + rise, rise))]
        pen.line(corners, fill=second, width=width, joint="curve")
    return cloth


def triangles(ground: Colour, second: Colour, g: np.random.Generator) -> Image.Image:
    """A geometric print of triangles, some in a third tone."""
    cloth, pen = _sheet(ground)
    step = int(g.integers(46, 64))
    third = mix(second, ground, 0.5)
    for row, y in enumerate(range(0, PAPER + step, step)):
        for x in range(-(step // 2) * (row % 2), PAPER + step, step):
            fill = second if g.random() < 0.62 else third
            pen.polygon([(x, y + step * 0.8), (x + step * 0.8, y + step * 0.8), (x + step * 0.4, y + step * 0.1)], fill)
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


def _sheet(ground: Colour) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    cloth = Image.new("RGB", (PAPER, PAPER), ground)
    return cloth, ImageDraw.Draw(cloth)
