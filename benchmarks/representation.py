"""What the product encoder's vectors are worth without a label: pictures find texts, neighbours tell attributes.

In: a catalogue and its pictures by path. Out: a table; with --json one line of JSON at the end.

    python benchmarks/representation.py --products styles.parquet --images images_160px.zip

Without --test-products the 1,500 products of docs/benchmarks.md are held back. The asked attributes, and the categories
that give them away, are kept out of all inputs. Two products with the very same title are right for each other; the
metrics named strict count the product alone. Neighbours are those with a picture that were learned from, 20 by cosine,
each with one vote. "Chance" of an attribute is to name the most frequent value.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fashion_shop import opened
from representation_labels import few_labels
from representation_measures import Found, by_chance, judged, summed_up
from representation_sheet import TEXTS, draw
from representation_systems import minilm_folder, others, ours
from representation_training import add_training, settings_for, taken_part, trained
from telling import answered, machine, say

from recsys.encoder.model import Model

MAIN = (
    ("i2t@10", "i2t_recall@10", "image"),
    ("t2i@10", "t2i_recall@10", "text"),
    *(
        (f"{view} {name}", f"knn20_{attribute}", view)
        for view in ("image", "text", "all")
        for name, attribute in (("type", "articleType"), ("colour", "baseColour"), ("gender", "gender"))
    ),
)
"""Heading, metric and view of the short table."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--products", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--test-products", type=Path, help="ask about these; default: 1,500 held back of --products")
    parser.add_argument("--test-images", type=Path, help="their pictures; default: in --images")
    parser.add_argument("--pictured-only", action="store_true", help="learn from products with a picture alone")
    parser.add_argument("--only", choices=["recsys"], help="leave out what it is compared with")
    parser.add_argument("--minilm", type=Path, help="folder of all-MiniLM-L6-v2; default: the installed package")
    parser.add_argument("--no-probes", action="store_true", help="leave out the linear probes, which take longest")
    parser.add_argument("--seeds", type=int, default=1, help="trainings; low and high are then the extremes")
    parser.add_argument("--ablate", action="store_true", help="train once more without each objective")
    parser.add_argument("--few-labels", action="store_true", help="tell types from 1, 5 and 20 labels a class")
    parser.add_argument("--sheet", type=Path, help="draw the nearest of some products and texts into this picture")
    add_training(parser)
    return parser.parse_args()


def main() -> int:
    return answered("representation", measured, arguments())


def measured(asked: argparse.Namespace, work: Path) -> int:
    settings = settings_for(asked, seed=asked.seed)
    shop = opened(asked, work, settings.images, pictured_only=asked.pictured_only)
    minilm = None if asked.only else minilm_folder(asked.minilm)
    sources = [asked.images] if asked.test_images is None else [asked.images, asked.test_images]
    say(f"{len(shop.train):,} products, {len(shop.train.pictured):,} with a picture; {len(shop.test):,} held back")
    found: dict[str, list[Found]] = {}
    learned: list[dict[str, object]] = []

    def one(name: str, seed: int, *, without: str = "") -> Model:
        chosen = settings_for(asked, seed=seed, more={f"objectives.{without}": 0} if without else None)
        model, seconds = trained(shop.train.catalogue, shop.nobody, chosen, work / "training", resume=asked.resume)
        say(f"{name}, seed {seed}: trained in {seconds:.0f} s")
        found.setdefault(name, []).append(judged(ours(shop, model), shop, probes=not asked.no_probes))
        facts = {"model": model.version, "seconds": round(seconds, 1), "losses": model.metrics}
        learned.append({"system": name, "seed": seed, **facts})
        return model

    model = one("recsys", asked.seed)
    for seed in range(asked.seed + 1, asked.seed + asked.seeds):
        one("recsys", seed)
    for name in taken_part(model) if asked.ablate else ():
        one(f"without {name}", asked.seed, without=name)
    if asked.sheet:
        draw(shop, model, asked.sheet, sources=sources, work=work, seed=asked.seed, texts=TEXTS)
    if not asked.only:
        found["chance"] = [by_chance(shop)]
        for name, space in others(shop, sources, work=work, seed=asked.seed, folder=minilm, say=say):
            say(name)
            found[name] = [judged(space, shop, probes=not asked.no_probes)]
    rows = [row for name, runs in found.items() for row in summed_up(name, runs)]
    if asked.few_labels:
        for name, values in few_labels(
            shop, model, settings, say=say, quick=asked.quick, only=bool(asked.only)
        ).items():
            rows += summed_up(name, [values])
    tell(rows)
    if asked.json:
        shown = {"benchmark": "representation", "quick": asked.quick, "seeds": asked.seeds, "set": asked.set}
        counts = {"products": len(shop.train), "pictured": len(shop.train.pictured), "held": len(shop.test)}
        print(
            json.dumps(
                {**shown, **counts, "rows": rows, "ratios": ratios(rows), "learned": learned, "machine": machine()}
            )
        )
    return 0


def tell(rows: Sequence[dict[str, Any]]) -> None:
    """All figures, then the main ones side by side."""
    for row in rows:
        value = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        print(f"{row['system']:36s} {row['slice']:11s} {row['metric']:20s} {value}")
    held = {(row["system"], row["metric"], row["slice"]): row["value"] for row in rows}
    print("\n" + " " * 36 + "".join(f"{heading:>13s}" for heading, _, _ in MAIN))
    for name in dict.fromkeys(str(row["system"]) for row in rows):
        cells = [held.get((name, metric, view)) for _, metric, view in MAIN]
        print(f"{name:36s}" + "".join(f"{'' if cell is None else f'{cell:.3f}':>13s}" for cell in cells))


def ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Ours to each of the others, where both have the figure."""
    own = {(row["metric"], row["slice"]): row["value"] for row in rows if row["system"] == "recsys"}
    return {
        f"{row['metric']} {row['slice']} recsys / {row['system']}": round(own[key] / row["value"], 4)
        for row in rows
        if row["system"] != "recsys" and (key := (row["metric"], row["slice"])) in own and row["value"]
    }


if __name__ == "__main__":
    sys.exit(main())
