"""Draw bags, household products and consumables from outlines.

In: canvas and paint of one product. Out: the drawing on the canvas; proportions vary at random.
"""

from __future__ import annotations

import numpy as np

from recsys.data.demo.canvas import Canvas, Colour, box, ellipse, mirror, mix, path
from recsys.data.demo.shapes_clothing import DARK, WHITE, WOOD, Paint

METAL: Colour = (190, 186, 178)
GOLD: Colour = (196, 160, 92)


def handbag(c: Canvas, p: Paint) -> None:
    """Draw a handbag with two handles, wide or tall, with a flap or a band at the top."""
    top_y, half_width = p.g.uniform(0.42, 0.5), p.g.uniform(0.26, 0.34)
    c.shadow(0.5, 0.86, half_width + 0.05)
    for lift, colour in ((0.05, p.edge), (0.0, p.deep)):
        c.line(
            path(
                f"M 0.36 {top_y + 0.02} Q 0.38 {0.16 - lift} 0.5 {0.16 - lift} Q 0.62 {0.16 - lift} 0.64 {top_y + 0.02}"
            ),
            colour,
            width=0.032,
        )
    c.layer(
        mirror(
            path(
                f"M 0.5 {top_y} L {0.5 - half_width} {top_y} "
                f"Q {0.48 - half_width} 0.7 {0.45 - half_width} 0.83 Q {0.47 - half_width} 0.86 0.5 0.86"
            )
        ),
        p.fill,
        edge=p.edge,
    )
    if p.g.random() < 0.5:
        c.layer(
            mirror(
                path(
                    f"M 0.5 {top_y - 0.005} L {0.495 - half_width} {top_y - 0.005} "
                    f"L {0.5 - half_width} {top_y + 0.13} Q 0.4 {top_y + 0.2} 0.5 {top_y + 0.2}"
                )
            ),
            p.deep,
            edge=p.edge,
        )
        c.layer(box(0.465, top_y + 0.16, 0.535, top_y + 0.23), GOLD, edge=mix(GOLD, DARK, 0.4))
    else:
        c.layer(
            box(0.497 - half_width, top_y - 0.01, 0.503 + half_width, top_y + 0.045), p.deep, edge=p.edge, relief=0.15
        )


def backpack(c: Canvas, p: Paint) -> None:
    """Draw a backpack with a front pocket."""
    c.shadow(0.5, 0.875, 0.3)
    c.line(path("M 0.43 0.18 Q 0.44 0.1 0.5 0.1 Q 0.56 0.1 0.57 0.18"), p.edge, width=0.03)
    for side in (-1, 1):
        c.line([(0.5 + side * 0.27, 0.4), (0.5 + side * 0.315, 0.6), (0.5 + side * 0.27, 0.82)], p.edge, width=0.03)
    c.layer(mirror(path("M 0.5 0.15 Q 0.26 0.14 0.245 0.4 L 0.23 0.82 Q 0.24 0.875 0.5 0.875")), p.fill, edge=p.edge)
    c.layer(
        mirror(path("M 0.5 0.53 L 0.32 0.53 Q 0.3 0.56 0.3 0.62 L 0.31 0.8 Q 0.33 0.82 0.5 0.82")),
        p.deep,
        edge=p.edge,
    )
    c.line(path("M 0.3 0.33 Q 0.5 0.2 0.7 0.33"), p.edge, width=0.012)
    c.line([(0.34, 0.59), (0.66, 0.59)], METAL, width=0.012)
    c.dot(0.63, 0.605, 0.016, METAL)


def umbrella(c: Canvas, p: Paint) -> None:
    """Draw an open umbrella with a crook handle."""
    c.line(path("M 0.5 0.2 L 0.5 0.8 Q 0.5 0.9 0.58 0.9 Q 0.65 0.89 0.645 0.82"), WOOD, width=0.03)
    c.line([(0.5, 0.1), (0.5, 0.17)], METAL, width=0.018)
    canopy = path(
        "M 0.08 0.54 Q 0.12 0.15 0.5 0.14 Q 0.88 0.15 0.92 0.54 Q 0.85 0.47 0.78 0.54 Q 0.71 0.47 0.64 0.54 "
        "Q 0.57 0.47 0.5 0.54 Q 0.43 0.47 0.36 0.54 Q 0.29 0.47 0.22 0.54 Q 0.15 0.47 0.08 0.54"
    )
    c.layer(canopy, p.fill, edge=p.edge)
    for curve in (
        "M 0.5 0.14 Q 0.26 0.25 0.22 0.54",
        "M 0.5 0.14 Q 0.4 0.3 0.36 0.54",
        "M 0.5 0.14 Q 0.6 0.3 0.64 0.54",
        "M 0.5 0.14 Q 0.74 0.25 0.78 0.54",
    ):
        c.line(path(curve), p.edge, width=0.006)


