"""Products of the demo shop, with their texts, attributes and images.

In: number of products, random generator. Out: `DemoProduct`s; image, texts, brand and price each depend on the
hidden style.
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
"""Length of the event log in days."""
NEW_SHARE = 0.1
"""Share of products and of users that are new in the last week."""

_FAMILY_BY_NAME = {family.english: family for family in FAMILIES}
_EARLIEST_LAUNCH_DAY = -200


@dataclass(frozen=True)
class DemoProduct:
    """A product with its hidden properties.

    Attributes:
        number: 0..n-1.
        kind, style, family, pattern, second: the properties that the image shows; `second` is the colour of the print.
        ground: main colour, a shade of `family`.
        brand: the brand, None if missing.
        price_level: log of the price relative to the typical price of the kind.
        price: price in euro.
        material: index into the materials of the kind.
        launched: day of the launch, 0 = first day of the log, negative = before.
        leader: number of the product of which this is a colour variant; its own number if it is no variant.
        drawing_seed: seed of the drawing.
    """

    number: int
    kind: ProductKind
    style: Style
    family: Family
    pattern: str
    second: Family
    ground: Colour
    brand: str | None
    price_level: float
    price: float
    material: int
    launched: int
    leader: int
    drawing_seed: int


def generate_products(count: int, g: np.random.Generator) -> list[DemoProduct]:
    """Generate products of all kinds and styles; about a quarter are colour variants of earlier ones.

    Args:
        count: number of products, n.
        g: random generator.
    """
    new_numbers = set(g.choice(count, max(1, round(count * NEW_SHARE)), replace=False).tolist())
    products: list[DemoProduct] = []
    for number in range(count):
        kind, style = KINDS[number % len(KINDS)], STYLES[int(g.integers(len(STYLES)))]
        launched = (
            int(g.integers(DAYS - 7, DAYS - 1)) if number in new_numbers else int(g.integers(_EARLIEST_LAUNCH_DAY, 50))
        )
        leader = number
        leaders = [product for product in products if product.kind is kind and product.leader == product.number]
        leader_product = (
            products[leaders[int(g.integers(len(leaders)))].number] if leaders and g.random() < 0.25 else None
        )
        pattern, brand, price_level, material, drawing_seed = _sample_properties(kind, style, g)
        if leader_product is not None:
            style, leader, pattern, brand, price_level = (
                leader_product.style,
                leader_product.number,
                leader_product.pattern,
                leader_product.brand,
                leader_product.price_level,
            )
            material, drawing_seed = leader_product.material, leader_product.drawing_seed
        family = _sample_colour(style, g)
        second = (
            _FAMILY_BY_NAME["white"]
            if family.english not in ("white", "beige") and g.random() < 0.4
            else _sample_second_colour(style, family, g)
        )
        products.append(
            DemoProduct(
                number=number, kind=kind, style=style, family=family, pattern=pattern, second=second,
                ground=_sample_shade(family, g), brand=brand, price_level=price_level,
                price=_round_price(kind.price * float(np.exp(price_level))), material=material, launched=launched,
                leader=leader, drawing_seed=drawing_seed,
            )
        )  # fmt: skip
    return products


def draw_product(product: DemoProduct) -> Image.Image:
    """Draw a product with its shape, colours and pattern.

    Returns:
        RGB image, `canvas.SIZE` pixels square.
    """
    rng = np.random.default_rng(product.drawing_seed)
    white = _FAMILY_BY_NAME["white"].shades[0]
    second = product.second.shades[0] if product.second is not product.family else mix(product.ground, white, 0.6)
    fill = PATTERNS[product.pattern](product.ground, second, rng)
    # The background is slightly tinted, so that white products are visible.
    background = mix((250, 248, 245), second if product.family.english in ("white", "beige") else product.ground, 0.07)
    canvas = Canvas(background)
    product.kind.draw(canvas, Paint(fill, product.ground, second, rng))
    return canvas.render(tilt=float(rng.uniform(-3, 3)))


def texts(product: DemoProduct, g: np.random.Generator) -> tuple[str, str | None]:
    """Generate title and description in English or Chinese; not all properties are mentioned.

    Returns:
        The title, and the description (None = missing).
    """
    has_colour = g.random() < 0.6
    has_pattern = g.random() < 0.5 and product.pattern != "plain"
    has_material = g.random() < 0.7
    mood = product.style.moods[int(g.integers(3))]
    if g.random() < 0.12:  # a phrase of a random style, so that words alone are sometimes misleading
        mood = STYLES[int(g.integers(len(STYLES)))].moods[int(g.integers(3))]
    titles: list[str] = []
    sentences: list[str] = []
    for language, nouns in enumerate((product.kind.english, product.kind.chinese)):
        noun = nouns[int(g.integers(len(nouns)))]
        material = product.kind.materials[product.material][language]
        colour = product.family.chinese if language else product.family.english
        pattern = PATTERN_NAMES[product.pattern][language]
        parts = [colour] * has_colour + [pattern] * has_pattern + [material] * has_material
        separator, stop = ("", "。") if language else (" ", ".")
        title = separator.join([*parts, noun])
        titles.append(title[0].upper() + title[1:])
        sentence = (f"{material}{noun}，{mood[1]}" if language else f"{material} {noun}, {mood[0]}") + stop
        sentences.append(sentence[0].upper() + sentence[1:])
    main_language = 0 if g.random() < 0.68 else 1
    description_case = g.random()
    if description_case < 0.06:
        return titles[main_language], None
    if description_case < 0.2:
        return titles[main_language], sentences[main_language]
    if description_case < 0.45:
        return titles[main_language], sentences[1 - main_language]
    return titles[main_language], f"{sentences[main_language]} {sentences[1 - main_language]}"


def attributes(product: DemoProduct, g: np.random.Generator) -> dict[str, str]:
    """Generate the attributes of a product; each is missing at random."""
    season = "summer" if product.kind.trend > 0.6 else "winter" if product.kind.trend < -0.9 else "all year"
    values = {
        "colour": (product.family.english, 0.55),
        "variety" if product.kind.again else "material": (product.kind.materials[product.material][0], 0.85),
        "season": (season, 0.9),
    }
    return {name: value for name, (value, share) in values.items() if g.random() < share}


def _sample_properties(
    kind: ProductKind, style: Style, rng: np.random.Generator
) -> tuple[str, str | None, float, int, int]:
    pattern = str(rng.choice(list(style.patterns), p=list(style.patterns.values())))
    if rng.random() < 0.1:
        pattern = str(rng.choice(list(PATTERN_NAMES)))
    is_cheap = int(rng.random() < 0.5)
    is_general = rng.random() < 0.25
    brand: str | None = GENERAL_BRANDS[int(rng.integers(len(GENERAL_BRANDS)))] if is_general else style.brands[is_cheap]
    mean_level = 0.0 if is_general else (0.42, -0.42)[is_cheap]
    price_level = mean_level + float(rng.normal(0, 0.16))
    if rng.random() < 0.1:
        brand = None
    return pattern, brand, price_level, int(rng.integers(len(kind.materials))), int(rng.integers(2**31))


def _sample_colour(style: Style, rng: np.random.Generator) -> Family:
    if rng.random() < 0.12:
        return FAMILIES[int(rng.integers(len(FAMILIES)))]
    return _FAMILY_BY_NAME[style.colours[int(rng.choice(len(style.colours), p=[0.36, 0.28, 0.21, 0.15]))]]


def _sample_second_colour(style: Style, family: Family, rng: np.random.Generator) -> Family:
    other_families = [_FAMILY_BY_NAME[name] for name in style.colours if name != family.english]
    return other_families[int(rng.integers(len(other_families)))]


def _sample_shade(family: Family, rng: np.random.Generator) -> Colour:
    red, green, blue = (
        int(np.clip(value + rng.integers(-9, 10), 0, 255))
        for value in family.shades[int(rng.integers(len(family.shades)))]
    )
    return red, green, blue


def _round_price(amount: float) -> float:
    return round(max(1.0, round(amount)) - 0.01, 2) if amount > 12 else round(round(amount * 2) / 2 - 0.05, 2)
