"""A tiny shop for the encoder's tests: colour shows in the picture and the attributes, kind in the title.

In: a number of products. Out: catalogue, interactions, small settings.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from recsys.config import EncoderSettings, ObjectiveSettings, TrainingSettings
from recsys.data.catalogue import Catalogue, Images
from recsys.data.id_map import IdMap
from recsys.data.interactions import Interactions
from recsys.encoder.training.train import train_products

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 40, 220), "black": (15, 15, 15)}
KINDS = {"boots": "靴子", "dress": "连衣裙", "shirt": "衬衫"}
ENCODER = EncoderSettings(dim=16, width=16, heads=2, text_tokens=12, vocabulary=300, history=6)
OBJECTIVES = ObjectiveSettings()
TRAINING = TrainingSettings(epochs=2, user_epochs=2, min_steps=1, batch_size=16, user_batch_size=8)


def catalogue(n: int = 48, *, size: int = 16, seed: int = 0) -> Catalogue:
    """Products of every colour and kind in turn; some have no picture, some no text, some no attributes."""
    g = np.random.default_rng(seed)
    names, kinds = list(COLOURS), list(KINDS)
    colour = [names[i % 4] for i in range(n)]
    kind = [kinds[(i // 4) % 3] for i in range(n)]
    has = np.arange(n) % 7 != 6
    pixels = np.full((int(has.sum()), 3, size, size), 255, np.uint8)
    for at, row in enumerate(np.flatnonzero(has)):
        tall = {"boots": size // 3, "dress": size - 4, "shirt": size // 2}[kind[row]]
        pixels[at, :, 2 : 2 + tall, 3:-3] = np.array(COLOURS[colour[row]], np.uint8)[:, None, None]
    frame = pl.DataFrame(
        {
            "product_id": [f"p{i:03d}" for i in range(n)],
            "title": [None if i % 11 == 10 else f"{kind[i]} model{i // 12} {KINDS[kind[i]]}" for i in range(n)],
            "description": [None if i % 3 else f"A fine {kind[i]} for every day" for i in range(n)],
            "brand": [None if i % 5 == 4 else f"Brand{i % 3}" for i in range(n)],
            "category": kind,
            "price": [None if i % 6 == 5 else float(g.lognormal(3, 1)) for i in range(n)],
            "group_id": [f"g{i // 4}" for i in range(n)],
            "attributes.colour": [None if i % 13 == 12 else colour[i] for i in range(n)],
            "attributes.fits": [["summer", "summer | spring", "winter", None][i % 4] for i in range(n)],
            "image_hash": [f"h{i}" if has[i] else None for i in range(n)],
        },
        schema_overrides={"title": pl.String, "price": pl.Float64},
    )
    rows = np.where(has, np.cumsum(has) - 1, -1).astype(np.int64)
    return Catalogue(IdMap(frame["product_id"].to_list()), frame, np.ones(n, bool), Images(pixels, rows))


def interactions(n: int = 48, users: int = 24, *, seed: int = 0) -> Interactions:
    """Each user buys products of one colour, a few a day; the last eight products are never bought."""
    g = np.random.default_rng(seed)
    user, item, time = [], [], []
    for u in range(users):
        liked = [i for i in range(n - 8) if i % 4 == u % 4]
        for at, i in enumerate(g.permutation(liked)[: 2 + u % 7]):
            user.append(u)
            item.append(int(i))
            time.append(1_600_000_000 + 86400 * (at // 2))
    return Interactions.from_events(
        user=np.array(user), item=np.array(item), time=np.array(time), n_users=users + 1, n_items=n
    )


def trained(folder, **changed):
    """A product model trained for a few steps."""
    return train_products(
        catalogue(),
        interactions(),
        encoder=ENCODER,
        objectives=OBJECTIVES,
        training=TRAINING.model_copy(update=changed),
        folder=folder,
        progress=False,
    )
