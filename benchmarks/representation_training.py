"""How a benchmark trains the product encoder: the defaults, what its command line changes, a folder for each setting.

In: arguments, products that may be learned from. Out: settings, a model.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys import config
from recsys.config import ObjectiveSettings, Settings
from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Interactions
from recsys.encoder.model import Model
from recsys.encoder.training.train import train_products
from recsys.errors import UsageError

QUICK: Mapping[str, Any] = {
    "encoder.dim": 32,
    "encoder.width": 32,
    "encoder.heads": 2,
    "encoder.fusion_layers": 1,
    "encoder.vocabulary": 500,
    "training.epochs": 1,
    "training.min_steps": 1,
}


def add_training(parser: argparse.ArgumentParser) -> None:
    """Options of every benchmark that trains the product encoder."""
    parser.add_argument("--quick", action="store_true", help="few products, hardly any training")
    parser.add_argument("--epochs", type=int, help="passes over the products")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change any setting; repeatable"
    )
    parser.add_argument("--work", type=Path, help="keep pictures and checkpoints here; default: a temporary folder")
    parser.add_argument("--resume", action="store_true", help="go on with the same trainings found in --work")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")


def settings_for(asked: argparse.Namespace, *, seed: int, more: Mapping[str, Any] | None = None) -> Settings:
    """The defaults, and what the command line changes; `more` changes on top.

    Raises:
        UsageError: a `--set` cannot be read.
        ConfigError: a name is unknown or a value does not fit.
    """
    flags: dict[str, Any] = {**(QUICK if asked.quick else {}), "training.seed": seed}
    if asked.epochs is not None:
        flags["training.epochs"] = asked.epochs
    for text in asked.set:
        name, equals, value = text.partition("=")
        try:
            flags[name] = json.loads(value) if value.startswith(("[", "{")) else value
        except ValueError as error:
            raise UsageError(f"--set {text}: not JSON: {error}") from None
        if not equals:
            raise UsageError(f"--set {text}: write section.key=value")
    # Neither a file nor the environment: a benchmark says itself what it measures.
    return config.load(Path("/nonexistent"), flags={**flags, **(more or {})}, env={})


def trained(
    catalogue: Catalogue, events: Interactions, settings: Settings, folder: Path, *, resume: bool
) -> tuple[Model, float]:
    """A model of the products, and how many seconds it took; each setting has a folder of its own in `folder`."""
    said = settings.model_dump_json(include={"encoder", "objectives", "training", "images"})
    digest = hashlib.sha256(f"{said} {len(catalogue)} {len(events)}".encode()).hexdigest()
    started = time.perf_counter()
    model = train_products(
        catalogue,
        events,
        encoder=settings.encoder,
        objectives=settings.objectives,
        training=settings.training,
        folder=folder / digest[:10],
        resume=resume,
        progress=False,
    )
    kept = folder / digest[:10] / "losses.json"
    if model.metrics:
        kept.write_text(json.dumps(model.metrics), encoding="utf-8")
    elif kept.exists():  # a training that was finished before has no losses of its own
        model.metrics = json.loads(kept.read_text(encoding="utf-8"))
    return model, time.perf_counter() - started


def taken_part(model: Model) -> list[str]:
    """Names of the weights of the objectives that had something to learn from."""
    return [name for name in ObjectiveSettings.model_fields if model.metrics.get(name)]
