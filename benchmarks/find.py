"""Finding a product of H&M by its title or its picture: by vector, by words, by both.

In: articles, transactions, pictures by path. Out: a table; with --json one line of JSON at the end.

    python benchmarks/find.py --articles FILE --transactions FILE... --images ZIP...

Articles are held back whole: no model has seen them or their purchases. Then all articles, these among them, are
searched. The queries are the titles of 100 of the articles held back (alone, and with the colour), the pictures of 100,
and the pictures with the titles. What counts as right: the article itself; any article of the same name (H&M gives one
name to all colours and remakes of a thing); any article of the same type. MRR: 1 / place of the first right one, 0
beyond place 100. recall@10: right ones among the first ten, as a share of all right ones, but of at most ten.

The picture asked with is the one the catalogue has, so "itself" is easier here than with a photo of one's own. A
picture alone has no words: only the vector answers to it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hm_pictures import column_of, without
from hm_shop import Shop, add_files, opened
from representation_training import add_training, settings_for, trained
from sklearn.feature_extraction.text import TfidfVectorizer
from telling import answered, machine, say

from recsys.config import ImageSettings, Settings
from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.tokenize import tokenize
from recsys.encoder import serialization as checkpoint
from recsys.encoder.model import Model
from recsys.errors import UsageError
from recsys.evaluate.significance import bootstrap_interval
from recsys.vectors.embeddings.table import EmbeddingTable
from recsys.vectors.index.flat import FlatIndex
from recsys.vectors.search.bm25 import Bm25Index, searchable_text
from recsys.vectors.search.engine import Mode, SearchEngine, SearchOptions
from recsys.vectors.search.query import Query

TYPE, COLOUR = "product_type_name", "colour_group_name"
MODES: tuple[Mode, ...] = ("vector", "lexical", "hybrid")
DEEP, TEN = 100, 10
_SAMPLES = 1000

Lists = list[np.ndarray]


@dataclass(frozen=True)
class Asked:
    """Some queries: of which rows of the catalogue they are, their texts, their pictures."""

    rows: np.ndarray
    texts: Sequence[str] | None
    pictured: bool


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_files(parser)
    parser.add_argument("--held", type=int, default=2000, help="articles held back")
    parser.add_argument("--queries", type=int, default=100, help="queries of each kind")
    parser.add_argument(
        "--model", type=Path, help="a version's folder of a model, instead of training one; with --unseen"
    )
    parser.add_argument("--unseen", type=Path, help="ids of the articles that this model has not seen, one a line")
    parser.add_argument("--only", choices=["recsys"], help="leave out what it is compared with")
    add_training(parser)
    return parser.parse_args()


def main() -> int:
    return answered("find", measured, arguments())


def measured(asked: argparse.Namespace, work: Path) -> int:
    settings = settings_for(asked, seed=asked.seed)
    shop = opened(asked, work, settings.images)
    held, model, seconds = learned(asked, shop, settings, work)
    catalogue = shop.catalogue
    say(f"{len(catalogue):,} articles, {len(held):,} held back; trained in {seconds:.0f} s; all are encoded")
    vectors = model.encode(catalogue, np.arange(len(catalogue)))
    table = EmbeddingTable(catalogue.ids, vectors, np.zeros(len(catalogue), np.uint64), model.content_version)
    words = Bm25Index.build(catalogue)
    rows: list[dict[str, Any]] = []
    relevant = right(asked.articles, catalogue)
    for name, queries in drawn(asked, catalogue, held).items():
        lists: dict[str, Lists] = {}
        for mode in MODES:
            if queries.texts is None and mode != "vector":
                continue  # no words to look for
            if mode == "lexical" and queries.pictured:
                continue  # the same as with the titles alone
            lists[f"recsys {mode}"] = found(queries, catalogue, table, model, words, mode, settings.images)
        if queries.texts is not None and not queries.pictured and asked.only is None:
            lists["tf-idf"] = by_tf_idf(queries.texts, catalogue)
        for system, answers in lists.items():
            rows += judged(system, name, queries.rows, answers, relevant)
        say(name)
    shown(rows)
    if asked.json:
        facts = {"benchmark": "find", "quick": asked.quick, "seed": asked.seed, "articles": len(catalogue)}
        facts |= {"held": len(held), "queries": asked.queries, "model": model.version, "seconds": round(seconds, 1)}
        print(json.dumps({**facts, "rows": rows, "ratios": ratios(rows), "machine": machine()}))
    return 0


def learned(asked: argparse.Namespace, shop: Shop, settings: Settings, work: Path) -> tuple[np.ndarray, Model, float]:
    """Rows of the articles held back, and a model that has not seen them: one that is given, or one trained now.

    Raises:
        UsageError: a model is given and not what it has not seen, or that is nothing of this catalogue.
    """
    if asked.model is not None:
        if asked.unseen is None:
            raise UsageError("--model needs --unseen FILE: ids of the articles that this model has not seen")
        named = asked.unseen.read_text(encoding="utf-8").split()
        rows = shop.catalogue.ids.rows(named)
        rows = np.sort(rows[rows >= 0])
        if not len(rows):
            raise UsageError(f"{asked.unseen} names no article that was bought")
        return rows, checkpoint.load(asked.model), 0.0
    pictured = np.flatnonzero(shop.catalogue.images.present)
    count = min(asked.held, len(pictured) // 2)
    held = np.sort(np.random.default_rng(asked.seed).choice(pictured, count, replace=False))
    catalogue, events = without(shop, held)
    model, seconds = trained(catalogue, events, settings, work / "training", resume=asked.resume)
    return held, model, seconds


def drawn(asked: argparse.Namespace, catalogue: Catalogue, held: np.ndarray) -> dict[str, Asked]:
    """The queries by name, some for titles and others for pictures."""
    g = np.random.default_rng((asked.seed, 3))
    titles = catalogue.frame[schema.TITLE].to_list()
    colours = column_of(asked.articles, COLOUR, catalogue.ids.texts)
    named = np.array([row for row in held.tolist() if titles[row]], np.int64)
    pictured = held[catalogue.images.present[held]]
    some = np.sort(g.permutation(named)[: asked.queries])
    seen = np.sort(g.permutation(np.setdiff1d(pictured, some))[: asked.queries])
    seen = np.array([row for row in seen.tolist() if titles[row]], np.int64)
    return {
        "title": Asked(some, [titles[row] for row in some.tolist()], pictured=False),
        "title and colour": Asked(
            some, [f"{titles[row]} {colours[row] or ''}" for row in some.tolist()], pictured=False
        ),
        "picture": Asked(seen, None, pictured=True),
        "picture and title": Asked(seen, [titles[row] for row in seen.tolist()], pictured=True),
    }


def right(articles: Path, catalogue: Catalogue) -> dict[str, np.ndarray]:
    """What makes two articles alike, by name: a code (n,) each."""
    labels = {
        "itself": np.array(catalogue.ids.texts, object),
        "same name": np.array([title or "" for title in catalogue.frame[schema.TITLE].to_list()], object),
        "same type": column_of(articles, TYPE, catalogue.ids.texts),
    }
    return {name: np.unique(values.astype(str), return_inverse=True)[1] for name, values in labels.items()}


def found(
    asked: Asked, catalogue: Catalogue, table: EmbeddingTable, model: Model, words: Bm25Index, mode: Mode,
    images: ImageSettings,
) -> Lists:  # fmt: skip
    """Rows of the first answers to each query, through the very search of the program."""
    way = SearchOptions(mode=mode, variants=True, sellable_only=False)
    index = FlatIndex(table.vectors)
    finder = Shown(
        catalogue,
        table,
        index=index,
        model_loader=lambda: model,
        lexical_loader=lambda: words,
        images=images,
        options=way,
    )
    texts = asked.texts or [None] * len(asked.rows)
    ids = catalogue.ids.ids(asked.rows)
    queries = [Query(text=text, image=name if asked.pictured else None) for text, name in zip(texts, ids, strict=True)]
    answers = finder.search(queries, DEEP)
    wrong = [one for one in answers if isinstance(one, UsageError)]
    if wrong:
        raise wrong[0]
    return [catalogue.ids.rows(one[schema.PRODUCT_ID].to_list()) for one in answers]


class Shown(SearchEngine):
    """A finder whose pictures are those of the catalogue, by product id: they were decoded before."""

    def load_image(self, path: str) -> np.ndarray:
        return self.catalogue.images.take(self.catalogue.ids.rows([path]))[0]


def by_tf_idf(queries: Sequence[str], catalogue: Catalogue) -> Lists:
    """The same words weighed and compared by scikit-learn's TF-IDF."""
    method = TfidfVectorizer(tokenizer=tokenize, lowercase=False, token_pattern=None).fit(searchable_text(catalogue))
    scores = np.asarray((method.transform(queries) @ method.transform(searchable_text(catalogue)).T).todense())
    order = np.argsort(-scores, axis=1, kind="stable")[:, :DEEP]
    return [row[held[row] > 0] for row, held in zip(order, scores, strict=True)]


