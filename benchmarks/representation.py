"""What the product encoder's vectors are worth without a label: pictures find texts, neighbours tell attributes.

In: a catalogue and its pictures by path. Out: a table; with --json one line of JSON at the end.

    python benchmarks/representation.py --products styles.parquet --images images_160px.zip

Without --test-products the 1,500 products of docs/benchmarks.md are held back. The asked attributes, and the categories
that give them away, are kept out of all inputs. Two products with the very same title are right for each other.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fashion_shop import Fashion, read
from representation_measures import Found, by_chance, judged, summed_up
from representation_systems import others, ours
from telling import machine, say

from recsys import config
from recsys.config import ImageSettings, Settings
from recsys.data.images import PictureStore
from recsys.encoder.model import Model
from recsys.encoder.train import train_products
from recsys.errors import RecsysError, UsageError

SMALL_PIXELS = 48
QUICK: Mapping[str, Any] = {
    "encoder.dim": 32,
    "encoder.width": 32,
    "encoder.heads": 2,
    "encoder.fusion_layers": 1,
    "encoder.vocabulary": 500,
    "training.epochs": 1,
    "training.min_steps": 1,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--products", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--test-products", type=Path, help="ask about these; default: 1,500 held back of --products")
    parser.add_argument("--test-images", type=Path, help="their pictures; default: in --images")
    parser.add_argument("--pictured-only", action="store_true", help="learn from products with a picture alone")
    parser.add_argument("--only", choices=["recsys"], help="leave out what it is compared with")
    parser.add_argument("--minilm", type=Path, help="folder of all-MiniLM-L6-v2; default: the installed package")
    parser.add_argument("--no-probes", action="store_true", help="leave out the linear probes, which take longest")
    parser.add_argument("--quick", action="store_true", help="few products, hardly any training")
    parser.add_argument("--epochs", type=int, help="passes over the products")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1, help="trainings; low and high are then the extremes")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change any setting; repeatable"
    )
    parser.add_argument("--work", type=Path, help="keep pictures and checkpoints here; default: a temporary folder")
    parser.add_argument("--resume", action="store_true", help="go on with the same trainings found in --work")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def settings_for(asked: argparse.Namespace, *, seed: int, more: Mapping[str, Any] | None = None) -> Settings:
    """The defaults, and what the command line changes; `more` changes on top."""
    flags: dict[str, Any] = {**(QUICK if asked.quick else {}), "training.seed": seed}
    if asked.epochs is not None:
        flags["training.epochs"] = asked.epochs
    for text in asked.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text}: write section.key=value")
        flags[name] = json.loads(value) if value.startswith(("[", "{")) else value
    # Neither a file nor the environment: a benchmark says itself what it measures.
    return config.load(Path("/nonexistent"), flags={**flags, **(more or {})}, env={})


def trained(shop: Fashion, settings: Settings, folder: Path, *, resume: bool) -> tuple[Model, float]:
    """A model of the products to learn from, and how many seconds it took; each setting has a folder of its own."""
    said = settings.model_dump_json(include={"encoder", "objectives", "training", "images"}) + str(len(shop.train))
    started = time.perf_counter()
    model = train_products(
        shop.train.catalogue,
        shop.nobody,
        encoder=settings.encoder,
        objectives=settings.objectives,
        training=settings.training,
        folder=folder / hashlib.sha256(said.encode()).hexdigest()[:10],
        resume=resume,
        progress=False,
    )
    return model, time.perf_counter() - started


def opened(asked: argparse.Namespace, work: Path, images: ImageSettings) -> Fashion:
    return read(
        products=asked.products,
        images=asked.images,
        test_products=asked.test_products,
        test_images=asked.test_images,
        folder=work / f"pictures-{images.size}",
        settings=images,
        pictured_only=asked.pictured_only,
        quick=asked.quick,
    )


def main() -> int:
    asked = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        try:
            return measured(asked, asked.work or Path(temporary))
        except RecsysError as error:
            print(f"representation: {error}", file=sys.stderr)
            return error.exit_code


def measured(asked: argparse.Namespace, work: Path) -> int:
    settings = settings_for(asked, seed=asked.seed)
    shop = opened(asked, work, settings.images)
    texts = shop.test.catalogue.titles(np.arange(len(shop.test)))
    known = shop.train.take(shop.train.pictured).labels
    say(f"{len(shop.train):,} products, {len(shop.train.pictured):,} with a picture; {len(shop.test):,} held back")
    found: dict[str, list[Found]] = {}
    learned: list[dict[str, object]] = []
    for seed in range(asked.seed, asked.seed + asked.seeds):
        settings = settings_for(asked, seed=seed)
        model, seconds = trained(shop, settings, work / "training", resume=asked.resume)
        say(f"seed {seed}: trained in {seconds:.0f} s")
        space = ours(shop, model)
        found.setdefault("recsys", []).append(judged(space, texts, known, shop.test.labels, probes=not asked.no_probes))
        learned.append({"seed": seed, "model": model.version, "seconds": round(seconds, 1), "losses": model.metrics})
    if not asked.only:
        found["chance"] = [by_chance(texts, known, shop.test.labels)]
        store = PictureStore(work / f"pictures-{SMALL_PIXELS}", ImageSettings(size=SMALL_PIXELS))
        sources = [asked.images] if asked.test_images is None else [asked.images, asked.test_images]
        store.add(sources, {}, also=[*shop.train.catalogue.ids.texts, *shop.test.catalogue.ids.texts])
        small = (store.pictures(shop.train.catalogue.ids), store.pictures(shop.test.catalogue.ids))
        for name, space in others(shop, small, seed=asked.seed, given=asked.minilm, say=say):
            say(name)
            found[name] = [judged(space, texts, known, shop.test.labels, probes=not asked.no_probes)]
    rows = [row for name, runs in found.items() for row in summed_up(name, runs)]
    for row in rows:
        print(
            f"{row['system']:28s} {row['slice']:11s} {row['metric']:20s} "
            f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        )
    if asked.json:
        shown = {"benchmark": "representation", "quick": asked.quick, "seeds": asked.seeds, "set": asked.set}
        print(json.dumps({**shown, "rows": rows, "ratios": ratios(rows), "learned": learned, "machine": machine()}))
    return 0


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Ours to each of the others, where both have the figure."""
    own = {(row["metric"], row["slice"]): row["value"] for row in rows if row["system"] == "recsys"}
    return {
        f"{row['metric']} {row['slice']} recsys / {row['system']}": round(own[key] / row["value"], 4)
        for row in rows
        if row["system"] != "recsys" and (key := (row["metric"], row["slice"])) in own and row["value"]
    }


if __name__ == "__main__":
    sys.exit(main())