def mug(c: Canvas, p: Paint) -> None:
    """Draw a mug, straight or bellied."""
    bulge = p.g.uniform(-0.02, 0.045)
    c.shadow(0.46, 0.81, 0.28)
    c.line(path("M 0.68 0.4 Q 0.88 0.38 0.87 0.54 Q 0.86 0.7 0.67 0.69"), p.edge, width=0.062)
    c.line(path("M 0.68 0.4 Q 0.88 0.38 0.87 0.54 Q 0.86 0.7 0.67 0.69"), p.ground, width=0.045)
    c.layer(
        path(f"M 0.21 0.3 Q {0.21 - bulge} 0.58 0.25 0.77 Q 0.46 0.85 0.67 0.77 Q {0.71 + bulge} 0.58 0.71 0.3"),
        p.fill,
        edge=p.edge,
        relief=0.42,
    )
    c.layer(ellipse(0.46, 0.3, 0.25, 0.06), mix(p.ground, WHITE, 0.45), edge=p.edge, relief=0.1)
    c.layer(ellipse(0.46, 0.312, 0.215, 0.043), (92, 60, 42), relief=0.2)


def teapot(c: Canvas, p: Paint) -> None:
    """Draw a round teapot with lid and spout."""
    c.shadow(0.5, 0.81, 0.3)
    c.line(path("M 0.29 0.46 Q 0.08 0.4 0.1 0.56 Q 0.12 0.7 0.3 0.68"), p.edge, width=0.055)
    c.line(path("M 0.29 0.46 Q 0.08 0.4 0.1 0.56 Q 0.12 0.7 0.3 0.68"), p.ground, width=0.038)
    c.layer(path("M 0.7 0.66 Q 0.82 0.6 0.83 0.43 L 0.93 0.4 Q 0.9 0.66 0.72 0.76"), p.ground, edge=p.edge)
    half_width = p.g.uniform(0.24, 0.28)
    c.layer(ellipse(0.5, 0.59, half_width, 0.215), p.fill, edge=p.edge, relief=0.42)
    c.layer(path("M 0.36 0.41 Q 0.5 0.27 0.64 0.41 Q 0.5 0.45 0.36 0.41"), p.deep, edge=p.edge)
    c.dot(0.5, 0.31, 0.036, p.edge)
    c.dot(0.49, 0.302, 0.026, p.ground)


def lamp(c: Canvas, p: Paint) -> None:
    """Draw a table lamp with a cloth shade and a foot of wood or brass."""
    foot = WOOD if p.g.random() < 0.5 else GOLD
    c.shadow(0.5, 0.875, 0.2)
    if p.g.random() < 0.5:
        c.layer(mirror(path("M 0.5 0.5 L 0.47 0.5 Q 0.36 0.68 0.42 0.83 L 0.5 0.83")), foot, edge=mix(foot, DARK, 0.5))
    else:
        c.line([(0.5, 0.48), (0.5, 0.85)], foot, width=0.045)
    c.layer(ellipse(0.5, 0.855, 0.15, 0.032), foot, edge=mix(foot, DARK, 0.5))
    top_half_width = p.g.uniform(0.12, 0.22)
    c.layer(
        path(f"M {0.5 - top_half_width} 0.14 L {0.5 + top_half_width} 0.14 L 0.8 0.52 Q 0.5 0.57 0.2 0.52"),
        p.fill,
        edge=p.edge,
        relief=0.25,
    )
    c.layer(path("M 0.2 0.52 Q 0.5 0.57 0.8 0.52 Q 0.5 0.5 0.2 0.52"), (255, 236, 178), relief=0.0)


