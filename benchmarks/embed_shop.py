"""A project whose products are made up: texts of made-up words, brands, prices, three attributes, and vectors.

In: a folder, a number of products, a seed. Out: the project as `train` and `embed` would leave it, in less time: the
encoder is not trained and the vectors are drawn.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import torch
from blind import directions

from recsys.config import load
from recsys.data.catalogue import Catalogue, Images
from recsys.data.id_map import IdMap
from recsys.encoder import serialization as checkpoint
from recsys.encoder.model import Model
from recsys.encoder.product_encoder import ProductEncoder
from recsys.pipeline.ingest import IngestRequest, ingest
from recsys.pipeline.init import init_project
from recsys.pipeline.project import Project
from recsys.vectors.embeddings.table import EmbeddingTable

LEARNED_FROM = 2000
"""Products the vocabularies are made of."""
_WORDS = ["".join(parts) for parts in product(("ba", "ko", "ri", "te", "mu"), ("ran", "del", "mi"), ("", "o", "en"))]


def make(folder: Path, n: int, seed: int) -> None:
    """Make the project in `folder`."""
    init_project(folder)
    with Project(load(folder, env={})) as bench:
        ingest(bench, IngestRequest.from_options([], frames={"products": products(n, seed)}))
        bench.reload()
        catalogue, settings = bench.catalogue, bench.settings.encoder
        torch.manual_seed(seed)
        some = min(n, LEARNED_FROM)
        first = Catalogue(
            IdMap(catalogue.ids.texts[:some]),
            catalogue.frame[:some],
            catalogue.sellable[:some].copy(),
            Images.empty(some),
        )
        model = Model(product_encoder=ProductEncoder.fit(first, settings), user_encoder=None, settings=settings)
        checkpoint.save(model, bench.models_folder / "encoder")
        vectors, hashes = directions((n, settings.dim), seed), catalogue.hashes(model.columns)
        EmbeddingTable(catalogue.ids, vectors, hashes, model.content_version).save(bench.embeddings_folder)


def products(n: int, seed: int) -> pl.DataFrame:
    """Products (n, 8): title, description, brand, category, price, availability and three attributes."""
    g = np.random.default_rng(seed)
    words = np.array(_WORDS)

    def texts(length: int) -> list[str]:
        return [" ".join(row) for row in words[g.integers(len(words), size=(n, length))]]

    looks = zip(*(g.integers(0, most, n).tolist() for most in (40, 15, 20)), strict=True)
    return pl.DataFrame(
        {
            "product_id": [f"{row:07d}" for row in range(n)],
            "title": texts(6),
            "description": texts(30),
            "brand": [f"Brand {name}" for name in g.integers(0, 300, n).tolist()],
            "category": [f"Category {name}" for name in g.integers(0, 60, n).tolist()],
            "price": np.round(g.lognormal(3, 1, n), 2),
            "available": [True] * n,
            "attributes": [
                json.dumps({"colour": f"colour {a}", "material": f"m{b}", "size": 30 + c}) for a, b, c in looks
            ],
        }
    )
