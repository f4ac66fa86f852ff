"""How many passes a shop saves by starting from another shop's encoder: the same products learned both ways.

In: a catalogue and its pictures by path, a model folder of another shop. Out: quality after each number of passes.

    python benchmarks/transfer.py --products styles.parquet --images images_160px.zip --source MODEL --passes 1 2 4

Every length is a training of its own, for the learning rate falls to nothing at the end of each. "Before" is the start
without a step. Measures and products held back are those of representation.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from fashion_shop import opened
from representation_measures import judged, summed_up
from representation_parts import Divided
from representation_systems import ours
from representation_training import add_training, settings_for
from telling import answered, machine, say

from recsys.config import Settings
from recsys.encoder import serialization as checkpoint
from recsys.encoder.model import Model
from recsys.encoder.training.plan import DEFAULT_PLAN, TrainingPlan
from recsys.encoder.training.train import train_products
from recsys.encoder.training.transfer import Transfer

SHOWN = (
    ("i2t_recall@10", "image"),
    ("t2i_recall@10", "text"),
    ("knn20_articleType", "image"),
    ("knn20_articleType", "all"),
    ("knn20_baseColour", "all"),
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--products", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--source", type=Path, required=True, help="model folder of another shop")
    parser.add_argument("--passes", type=int, nargs="+", default=[1, 2, 4], help="over the products, each a training")
    parser.add_argument("--only", choices=["recsys"], help="leave out the trainings from scratch")
    add_training(parser)
    return parser.parse_args()


def main() -> int:
    return answered("transfer", measured, arguments())


def measured(asked: argparse.Namespace, work: Path) -> int:
    settings = settings_for(asked, seed=asked.seed)
    shop = opened(asked, work, settings.images, pictured_only=True)
    source = Transfer(checkpoint.load(asked.source), settings.encoder)
    ways = {"recsys": source.training_plan(), **({} if asked.only else {"from scratch": DEFAULT_PLAN})}
    rows: list[dict[str, Any]] = []
    for name, course in ways.items():
        rows += told(name, "before", begun(shop, settings, course), shop)
        if name == "recsys":
            taken = {f"{part.part} {part.unit}": f"{part.copied} of {part.total}" for part in source.report}
            say(f"taken over: {taken}")
        for passes in asked.passes:
            chosen = settings_for(asked, seed=asked.seed, more={"training.epochs": passes})
            started = time.perf_counter()
            model = train_products(
                shop.train.catalogue,
                shop.nobody,
                encoder=chosen.encoder,
                objectives=chosen.objectives,
                training=chosen.training,
                folder=work / "training" / f"{name.replace(' ', '-')}-{passes}",
                resume=asked.resume,
                progress=False,
                plan=course,
            )
            a_pass = -(-len(shop.train) // (chosen.training.batch_size // 2 * 2))
            steps = max(passes * a_pass, chosen.training.min_steps)
            say(f"{name}: {passes} passes in {time.perf_counter() - started:.0f} s")
            rows += told(name, f"{passes} passes, {steps} steps", model, shop)
    if asked.json:
        held = {(row["system"], row["slice"], row["metric"]): row["value"] for row in rows}
        ratios = {
            f"{metric} {part} recsys / from scratch": round(value / held["from scratch", part, metric], 4)
            for (system, part, metric), value in held.items()
            if system == "recsys" and held.get(("from scratch", part, metric))
        }
        facts = {"benchmark": "transfer", "quick": asked.quick, "seed": asked.seed, "taken": taken}
        print(json.dumps({**facts, "rows": rows, "ratios": ratios, "machine": machine()}))
    return 0


def begun(shop: Divided, settings: Settings, course: TrainingPlan) -> Model:
    """A model at its start, no step taken."""
    torch.manual_seed(settings.training.seed)
    product = course.create_encoder(shop.train.catalogue, settings.encoder).eval()
    return Model(product_encoder=product, user_encoder=None, settings=settings.encoder)


def told(name: str, when: str, model: Model, shop: Divided) -> list[dict[str, Any]]:
    """Rows of the main measures; they are printed too."""
    found = judged(ours(shop, model), shop, probes=False)
    rows = []
    for row in summed_up(name, [{key: value for key, value in found.items() if key in SHOWN}]):
        print(f"{name:14s} {when:20s} {row['metric']:18s} {row['slice']:6s} {row['value']:.3f}")
        rows.append({**row, "metric": f"{row['metric']} {row['slice']}", "slice": when})
    return rows


if __name__ == "__main__":
    sys.exit(main())
