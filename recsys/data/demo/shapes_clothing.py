"""Draw clothes and shoes from outlines.

In: canvas and paint of one product. Out: the drawing on the canvas; proportions vary at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from recsys.data.demo.canvas import Canvas, Colour, Point, box, ellipse, mirror, mix, path

WHITE: Colour = (246, 244, 239)
RUBBER: Colour = (232, 229, 220)
WOOD: Colour = (176, 132, 92)
DARK: Colour = (38, 34, 40)


@dataclass(frozen=True)
class Paint:
    """Colours and pattern of a product.

    Attributes:
        fill: image of the pattern, of the size of the drawing.
        ground: main colour.
        second: colour of the print.
        g: random generator for the proportions.
    """

    fill: Image.Image
    ground: Colour
    second: Colour
    g: np.random.Generator

    @property
    def edge(self) -> Colour:
        """A darker shade of the main colour, for contours."""
        return mix(self.ground, DARK, 0.5)

    @property
    def deep(self) -> Colour:
        """A slightly darker shade of the main colour, for insides and trims."""
        return mix(self.ground, DARK, 0.28)


def t_shirt(c: Canvas, p: Paint) -> None:
    """Draw a T-shirt with short or half sleeves."""
    sleeve_length = p.g.uniform(0.0, 0.06)
    body = mirror(
        path(
            "M 0.5 0.245 Q 0.43 0.245 0.4 0.18 L 0.33 0.2 "
            f"Q 0.25 0.23 0.21 0.3 L {0.115 - sleeve_length / 2} {0.45 + sleeve_length} "
            f"L {0.235 - sleeve_length / 3} {0.52 + sleeve_length} L 0.3 0.43 L 0.29 0.85 L 0.5 0.86"
        )
    )
    c.layer(mirror(path("M 0.5 0.175 L 0.4 0.18 Q 0.43 0.25 0.5 0.25")), p.deep)
    c.layer(body, p.fill, edge=p.edge)
    c.line(mirror(path("M 0.4 0.18 Q 0.43 0.255 0.5 0.257"))[:-1], p.deep, width=0.02)
    _draw_seam(c, path("M 0.3 0.43 L 0.31 0.34"), p)


def shirt(c: Canvas, p: Paint) -> None:
    """Draw a shirt with collar, buttons and long sleeves."""
    sleeve = path("M 0.34 0.2 Q 0.25 0.22 0.22 0.3 L 0.115 0.76 L 0.205 0.79 L 0.31 0.44")
    for side in (sleeve, _flip_horizontally(sleeve)):
        c.layer(side, p.fill, edge=p.edge)
    c.layer(
        mirror(path("M 0.5 0.2 L 0.4 0.17 L 0.31 0.215 L 0.3 0.45 L 0.29 0.86 Q 0.4 0.89 0.5 0.87")),
        p.fill,
        edge=p.edge,
    )
    c.line([(0.5, 0.27), (0.5, 0.87)], p.edge, width=0.008)
    collar = path("M 0.405 0.15 L 0.5 0.235 L 0.44 0.31 L 0.365 0.2")
    for side in (collar, _flip_horizontally(collar)):
        c.layer(side, mix(p.ground, WHITE, 0.25), edge=p.edge, relief=0.15)
    for y in np.linspace(0.34, 0.8, 5).tolist():
        c.dot(0.5, y, 0.012, mix(WHITE, p.second, 0.2))
    if p.g.random() < 0.6:
        c.line(path("M 0.58 0.4 L 0.67 0.4 L 0.67 0.48 L 0.625 0.5 L 0.58 0.48 L 0.58 0.4"), p.edge, width=0.007)


def dress(c: Canvas, p: Paint) -> None:
    """Draw a dress with a waist, short or long, wide or narrow."""
    hem_y, half_width = p.g.uniform(0.78, 0.92), p.g.uniform(0.16, 0.26)
    has_straps = p.g.random() < 0.4
    neck = (
        "M 0.5 0.25 Q 0.43 0.24 0.415 0.14 L 0.385 0.14"
        if has_straps
        else "M 0.5 0.235 Q 0.43 0.23 0.41 0.15 L 0.34 0.17"
    )
    sleeve = "Q 0.39 0.25 0.35 0.31" if has_straps else "L 0.24 0.3 L 0.315 0.35 L 0.35 0.31"
    upper = mirror(path(f"{neck} {sleeve} Q 0.38 0.4 0.395 0.47 L 0.5 0.47"))
    skirt_part = mirror(
        path(f"M 0.5 0.46 L 0.395 0.46 Q 0.36 0.6 {0.5 - half_width} {hem_y} Q 0.4 {hem_y + 0.035} 0.5 {hem_y + 0.03}")
    )
    c.layer(skirt_part, p.fill, edge=p.edge)
    c.layer(upper, p.fill, edge=p.edge)
    for x in (0.43, 0.57):
        c.line([(x, 0.5), (0.5 + (x - 0.5) * 1.9, hem_y - 0.03)], p.deep, width=0.006)
    c.layer(box(0.392, 0.445, 0.608, 0.485), mix(p.second, DARK, 0.15), relief=0.2)


def skirt(c: Canvas, p: Paint) -> None:
    """Draw a pleated skirt, short or long, wide or narrow."""
    hem_y, half_width = p.g.uniform(0.66, 0.86), p.g.uniform(0.24, 0.36)
    c.layer(
        mirror(
            path(
                f"M 0.5 0.25 L 0.36 0.25 Q 0.31 0.45 {0.5 - half_width} {hem_y} "
                f"Q 0.4 {hem_y + 0.05} 0.5 {hem_y + 0.045}"
            )
        ),
        p.fill,
        edge=p.edge,
    )
    c.layer(box(0.352, 0.21, 0.648, 0.275), p.deep, edge=p.edge, relief=0.15)
    for share in (-0.6, -0.2, 0.2, 0.6):
        c.line([(0.5 + share * 0.14, 0.3), (0.5 + share * half_width, hem_y + 0.01)], p.deep, width=0.007)


def trousers(c: Canvas, p: Paint) -> None:
    """Draw trousers with straight or tapered legs, or shorts."""
    hem_y = 0.9 if p.g.random() < 0.75 else p.g.uniform(0.55, 0.62)
    outer_x, inner_x = p.g.uniform(0.27, 0.31), p.g.uniform(0.41, 0.45)
    leg = path(f"M 0.5 0.16 L 0.35 0.16 L {outer_x} {hem_y} L {inner_x} {hem_y + 0.01} L 0.5 0.42")
    c.layer(mirror(leg), p.fill, edge=p.edge)
    c.layer(box(0.345, 0.135, 0.655, 0.195), p.deep, edge=p.edge, relief=0.15)
    c.line([(0.5, 0.2), (0.5, 0.41)], p.edge, width=0.008)
    pocket = path("M 0.36 0.22 Q 0.42 0.24 0.43 0.3")
    for side in (pocket, _flip_horizontally(pocket)):
        c.line(side, p.edge, width=0.008)
    c.dot(0.5, 0.165, 0.014, mix(WHITE, p.second, 0.4))


def jumper(c: Canvas, p: Paint) -> None:
    """Draw a knitted jumper with ribbed cuffs."""
    sleeve = path("M 0.34 0.22 Q 0.23 0.24 0.2 0.34 L 0.12 0.74 L 0.22 0.765 L 0.31 0.48")
    cuff = path("M 0.112 0.73 L 0.1 0.8 L 0.205 0.82 L 0.225 0.755")
    for part, fill in ((sleeve, p.fill), (cuff, p.deep)):
        for side in (part, _flip_horizontally(part)):
            c.layer(side, fill, edge=p.edge)
    c.layer(
        mirror(path("M 0.5 0.19 L 0.41 0.185 L 0.32 0.225 L 0.3 0.48 L 0.285 0.82 L 0.5 0.825")),
        p.fill,
        edge=p.edge,
        relief=0.36,
    )
    c.layer(mirror(path("M 0.5 0.81 L 0.285 0.81 L 0.3 0.87 L 0.5 0.875")), p.deep, edge=p.edge, relief=0.15)
    collar_y = p.g.uniform(0.12, 0.16)
    c.layer(
        mirror(path(f"M 0.5 {collar_y} L 0.42 {collar_y} L 0.395 0.2 Q 0.44 0.25 0.5 0.25")),
        p.deep,
        edge=p.edge,
        relief=0.2,
    )
    for x in np.linspace(0.32, 0.68, 13).tolist():
        c.line([(x, 0.825), (x, 0.862)], p.edge, width=0.005)


def sneakers(c: Canvas, p: Paint) -> None:
    """Draw a sports shoe, low or high, seen from the side."""
    ankle_y = 0.3 if p.g.random() < 0.35 else 0.42
    c.shadow(0.5, 0.745, 0.42)
    upper = path(
        f"M 0.13 0.66 L 0.13 {ankle_y + 0.03} Q 0.2 {ankle_y} 0.3 {ankle_y} Q 0.36 {ankle_y + 0.06} 0.42 0.47 "
        "Q 0.55 0.555 0.72 0.575 Q 0.87 0.59 0.88 0.67"
    )
    c.layer(upper, p.fill, edge=p.edge)
    c.layer(
        path("M 0.66 0.57 Q 0.87 0.58 0.885 0.67 L 0.69 0.675 Q 0.7 0.61 0.66 0.57"),
        mix(WHITE, p.second, 0.15),
        edge=p.edge,
    )
    c.layer(path(f"M 0.13 {ankle_y + 0.03} L 0.225 {ankle_y + 0.01} L 0.24 0.66 L 0.13 0.66"), p.deep, relief=0.2)
    c.layer(
        path("M 0.1 0.65 L 0.89 0.65 Q 0.92 0.68 0.89 0.73 L 0.13 0.73 Q 0.09 0.7 0.1 0.65"),
        RUBBER,
        edge=mix(RUBBER, DARK, 0.4),
        relief=0.2,
    )
    c.line([(0.12, 0.69), (0.9, 0.69)], p.second if p.g.random() < 0.5 else p.ground, width=0.012)
    for x, y in ((0.4, 0.475), (0.46, 0.515), (0.52, 0.545), (0.58, 0.57)):
        c.line([(x, y), (x - 0.055, y + 0.06)], WHITE, width=0.018)


def boots(c: Canvas, p: Paint) -> None:
    """Draw an ankle or high boot, seen from the side."""
    top_y = p.g.uniform(0.14, 0.34)
    heel_y = p.g.uniform(0.8, 0.84)
    c.shadow(0.52, 0.855, 0.34)
    sole = mix(DARK, WOOD, 0.3)
    c.layer(
        path(f"M 0.27 0.76 L 0.27 {heel_y + 0.01} L 0.42 {heel_y + 0.01} L 0.46 0.79 L 0.8 0.81 Q 0.83 0.78 0.8 0.755"),
        sole,
        relief=0.2,
    )
    shaft = path(
        f"M 0.28 {top_y} Q 0.39 {top_y - 0.02} 0.5 {top_y} L 0.51 0.5 Q 0.53 0.6 0.64 0.63 "
        "Q 0.8 0.66 0.815 0.765 L 0.27 0.765 Q 0.25 0.6 0.28 0.5"
    )
    c.layer(shaft, p.fill, edge=p.edge)
    c.layer(
        path(f"M 0.275 {top_y - 0.005} L 0.505 {top_y - 0.005} L 0.505 {top_y + 0.05} L 0.275 {top_y + 0.05}"),
        p.deep,
        edge=p.edge,
        relief=0.15,
    )
    if p.g.random() < 0.5:
        for y in np.linspace(top_y + 0.1, 0.55, 5).tolist():
            c.line([(0.44, y), (0.515, y + 0.015)], WHITE, width=0.012)
    else:
        c.layer(path("M 0.36 0.47 Q 0.4 0.56 0.36 0.66 L 0.46 0.66 Q 0.43 0.56 0.46 0.47"), p.deep, relief=0.1)


def sandals(c: Canvas, p: Paint) -> None:
    """Draw a pair of sandals, seen from above."""
    foot = path(
        "M 0.3 0.13 Q 0.45 0.12 0.455 0.3 Q 0.44 0.48 0.44 0.6 Q 0.45 0.84 0.33 0.86 "
        "Q 0.2 0.84 0.225 0.62 Q 0.23 0.5 0.18 0.36 Q 0.16 0.17 0.3 0.13"
    )
    has_crossed_straps = p.g.random() < 0.5
    for is_mirrored in (False, True):
        outline = _flip_horizontally(foot) if is_mirrored else foot
        c.layer(outline, mix(WOOD, WHITE, 0.25), edge=mix(WOOD, DARK, 0.45))
        straps = (
            (
                path("M 0.17 0.3 L 0.44 0.46 L 0.445 0.56 L 0.18 0.4"),
                path("M 0.45 0.26 L 0.2 0.46 L 0.22 0.55 L 0.45 0.38"),
            )
            if has_crossed_straps
            else (
                path("M 0.17 0.26 L 0.455 0.26 L 0.45 0.4 L 0.185 0.4"),
                path("M 0.225 0.56 L 0.44 0.56 L 0.44 0.66 L 0.225 0.66"),
            )
        )
        for strap in straps:
            c.layer(_flip_horizontally(strap) if is_mirrored else strap, p.fill, edge=p.edge, relief=0.2)


def hat(c: Canvas, p: Paint) -> None:
    """Draw a hat with a brim, or a cap."""
    if p.g.random() < 0.55:
        brim_radius = p.g.uniform(0.32, 0.42)
        c.shadow(0.5, 0.7, brim_radius)
        c.layer(ellipse(0.5, 0.64, brim_radius, 0.085), p.fill, edge=p.edge)
        c.layer(mirror(path("M 0.5 0.3 Q 0.33 0.27 0.3 0.62 Q 0.4 0.67 0.5 0.67")), p.fill, edge=p.edge)
        c.layer(
            mirror(path("M 0.5 0.6 Q 0.38 0.6 0.305 0.55 L 0.298 0.625 Q 0.4 0.675 0.5 0.675")),
            mix(p.second, DARK, 0.2),
            relief=0.2,
        )
    else:
        c.shadow(0.52, 0.68, 0.36)
        c.layer(path("M 0.6 0.58 Q 0.86 0.56 0.93 0.67 Q 0.78 0.66 0.6 0.66"), p.deep, edge=p.edge)
        c.layer(
            path("M 0.17 0.65 Q 0.16 0.3 0.44 0.29 Q 0.7 0.29 0.71 0.63 Q 0.45 0.58 0.17 0.65"), p.fill, edge=p.edge
        )
        _draw_seam(c, path("M 0.44 0.29 Q 0.5 0.44 0.49 0.6"), p)
        c.dot(0.44, 0.29, 0.02, p.deep)


def scarf(c: Canvas, p: Paint) -> None:
    """Draw a knotted scarf with fringes."""
    end_y = p.g.uniform(0.72, 0.82)
    ends = (
        (path(f"M 0.38 0.38 L 0.31 {end_y} L 0.47 {end_y + 0.03} L 0.53 0.4"), 0.31),
        (path(f"M 0.48 0.38 L 0.56 {end_y - 0.08} L 0.71 {end_y - 0.11} L 0.61 0.37"), 0.56),
    )
    for outline, _ in ends:
        c.layer(outline, p.fill, edge=p.edge)
    for x in np.linspace(0.315, 0.465, 7).tolist():
        c.line([(x, end_y + 0.01), (x - 0.005, end_y + 0.075)], p.deep, width=0.009)
    for x in np.linspace(0.565, 0.705, 7).tolist():
        c.line([(x, end_y - 0.085), (x + 0.01, end_y - 0.025)], p.deep, width=0.009)
    c.layer(
        path("M 0.2 0.27 Q 0.5 0.09 0.8 0.27 Q 0.82 0.4 0.72 0.42 Q 0.5 0.5 0.28 0.42 Q 0.18 0.4 0.2 0.27"),
        p.fill,
        edge=p.edge,
        relief=0.4,
    )
    c.layer(path("M 0.33 0.27 Q 0.5 0.2 0.67 0.27 Q 0.5 0.33 0.33 0.27"), p.deep, edge=p.edge)
    c.layer(
        path("M 0.4 0.36 Q 0.5 0.33 0.6 0.37 Q 0.62 0.47 0.5 0.48 Q 0.39 0.47 0.4 0.36"),
        p.fill,
        edge=p.edge,
        relief=0.4,
    )


def _flip_horizontally(points: list[Point]) -> list[Point]:
    return [(1 - x, y) for x, y in points]


def _draw_seam(c: Canvas, points: list[Point], p: Paint) -> None:
    c.line(points, p.deep, width=0.006)