def judged(
    system: str, name: str, asked: np.ndarray, lists: Lists, relevant: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """MRR and recall@10 of one system's answers for each meaning of right, with 95 % intervals over the queries."""
    out: list[dict[str, Any]] = []
    for meaning, codes in relevant.items():
        first, among = [], []
        for row, found_rows in zip(asked.tolist(), lists, strict=True):
            hit = codes[found_rows] == codes[row]
            first.append(1.0 / (1 + int(hit.argmax())) if hit.any() else 0.0)
            among.append(hit[:TEN].sum() / min(TEN, int((codes == codes[row]).sum())))
        for metric, values in (("mrr", np.array(first)), (f"recall@{TEN}", np.array(among))):
            low, high = bootstrap_interval(values, samples=_SAMPLES)
            value = float(values.mean())
            own, _, mode = system.partition(" ")
            out.append(
                {
                    "system": own,
                    "metric": f"{metric} {mode}".strip(),
                    "value": value,
                    "low": low,
                    "high": high,
                    "slice": f"{name}: {meaning}",
                }
            )
    return out


def shown(rows: Sequence[Mapping[str, Any]]) -> None:
    """One line for a query's kind, a meaning of right and a system: MRR, recall@10."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        metric, _, mode = row["metric"].partition(" ")
        value = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        lines.setdefault((row["slice"], f"{row['system']} {mode}".strip()), {})[metric] = value
    print(f"{'query: what is right':32s} {'system':16s} {'MRR':24s} recall@{TEN}")
    for (part, system), values in lines.items():
        print(f"{part:32s} {system:16s} {values['mrr']:24s} {values[f'recall@{TEN}']}")


def ratios(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Hybrid and TF-IDF beside the vector and the words alone."""
    value = {(row["system"], row["metric"], row["slice"]): row["value"] for row in rows}
    out = {}
    for (system, metric, part), held in value.items():
        name, _, mode = metric.partition(" ")
        for other in ("vector", "lexical") if mode == "hybrid" else ():
            if value.get((system, f"{name} {other}", part)):
                out[f"{name} hybrid / {other}, {part}"] = round(held / value[system, f"{name} {other}", part], 3)
        if mode == "lexical" and value.get(("tf-idf", name, part)):
            out[f"{name} lexical / tf-idf, {part}"] = round(held / value["tf-idf", name, part], 3)
    return out


if __name__ == "__main__":
    sys.exit(main())