def cushion(c: Canvas, p: Paint) -> None:
    """Draw a cushion with piping."""
    c.shadow(0.5, 0.83, 0.35)
    c.layer(
        path("M 0.14 0.19 Q 0.5 0.25 0.86 0.19 Q 0.8 0.5 0.86 0.82 Q 0.5 0.76 0.14 0.82 Q 0.2 0.5 0.14 0.19"),
        p.fill,
        edge=p.edge,
        relief=0.5,
    )
    c.line(
        path("M 0.17 0.215 Q 0.5 0.275 0.83 0.215 Q 0.77 0.5 0.83 0.795 Q 0.5 0.735 0.17 0.795 Q 0.23 0.5 0.17 0.215"),
        p.second,
        width=0.012,
    )


def vase(c: Canvas, p: Paint) -> None:
    """Draw a vase with three flowers."""
    c.shadow(0.5, 0.885, 0.2)
    for tip_x, tip_y in ((0.33, 0.15), (0.52, 0.09), (0.68, 0.17)):
        c.line(path(f"M 0.5 0.45 Q 0.49 0.3 {tip_x} {tip_y}"), (92, 130, 84), width=0.014)
        for share in (0.0, 0.45):
            c.dot(
                tip_x + (0.5 - tip_x) * share * 0.6,
                tip_y + share * 0.2,
                0.034 - share * 0.02,
                mix((222, 130, 124), p.second, 0.35),
            )
    neck_radius, belly_radius = p.g.uniform(0.07, 0.11), p.g.uniform(0.16, 0.24)
    c.layer(
        mirror(
            path(
                f"M 0.5 0.38 L {0.47 - neck_radius} 0.38 Q {0.5 - neck_radius} 0.47 {0.5 - belly_radius} 0.62 "
                f"Q {0.5 - belly_radius} 0.8 0.4 0.885 L 0.5 0.885"
            )
        ),
        p.fill,
        edge=p.edge,
        relief=0.45,
    )
    c.layer(ellipse(0.5, 0.385, neck_radius + 0.03, 0.018), p.deep, relief=0.0)


def coffee(c: Canvas, p: Paint) -> None:
    """Draw a bag of coffee with a label."""
    c.shadow(0.5, 0.895, 0.26)
    c.layer(
        path("M 0.28 0.2 L 0.72 0.2 Q 0.74 0.55 0.76 0.88 Q 0.5 0.905 0.24 0.88 Q 0.26 0.55 0.28 0.2"),
        p.fill,
        edge=p.edge,
        relief=0.35,
    )
    c.layer(box(0.27, 0.12, 0.73, 0.22), p.deep, edge=p.edge, relief=0.2)
    c.line([(0.29, 0.17), (0.71, 0.17)], METAL, width=0.018)
    c.layer(ellipse(0.5, 0.55, 0.155, 0.155), WHITE, edge=p.edge, relief=0.1)
    for x, turn in ((0.455, 1), (0.55, -1)):
        c.layer(ellipse(x, 0.55, 0.045, 0.075), (96, 62, 42), relief=0.3)
        c.line(
            [(x - 0.012 * turn, 0.49), (x + 0.014 * turn, 0.55), (x - 0.012 * turn, 0.61)], (196, 160, 130), width=0.008
        )


def tea(c: Canvas, p: Paint) -> None:
    """Draw a tin of tea."""
    c.shadow(0.5, 0.87, 0.27)
    c.layer(path("M 0.25 0.3 L 0.25 0.83 Q 0.5 0.9 0.75 0.83 L 0.75 0.3"), p.fill, edge=p.edge, relief=0.45)
    c.layer(
        path("M 0.235 0.22 L 0.235 0.33 Q 0.5 0.4 0.765 0.33 L 0.765 0.22"),
        METAL,
        edge=mix(METAL, DARK, 0.4),
        relief=0.4,
    )
    c.layer(ellipse(0.5, 0.22, 0.265, 0.065), mix(METAL, WHITE, 0.5), edge=mix(METAL, DARK, 0.4), relief=0.15)
    c.layer(box(0.36, 0.48, 0.64, 0.72), WHITE, edge=p.edge, relief=0.1)
    c.layer(path("M 0.42 0.66 Q 0.42 0.52 0.58 0.53 Q 0.59 0.67 0.42 0.66"), (98, 142, 84), relief=0.2)
    c.line([(0.41, 0.68), (0.55, 0.56)], (60, 96, 58), width=0.008)


