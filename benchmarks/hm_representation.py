"""What the product encoder's vectors are worth on H&M: pictures find texts, neighbours are alike, and bought together.

In: articles, transactions, pictures by path. Out: a table; with --json one line of JSON at the end.

    python benchmarks/hm_representation.py --articles FILE --transactions FILE... --images ZIP...

2,000 articles are held back whole, and all purchases of a fifth of the customers. Articles with the very same name and
description are right for each other; the metrics named strict count the article alone. The product's type is an
attribute here: the view of all sees it, the others do not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from hm_pictures import column_of, without
from hm_shop import Shop, add_files, opened
from representation_measures import Found, Matrix, Space, met, nearest, summed_up
from representation_parts import Divided, Part, taken
from representation_systems import minilm_folder, others, ours
from representation_training import add_training, settings_for, trained
from scipy import sparse
from sklearn.preprocessing import normalize
from telling import answered, machine, say

from recsys.data.interactions import Interactions
from recsys.data.tfidf import product_tfidf
from recsys.encoder import serialization as checkpoint
from recsys.evaluate import baselines, metrics
from recsys.types import IntArray

TYPE = "product_type_name"
LIKE, AMONG = 10, 20
DAY = 86_400
_BLOCK = 512


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_files(parser)
    parser.add_argument("--held", type=int, default=2000, help="articles held back")
    parser.add_argument(
        "--days", type=float, default=7, help="what one customer buys in so many days is bought together"
    )
    parser.add_argument("--customers", type=int, default=2000, help="customers held back that are asked about, at most")
    parser.add_argument("--without", nargs="*", default=["co_purchase"], help="train once more without each of these")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="keep the model here: what transfer.py starts from")
    parser.add_argument("--only", choices=["recsys"], help="leave out what it is compared with, and --without")
    parser.add_argument("--minilm", type=Path, help="folder of all-MiniLM-L6-v2; default: the installed package")
    add_training(parser)
    return parser.parse_args()


def main() -> int:
    return answered("hm_representation", measured, arguments())


def measured(asked: argparse.Namespace, work: Path) -> int:
    folder = None if asked.only else minilm_folder(asked.minilm)
    shop = opened(asked, work, settings_for(asked, seed=asked.seed).images)
    divided, events = divide(shop, asked)
    theirs = np.isin(events.user, shop.fifth())
    train = events.where(~theirs)
    together = Together(events.where(theirs), train, days=asked.days, most=asked.customers, seed=asked.seed)
    say(f"{len(divided.train):,} articles, {len(divided.test):,} held back, {len(together.anchor):,} asked about")
    rows: list[dict[str, Any]] = []
    learned: list[dict[str, object]] = []
    for name in ("recsys", *([] if asked.only else asked.without)):
        more = {} if name == "recsys" else {f"objectives.{name}": 0}
        settings = settings_for(asked, seed=asked.seed, more=more)
        model, seconds = trained(divided.train.catalogue, train, settings, work / "training", resume=asked.resume)
        system = name if name == "recsys" else f"without {name}"
        say(f"{system}: trained in {seconds:.0f} s")
        if asked.save is not None and system == "recsys":
            say(f"the model is kept in {checkpoint.save(model, asked.save, seed=asked.seed)}")
        found = judged(ours(divided, model), divided)
        found |= together.judged(by_cosine(model.encode(divided.train.catalogue, np.arange(len(divided.train)))))
        rows += summed_up(system, [found])
        learned.append(
            {"system": system, "model": model.version, "seconds": round(seconds, 1), "losses": model.metrics}
        )
    if not asked.only:
        plain = compared(divided, train, together)
        spaces = others(divided, asked.images, work=work, seed=asked.seed, folder=folder, say=say)
        for name, found in chain(plain, ((name, judged(space, divided)) for name, space in spaces)):
            say(name)
            rows += summed_up(name, [found])
    for row in rows:
        value = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        print(f"{row['system']:36s} {row['slice']:14s} {row['metric']:20s} {value}")
    if asked.json:
        own = {(row["metric"], row["slice"]): row["value"] for row in rows if row["system"] == "recsys"}
        ratios = {
            f"{row['metric']} {row['slice']} recsys / {row['system']}": round(own[key] / row["value"], 4)
            for row in rows
            if row["system"] != "recsys" and (key := (row["metric"], row["slice"])) in own and row["value"]
        }
        shown = {"benchmark": "hm_representation", "quick": asked.quick, "seed": asked.seed, "set": asked.set}
        shown |= {"held": len(divided.test), "customers": together.customers}
        print(json.dumps({**shown, "rows": rows, "ratios": ratios, "learned": learned, "machine": machine()}))
    return 0


def divide(shop: Shop, asked: argparse.Namespace) -> tuple[Divided, Interactions]:
    """Articles with a picture held back whole, and the purchases of the others."""
    pictured = np.flatnonzero(shop.catalogue.images.present)
    count = min(asked.held, len(pictured) // 2)
    held = np.sort(np.random.default_rng(asked.seed).choice(pictured, count, replace=False))
    catalogue, events = without(shop, held)
    parts = [
        Part(one, {TYPE: column_of(asked.articles, TYPE, one.ids.texts)})
        for one in (catalogue, taken(shop.catalogue, held))
    ]
    return Divided(*parts), events


def judged(space: Space, divided: Divided) -> Found:
    """Pictures to texts and back, and how many of the ten nearest articles are of the same type."""
    out = met(space, divided)
    known = divided.train.labels[TYPE][divided.train.pictured].astype(str)
    truth = divided.test.labels[TYPE].astype(str)
    for view in space.asked if space.votes else ():
        found = nearest(space.asked[view], space.known[view], LIKE)
        out[f"type@{LIKE}", view] = (known[found] == truth[:, None]).mean(1)
    return out


class Together:
    """What customers held back bought within some days of each other.

    Attributes:
        anchor: (a,) product rows, each with at least one other bought by the same customer.
        partners: of each anchor, product rows, ascending.
        owner: (a,) which customer, 0 .. customers - 1.
        cold: (a,) was the anchor never bought in what may be learned from.
    """

    def __init__(self, bought: Interactions, train: Interactions, *, days: float, most: int, seed: int) -> None:
        users = np.flatnonzero(np.diff(bought.starts) > 1)
        users = np.sort(np.random.default_rng((seed, 17)).permutation(users)[:most])
        anchors, self.partners, owners = [], [], []
        for user in users.tolist():
            own = slice(bought.starts[user], bought.starts[user + 1])
            item, time = bought.item[own], bought.time[own]
            near = np.abs(time[:, None] - time[None, :]) <= days * DAY
            for one in np.unique(item):
                others = np.unique(item[near[item == one].any(0) & (item != one)])
                if len(others):
                    anchors.append(one)
                    self.partners.append(others)
                    owners.append(user)
        self.anchor = np.array(anchors, np.int64)
        self.owner = np.unique(np.array(owners, np.int64), return_inverse=True)[1]
        self.cold = (train.counts() == 0)[self.anchor]

    @property
    def customers(self) -> int:
        """How many customers have bought several things together."""
        return int(self.owner.max()) + 1 if len(self.owner) else 0

    def judged(self, lists: Callable[[IntArray], IntArray]) -> Found:
        """Share of the partners among the 20 listed for an article, a mean for each customer."""
        out: Found = {}
        for name, asked in (("all", np.ones(len(self.anchor), bool)), ("never bought", self.cold)):
            at = np.flatnonzero(asked)
            if len(at):
                targets = [self.partners[one] for one in at]
                found = metrics.hit_matrix(lists(self.anchor[at]), targets)
                recall = metrics.recall(found, metrics.target_counts(targets), AMONG)
                times = np.bincount(self.owner[at])
                out[f"together_recall@{AMONG}", name] = (
                    np.bincount(self.owner[at], recall)[times > 0] / times[times > 0]
                )
        return out


def by_cosine(vectors: Matrix) -> Callable[[IntArray], IntArray]:
    """The 20 products of largest cosine to each, but for itself."""
    unit = normalize(vectors)
    across = unit.T.tocsc() if sparse.issparse(unit) else unit.T

    def lists(rows: IntArray) -> IntArray:
        out = []
        for at in range(0, len(rows), _BLOCK):
            some = rows[at : at + _BLOCK]
            score = unit[some] @ across
            score = score.toarray() if sparse.issparse(score) else score
            score[np.arange(len(some)), some] = -np.inf
            out.append(np.argsort(-score, axis=1, kind="stable")[:, :AMONG])
        return np.concatenate(out)

    return lists


def compared(divided: Divided, train: Interactions, together: Together) -> Iterator[tuple[str, Found]]:
    """What is not ours and has no vectors of texts or pictures."""
    texts = divided.train.labels[TYPE].astype(str)
    share = dict(zip(*[part.tolist() for part in np.unique(texts, return_counts=True)], strict=True))
    truth = divided.test.labels[TYPE].astype(str)
    chance: Found = {(f"type@{LIKE}", "all"): np.array([share.get(one, 0) / len(texts) for one in truth])}
    some = np.full(len(np.unique(together.owner)), min(1.0, AMONG / max(1, len(texts) - 1)))
    yield "chance", {**chance, (f"together_recall@{AMONG}", "all"): some}
    yield "tf-idf of all columns", together.judged(by_cosine(product_tfidf(divided.train.catalogue)))
    yield "item-item", together.judged(by_cosine(baselines.purchase_matrix(train).T.tocsr()))
    counts = train.counts()
    popular = np.argsort(-counts, kind="stable")[: AMONG + 1]
    yield (
        "popular",
        together.judged(lambda rows: np.array([popular[popular != one][:AMONG] for one in rows], np.int64)),
    )


if __name__ == "__main__":
    sys.exit(main())
