"""Small shops on disk with settings that train in a second."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import polars as pl

import recsys

QUICK = {
    "training": {"epochs": 1, "user_epochs": 1, "min_steps": 2, "device": "cpu"},
    "encoder": {
        "dim": 32, "width": 32, "heads": 2, "user_layers": 1, "fusion_layers": 1, "vocabulary": 300, "matryoshka": [],
    },
    "cluster": {"map": "none"},
    "report": {"nightly": False},
}  # fmt: skip


def day(number, hour=12):
    moment = datetime.datetime(2025, 6, 1, hour, tzinfo=datetime.UTC) + datetime.timedelta(days=number)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def purchases(rows, event_type="purchase"):
    """Events of (user, product, day)."""
    return [
        {"user_id": user, "product_id": product, "event_type": event_type, "occurred_at": day(number)}
        for user, product, number in rows
    ]


def open_shop(folder: Path, products, events, settings=None, *, train=True):
    """Write the rows as files, ingest them, and train unless told otherwise."""
    folder.mkdir(parents=True)
    incoming = folder / "in"
    incoming.mkdir()
    pl.DataFrame(products, infer_schema_length=None).write_csv(incoming / "products.csv")
    pl.DataFrame(events).write_csv(incoming / "events.csv")
    sections = {name: dict(values) for name, values in QUICK.items()}
    for name, value in (settings or {}).items():
        section, key = name.split(".")
        sections.setdefault(section, {})[key] = value
    (folder / "recsys.toml").write_text("\n".join(_section(name, values) for name, values in sections.items()))
    recsys.init(folder)
    shop = recsys.open(folder)
    shop.ingest([incoming])
    if train:
        shop.train()
    return shop


def _section(name, values):
    return f"[{name}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def _toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {json.dumps(item)}' for key, item in value.items()) + " }"
    return json.dumps(value)
