"""Filling gaps on H&M: 30 % of colours, types and departments hidden before anything is learned, then guessed.

In: articles, transactions, pictures by path. Out: share right and calibration, beside the commonest value and TF-IDF.

    python benchmarks/complete.py --articles FILE --transactions FILE... --images ZIP...

Columns that say the same in other words (perceived colour, product group, section ...) are left out, for nobody whose
colours are missing has the perceived ones; --related keeps them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from hm_shop import add_files, opened
from sklearn.linear_model import LogisticRegression
from telling import machine, say

from recsys.config import EncoderSettings, Settings, TrainingSettings
from recsys.data.catalogue import Catalogue
from recsys.encoder.training.train import train_products
from recsys.errors import RecsysError
from recsys.vectors.attributes import completion as complete
from recsys.vectors.attributes.classifier import calibration_error

COLUMNS = {"colour": "attributes.colour_group", "type": "category", "department": "attributes.department"}
RELATED = ("perceived_colour_value", "perceived_colour_master", "product_group", "garment_group", "index")
RELATED += ("index_group", "section")
HIDDEN = 0.3
SAMPLES = 1000
MOST_WORDS = 20_000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_files(parser, pictures=False)
    parser.add_argument("--related", action="store_true", help="keep columns that say the same in other words")
    parser.add_argument("--only", choices=["recsys"], help="leave out the commonest value and TF-IDF")
    parser.add_argument("--quick", action="store_true", help="few articles, hardly any training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="keep pictures and checkpoints here; default: a temporary folder")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def hidden(whole: Catalogue, *, seed: int, related: bool) -> tuple[Catalogue, dict[str, np.ndarray]]:
    """The catalogue with 30 % of each column's values gone, each drawn by itself, and rows of what went."""
    g = np.random.default_rng((seed, 30))
    frame = whole.frame
    if not related:
        frame = frame.drop([f"attributes.{name}" for name in RELATED if f"attributes.{name}" in frame.columns])
    gone = {}
    for name, column in COLUMNS.items():
        drawn = g.random(len(whole)) < HIDDEN
        if column in frame.columns:
            gone[name] = np.flatnonzero(drawn & frame[column].is_not_null().to_numpy())
            frame = frame.with_columns(
                pl.when(pl.Series(drawn)).then(None).otherwise(pl.col(column)).cast(pl.String).alias(column)
            )
    return Catalogue(whole.ids, frame, whole.sellable.copy(), whole.images), gone


def rivals(catalogue: Catalogue, column: str, rows: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Guesses and confidence of the commonest value, and of a logistic regression on the same words we have."""
    values = catalogue.frame[column].to_numpy()
    known = np.flatnonzero(catalogue.frame[column].is_not_null().to_numpy())
    names, times = np.unique(values[known].astype(str), return_counts=True)
    words = complete.tfidf_without(catalogue, column, max_words=MOST_WORDS)
    model = LogisticRegression(C=10.0, max_iter=100, tol=1e-3).fit(words[known], values[known].astype(str))
    chances = model.predict_proba(words[rows])
    return {
        "majority": (np.full(len(rows), names[times.argmax()]), np.full(len(rows), times.max() / len(known))),
        "tf-idf": (model.classes_[chances.argmax(1)], chances.max(1)),
    }


def judged(system: str, part: str, right: np.ndarray, sure: np.ndarray, *, seed: int) -> list[dict[str, object]]:
    """Share right with its bootstrap interval, and the expected calibration error."""
    draws = np.random.default_rng(seed).binomial(len(right), right.mean(), SAMPLES) / len(right)
    low, high = np.quantile(draws, [0.025, 0.975])
    error = calibration_error(sure, right)
    return [
        {"system": system, "metric": "accuracy", "value": float(right.mean()), "low": low, "high": high, "slice": part},
        {"system": system, "metric": "ece", "value": error, "low": None, "high": None, "slice": part},
    ]


def run(asked: argparse.Namespace, work: Path) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Rows of all systems, and what was learned."""
    settings = Settings(training=TrainingSettings(seed=asked.seed))
    if asked.quick:
        small = EncoderSettings(dim=32, width=32, heads=2, fusion_layers=1, vocabulary=500)
        settings = Settings(encoder=small, training=TrainingSettings(seed=asked.seed, epochs=1, min_steps=1))
    shop = opened(asked, work, settings.images)
    catalogue, gone = hidden(shop.catalogue, seed=asked.seed, related=asked.related)
    say(f"train products on {len(catalogue):,}")
    kind = f"complete-{asked.seed}{'-related' if asked.related else ''}{'-quick' if asked.quick else ''}"
    model = train_products(
        catalogue,
        shop.interactions,
        encoder=settings.encoder,
        objectives=settings.objectives,
        training=settings.training,
        folder=work / "training" / kind,
        resume=True,
        progress=False,
    )
    rows: list[dict[str, object]] = []
    learned: dict[str, object] = {"model": model.version, "products": len(catalogue)}
    for name, places in gone.items():
        column = COLUMNS[name]
        say(f"{name}: {len(places):,} values to guess")
        truth = shop.catalogue.frame[column].to_numpy()[places].astype(str)
        (gaps,) = complete.predict_missing(catalogue, model, [column], seed=asked.seed)
        learned[name] = gaps.reason or {
            "known": gaps.known_count,
            "held_out": gaps.held_out_count,
            "hidden": len(places),
        }
        if gaps.reason:
            continue
        at = np.searchsorted(gaps.rows, places)
        guess, sure = np.array(gaps.values)[at], gaps.confidence[at]
        rows += judged("recsys", name, guess == truth, sure, seed=asked.seed)
        # what the command says of itself, from the values it held out: it should be what comes out above
        rows.append({**rows[-2], "metric": "accuracy told", "value": gaps.accuracy, "low": None, "high": None})
        rows.append({**rows[-2], "metric": "ece told", "value": gaps.calibration_error})
        if asked.only:
            continue
        for system, (said, confidence) in rivals(catalogue, column, places).items():
            rows += judged(system, name, said == truth, confidence, seed=asked.seed)
    return rows, learned


def ratios(rows: list[dict[str, object]]) -> dict[str, float]:
    """Our accuracy divided by the others', by column."""
    value = {(r["slice"], r["system"]): float(r["value"]) for r in rows if r["metric"] == "accuracy"}  # type: ignore[arg-type]
    return {
        f"{part} accuracy recsys / {system}": round(value[part, "recsys"] / other, 4)
        for (part, system), other in value.items()
        if system != "recsys" and other > 0
    }


def main() -> int:
    asked = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        try:
            rows, learned = run(asked, asked.work or Path(temporary))
        except RecsysError as error:
            print(f"complete: {error}", file=sys.stderr)
            return error.exit_code
    for one in rows:
        bounds = f" [{one['low']:.3f}, {one['high']:.3f}]" if one["low"] is not None else ""
        print(f"{one['slice']:12s} {one['system']:10s} {one['metric']:14s} {one['value']:.3f}{bounds}")
    if asked.json:
        shown = {"benchmark": "complete", "quick": asked.quick, "seed": asked.seed, "related": asked.related}
        print(json.dumps({**shown, "rows": rows, "ratios": ratios(rows), "learned": learned, "machine": machine()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
