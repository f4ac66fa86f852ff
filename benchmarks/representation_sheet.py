"""A sheet of pictures for people to look at: some products and some texts, and what lies nearest to each.

In: a `Divided`, a trained model, the pictures. Out: one picture, a row a query.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from representation_measures import nearest
from representation_parts import Divided

from recsys.config import ImageSettings
from recsys.data.catalogue import Images
from recsys.data.image_store import ImageStore
from recsys.encoder.model import Model

TEXTS = (
    "black leather handbag",
    "red dress",
    "blue jeans for men",
    "white running shoes",
    "gold earrings",
    "formal striped shirt",
    "brown sunglasses",
    "watch with a black dial",
    "printed kurta",
    "green flip flops",
)
QUERIES = NEIGHBOURS = 10
SIDE, _LINES, _LETTERS = 96, 3, 17
_LINE = 11


def draw(
    shop: Divided, model: Model, out: Path, *, sources: Sequence[Path], work: Path, seed: int, texts: Sequence[str]
) -> None:
    """Write the sheet.

    Args:
        shop: products; the queries are held back, the answers were learned from.
        model: what is looked at.
        out: where the picture goes; its ending tells the format.
        sources: zips or folders of pictures.
        work: pictures of the size of the sheet are kept here.
        seed: of the choice of products.
        texts: queries.
    """
    known = shop.train.take(shop.train.pictured)
    vectors = model.encode(known.catalogue, np.arange(len(known)))
    g = np.random.default_rng((seed, 13))
    some = shop.test.take(np.sort(g.choice(len(shop.test), min(QUERIES, len(shop.test)), replace=False)))
    queries = np.concatenate([model.encode(some.catalogue, np.arange(len(some))), model.encode_text(list(texts))])
    found = nearest(queries, vectors, NEIGHBOURS)
    shown = known.take(np.unique(found))
    store = ImageStore(work / f"pictures-{SIDE}", ImageSettings(size=SIDE))
    store.add(list(sources), {}, also=[*some.catalogue.ids.texts, *shown.catalogue.ids.texts])
    height = SIDE + _LINES * _LINE + 6
    sheet = Image.new("RGB", ((NEIGHBOURS + 1) * (SIDE + 6) + 8, len(found) * height), "white")
    pen = ImageDraw.Draw(sheet)
    asked, answers = store.images(some.catalogue.ids), store.images(known.catalogue.ids)
    names = (some.texts, known.texts)
    for number, rows in enumerate(found):
        top = number * height
        if number < len(some):
            _put(sheet, asked, number, (2, top))
            _write(pen, names[0][number], (2, top + SIDE))
        else:
            _write(pen, texts[number - len(some)], (2, top + SIDE // 2))
        for place, row in enumerate(rows.tolist(), 1):
            left = 8 + place * (SIDE + 6)
            _put(sheet, answers, row, (left, top))
            _write(pen, names[1][row], (left, top + SIDE))
    pen.line((SIDE + 8, 0, SIDE + 8, sheet.height), fill="black")
    sheet.save(out)


def _put(sheet: Image.Image, pictures: Images, row: int, at: tuple[int, int]) -> None:
    pixels = pictures.take(np.array([row]))[0].transpose(1, 2, 0)
    sheet.paste(Image.fromarray(np.ascontiguousarray(pixels)), at)


def _write(pen: ImageDraw.ImageDraw, text: str, at: tuple[int, int]) -> None:
    """A few short lines; what does not fit is left out."""
    font, lines = ImageFont.load_default(9), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines[-1:] = [longer] if len(longer) <= _LETTERS else [lines[-1], word]
    for number, line in enumerate([line for line in lines if line][:_LINES]):
        pen.text((at[0], at[1] + number * _LINE), line[:_LETTERS], fill="black", font=font)
