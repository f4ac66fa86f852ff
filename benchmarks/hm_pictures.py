"""Search on H&M by pictures that nothing has seen: articles held back whole, their pictures the queries; and by text.

In: articles, transactions, pictures by path. Out: share of the right product type, group and colour among ten answers.

    python benchmarks/hm_pictures.py --articles FILE --transactions FILE... --images ZIP...
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from hm_shop import Shop, add_files, opened
from telling import machine, say

from recsys.config import EncoderSettings, Settings, TrainingSettings
from recsys.data.catalogue import Catalogue, Images
from recsys.data.id_map import IdMap
from recsys.data.interactions import Interactions
from recsys.encoder.training.train import train_products

COLUMNS = {"type": "product_type_name", "group": "product_group_name", "colour": "colour_group_name"}
TEXTS = {
    "black ankle boots": "Boots",
    "red dress": "Dress",
    "blue jeans": "Trousers",
    "gold earrings": "Earring",
    "bikini top": "Bikini top",
    "white bodysuit": "Bodysuit",
    "knitted hat": "Hat/beanie",
    "leather belt": "Belt",
    "striped t-shirt": "T-shirt",
    "sports bra": "Bra",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_files(parser)
    parser.add_argument("--held", type=int, default=500, help="articles held back")
    parser.add_argument("--quick", action="store_true", help="few articles, hardly any training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="keep pictures and checkpoints here; default: a temporary folder")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def without(shop: Shop, held: np.ndarray) -> tuple[Catalogue, Interactions]:
    """The shop as if the held products did not exist."""
    old, log = shop.catalogue, shop.interactions
    kept = np.setdiff1d(np.arange(len(old)), held)
    place = np.full(len(old), -1, np.int64)
    place[kept] = np.arange(len(kept))
    stays = place[log.item] >= 0
    catalogue = Catalogue(
        IdMap(old.ids.ids(kept)),
        old.frame[kept.tolist()],
        old.sellable[kept],
        Images(old.images.pixels, old.images.rows[kept]),
    )
    events = Interactions.from_events(
        user=log.user[stays],
        item=place[log.item[stays]],
        time=log.time[stays],
        n_users=log.n_users,
        n_items=len(kept),
    )
    return catalogue, events


def main() -> int:
    asked = arguments()
    small = EncoderSettings(dim=32, width=32, heads=2, fusion_layers=1, vocabulary=500)
    settings = Settings(training=TrainingSettings(seed=asked.seed))
    if asked.quick:
        settings = Settings(encoder=small, training=TrainingSettings(seed=asked.seed, epochs=1, min_steps=1))
    with tempfile.TemporaryDirectory() as temporary:
        work = asked.work or Path(temporary)
        shop = opened(asked, work, settings.images)
        pictured = np.flatnonzero(shop.catalogue.images.present)
        count = min(asked.held, len(pictured) // 2)
        held = np.sort(np.random.default_rng(asked.seed).choice(pictured, count, replace=False))
        catalogue, events = without(shop, held)
        say(f"train products on {len(catalogue):,}, {count:,} held back")
        model = train_products(
            catalogue,
            events,
            encoder=settings.encoder,
            objectives=settings.objectives,
            training=settings.training,
            folder=work / "held",
            resume=True,
            progress=False,
        )
        vectors = model.encode(catalogue, np.arange(len(catalogue)))
        by_picture = nearest(model.encode_images(shop.catalogue.images.take(held)), vectors)
        by_text = nearest(model.encode_text(list(TEXTS)), vectors)
    rows = []
    for name, column in COLUMNS.items():
        truth = column_of(asked.articles, column, shop.catalogue.ids.ids(held))
        found = column_of(asked.articles, column, catalogue.ids.texts)
        right = found[by_picture] == truth[:, None]
        chance = float(np.mean([(found == one).mean() for one in truth]))
        rows.append(row("recsys", f"{name}@10", float(right.mean()), "pictures held back"))
        rows.append(row("chance", f"{name}@10", chance, "pictures held back"))
    kinds = column_of(asked.articles, COLUMNS["type"], catalogue.ids.texts)
    for at, (text, kind) in enumerate(TEXTS.items()):
        share = float(np.mean([str(one).startswith(kind) for one in kinds[by_text[at]]]))
        rows.append(row("recsys", "type@10", share, text))
    rows.append(row("recsys", "type@10", float(np.mean([r["value"] for r in rows[-len(TEXTS) :]])), "texts"))
    for one in rows:
        print(f"{one['system']:8s} {one['slice']:20s} {one['metric']:10s} {one['value']:.3f}")
    if asked.json:
        result = {"benchmark": "hm_pictures", "quick": asked.quick, "seed": asked.seed, "held": count, "rows": rows}
        value = {(r["system"], r["metric"]): r["value"] for r in rows if r["slice"] == "pictures held back"}
        ratios = {
            f"{name}@10 recsys / chance": round(value["recsys", f"{name}@10"] / value["chance", f"{name}@10"], 3)
            for name in COLUMNS
            if value["chance", f"{name}@10"]
        }
        print(json.dumps({**result, "ratios": ratios, "machine": machine()}))
    return 0


def nearest(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The ten best rows of each query."""
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :10]


def column_of(articles: Path, column: str, ids: Sequence[str]) -> np.ndarray:
    """A column of the articles for some ids, as they stand in the file."""
    frame = pl.read_parquet(articles) if articles.suffix == ".parquet" else pl.read_csv(articles, infer_schema=False)
    held = dict(zip(frame["article_id"].cast(pl.String).to_list(), frame[column].to_list(), strict=True))
    return np.array([held.get(one) for one in ids], object)


def row(system: str, metric: str, value: float, part: str) -> dict[str, object]:
    return {"system": system, "metric": metric, "value": value, "low": None, "high": None, "slice": part}


if __name__ == "__main__":
    sys.exit(main())