def soap(c: Canvas, p: Paint) -> None:
    """Draw a bar of soap in a paper sleeve."""
    c.shadow(0.5, 0.73, 0.38)
    bar = mix(p.ground, WHITE, 0.55)
    c.layer(
        path(
            "M 0.13 0.42 Q 0.13 0.33 0.22 0.33 L 0.78 0.33 Q 0.87 0.33 0.87 0.42 "
            "L 0.87 0.66 Q 0.87 0.73 0.78 0.73 L 0.22 0.73 Q 0.13 0.73 0.13 0.66"
        ),
        bar,
        edge=mix(bar, DARK, 0.35),
        relief=0.35,
    )
    c.layer(box(0.27, 0.325, 0.73, 0.735), p.fill, edge=p.edge, relief=0.25)
    c.layer(ellipse(0.5, 0.53, 0.13, 0.1), WHITE, edge=p.edge, relief=0.1)
    c.line(path("M 0.42 0.53 Q 0.46 0.47 0.5 0.53 Q 0.54 0.59 0.58 0.53"), p.edge, width=0.012)
    for x, y, radius in ((0.2, 0.25, 0.035), (0.28, 0.2, 0.022), (0.82, 0.24, 0.028)):
        c.dot(x, y, radius, mix(WHITE, p.ground, 0.18))
        c.dot(x - radius * 0.3, y - radius * 0.3, radius * 0.3, (255, 255, 255))


def candle(c: Canvas, p: Paint) -> None:
    """Draw a candle in a printed glass."""
    c.shadow(0.5, 0.86, 0.24)
    c.layer(path("M 0.29 0.42 L 0.31 0.82 Q 0.5 0.88 0.69 0.82 L 0.71 0.42"), p.fill, edge=p.edge, relief=0.42)
    c.layer(ellipse(0.5, 0.42, 0.21, 0.05), (250, 240, 218), edge=p.edge, relief=0.15)
    c.line([(0.5, 0.42), (0.5, 0.34)], DARK, width=0.014)
    c.layer(
        path("M 0.5 0.15 Q 0.6 0.28 0.56 0.33 Q 0.5 0.39 0.44 0.33 Q 0.41 0.27 0.5 0.15"), (247, 176, 66), relief=0.2
    )
    c.layer(
        path("M 0.5 0.23 Q 0.545 0.3 0.525 0.33 Q 0.5 0.36 0.475 0.33 Q 0.46 0.29 0.5 0.23"),
        (255, 238, 160),
        relief=0.0,
    )
    c.layer(box(0.385, 0.56, 0.615, 0.72), WHITE, edge=p.edge, relief=0.1)
    for y in (0.61, 0.66):
        c.line([(0.42, y), (0.58, y)], p.edge, width=0.01)


def chocolate(c: Canvas, p: Paint) -> None:
    """Draw a bar of chocolate, half unwrapped."""
    brown: Colour = (104, 64, 42) if p.g.random() < 0.6 else (150, 98, 62)
    c.shadow(0.5, 0.9, 0.25)
    c.layer(box(0.29, 0.1, 0.71, 0.45), brown, edge=mix(brown, DARK, 0.5), relief=0.2)
    for column in np.linspace(0.305, 0.575, 3).tolist():
        for row in (0.12, 0.25):
            c.layer(
                box(column, row, column + 0.12, row + 0.115),
                mix(brown, WHITE, 0.1),
                edge=mix(brown, DARK, 0.35),
                relief=0.4,
            )
    c.layer(
        path(
            "M 0.27 0.4 L 0.34 0.37 L 0.4 0.41 L 0.47 0.37 L 0.54 0.41 "
            "L 0.6 0.37 L 0.67 0.41 L 0.73 0.38 L 0.73 0.9 L 0.27 0.9"
        ),
        p.fill,
        edge=p.edge,
        relief=0.25,
    )
    c.layer(box(0.34, 0.57, 0.66, 0.73), WHITE, edge=p.edge, relief=0.1)
    c.line([(0.39, 0.65), (0.61, 0.65)], p.edge, width=0.016)
