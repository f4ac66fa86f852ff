"""The products of the drawn shop: what each is, what its texts say of it, what its picture shows.

In: how many, a generator. Out: `DemoProduct`s; image, texts, brand and price each carry part of the hidden style.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from recsys.data.demo.canvas import Canvas, Colour, mix
from recsys.data.demo.patterns import PATTERNS
from recsys.data.demo.shapes_clothing import Paint
from recsys.data.demo.styles import FAMILIES, GENERAL_BRANDS, KINDS, PATTERN_NAMES, STYLES, Family, ProductKind, Style

DAYS = 90
"""Length of the shop's log."""
NEW_SHARE = 0.1
"""Share of the products, and of the users, that came in the last week."""

_FAMILY = {family.english: family for family in FAMILIES}
_LONG_BEFORE = -200


@dataclass(frozen=True)
class DemoProduct:
    """One product with what is hidden about it.

    Attributes:
        number: 0..n-1.
        kind, style, family, pattern, second: what is drawn.
        ground: the shade of the family it has.
        brand: None = not stated.
        dear: price over the middle of its kind, as a logarithm.
        price: in euro.
        launched: day it came into the shop, 0 = first day of the log, negative = before.
        leader: number of the product it is a colour variant of; its own for most.
        cut: seed of the drawing.
    """

    number: int
    kind: ProductKind
    style: Style
    family: Family
    pattern: str
    second: Family
    ground: Colour
    brand: str | None
    dear: float
    price: float
    material: int
    launched: int
    leader: int
    cut: int


def generate_products(count: int, g: np.random.Generator) -> list[DemoProduct]:
    """Make up `count` products: kinds and styles evenly, every fourth a colour variant of an earlier one."""
    new = set(g.choice(count, max(1, round(count * NEW_SHARE)), replace=False).tolist())
    goods: list[DemoProduct] = []
    for number in range(count):
        kind, style = KINDS[number % len(KINDS)], STYLES[int(g.integers(len(STYLES)))]
        launched = int(g.integers(DAYS - 7, DAYS - 1)) if number in new else int(g.integers(_LONG_BEFORE, 50))
        leader = number
        earlier = [good for good in goods if good.kind is kind and good.leader == good.number]
        model = goods[earlier[int(g.integers(len(earlier)))].number] if earlier and g.random() < 0.25 else None
        pattern, brand, dear, material, cut = _looks(kind, style, g)
        if model is not None:
            style, leader, pattern, brand, dear = model.style, model.number, model.pattern, model.brand, model.dear
            material, cut = model.material, model.cut
        family = _colour(style, g)
        second = (
            _FAMILY["white"]
            if family.english not in ("white", "beige") and g.random() < 0.4
            else _other(style, family, g)
        )
        goods.append(
            DemoProduct(
                number=number, kind=kind, style=style, family=family, pattern=pattern, second=second,
                ground=_shade(family, g), brand=brand, dear=dear, price=_price(kind.price * float(np.exp(dear))),
                material=material, launched=launched, leader=leader, cut=cut,
            )
        )  # fmt: skip
    return goods


def draw_product(good: DemoProduct) -> Image.Image:
    """Draw a product: shape, colour and pattern show."""
    g = np.random.default_rng(good.cut)
    white = _FAMILY["white"].shades[0]
    second = good.second.shades[0] if good.second is not good.family else mix(good.ground, white, 0.6)
    fill = PATTERNS[good.pattern](good.ground, second, g)
    # A hint of colour on the wall, so that white things stand out.
    wall = mix((250, 248, 245), second if good.family.english in ("white", "beige") else good.ground, 0.07)
    canvas = Canvas(wall)
    good.kind.draw(canvas, Paint(fill, good.ground, second, g))
    return canvas.render(tilt=float(g.uniform(-3, 3)))


def texts(good: DemoProduct, g: np.random.Generator) -> tuple[str, str | None]:
    """Write title and description; both languages occur, neither always, and not everything seen is said.

    Returns:
        The title, and the description (None = missing).
    """
    colour = g.random() < 0.6
    pattern = g.random() < 0.5 and good.pattern != "plain"
    material = g.random() < 0.7
    mood = good.style.moods[int(g.integers(3))]
    if g.random() < 0.12:  # a phrase of another style: words alone mislead sometimes
        mood = STYLES[int(g.integers(len(STYLES)))].moods[int(g.integers(3))]
    titles: list[str] = []
    sentences: list[str] = []
    for language, nouns in enumerate((good.kind.english, good.kind.chinese)):
        noun = nouns[int(g.integers(len(nouns)))]
        stuff = good.kind.materials[good.material][language]
        hue = good.family.chinese if language else good.family.english
        parts = [hue] * colour + [PATTERN_NAMES[good.pattern][language]] * pattern + [stuff] * material
        joint, stop = ("", "。") if language else (" ", ".")
        title = joint.join([*parts, noun])
        titles.append(title[0].upper() + title[1:])
        said = (f"{stuff}{noun}，{mood[1]}" if language else f"{stuff} {noun}, {mood[0]}") + stop
        sentences.append(said[0].upper() + said[1:])
    first = 0 if g.random() < 0.68 else 1
    kept = g.random()
    if kept < 0.06:
        return titles[first], None
    if kept < 0.2:
        return titles[first], sentences[first]
    if kept < 0.45:
        return titles[first], sentences[1 - first]
    return titles[first], f"{sentences[first]} {sentences[1 - first]}"


def attributes(good: DemoProduct, g: np.random.Generator) -> dict[str, str]:
    """State some attributes; each is missing now and then."""
    season = "summer" if good.kind.trend > 0.6 else "winter" if good.kind.trend < -0.9 else "all year"
    stated = {
        "colour": (good.family.english, 0.55),
        "variety" if good.kind.again else "material": (good.kind.materials[good.material][0], 0.85),
        "season": (season, 0.9),
    }
    return {name: value for name, (value, share) in stated.items() if g.random() < share}


def _looks(kind: ProductKind, style: Style, g: np.random.Generator) -> tuple[str, str | None, float, int, int]:
    pattern = str(g.choice(list(style.patterns), p=list(style.patterns.values())))
    if g.random() < 0.1:
        pattern = str(g.choice(list(PATTERN_NAMES)))
    cheap = int(g.random() < 0.5)
    general = g.random() < 0.25
    brand: str | None = GENERAL_BRANDS[int(g.integers(len(GENERAL_BRANDS)))] if general else style.brands[cheap]
    level = 0.0 if general else (0.42, -0.42)[cheap]
    dear = level + float(g.normal(0, 0.16))
    if g.random() < 0.1:
        brand = None
    return pattern, brand, dear, int(g.integers(len(kind.materials))), int(g.integers(2**31))


def _colour(style: Style, g: np.random.Generator) -> Family:
    if g.random() < 0.12:
        return FAMILIES[int(g.integers(len(FAMILIES)))]
    return _FAMILY[style.colours[int(g.choice(len(style.colours), p=[0.36, 0.28, 0.21, 0.15]))]]


def _other(style: Style, family: Family, g: np.random.Generator) -> Family:
    others = [_FAMILY[name] for name in style.colours if name != family.english]
    return others[int(g.integers(len(others)))]


def _shade(family: Family, g: np.random.Generator) -> Colour:
    red, green, blue = (
        int(np.clip(value + g.integers(-9, 10), 0, 255)) for value in family.shades[int(g.integers(len(family.shades)))]
    )
    return red, green, blue


def _price(amount: float) -> float:
    return round(max(1.0, round(amount)) - 0.01, 2) if amount > 12 else round(round(amount * 2) / 2 - 0.05, 2)
