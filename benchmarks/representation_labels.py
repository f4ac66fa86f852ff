"""How few labels are enough: the type of products held back, told from 1, 5 and 20 labels a class.

In: a `Divided`, a trained model. Out: for each way of learning, one number a product held back, the mean of some draws.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from representation_measures import Found, Matrix
from representation_parts import Divided, Part
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from recsys.config import Settings
from recsys.encoder.device import deterministic
from recsys.encoder.model import Model
from recsys.encoder.product_encoder import ProductEncoder, ProductInputs
from recsys.types import IntArray

ATTRIBUTE = "articleType"
COUNTS = (1, 5, 20)
DRAWS = 3
_BATCH, _STEPS, _RATE = 64, 200, 1e-3
Names = npt.NDArray[np.object_]
Learner = Callable[[IntArray, Names], Names]
"""From rows of labelled products and their labels to a guess for each product held back."""


@dataclass(frozen=True)
class Head:
    """Logistic regression on vectors of the known (n, d) and of the asked (q, d), scaled by all the known."""

    known: Matrix
    asked: Matrix
    strength: float = 1.0

    @classmethod
    def of(cls, known: Matrix, asked: Matrix) -> Head:
        """Dense vectors are standardised, which needs no label; counted words stay as they are."""
        if sparse.issparse(known):
            return cls(known, asked, strength=10.0)
        scale = StandardScaler().fit(known)
        return cls(scale.transform(known), scale.transform(asked))

    def __call__(self, rows: IntArray, labels: Names) -> Names:
        model = LogisticRegression(C=self.strength, max_iter=200, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of as many classes as labels, which is what is asked here
            model.fit(self.known[rows], labels.astype(str))
        return model.predict(self.asked).astype(object)


class Scratch:
    """The same network with random weights, trained on the labelled products and nothing else."""

    def __init__(self, known: Part, asked: Part, untrained: ProductEncoder, *, seed: int, steps: int) -> None:
        self.known, self.asked, self.untrained, self.seed, self.steps = known, asked, untrained, seed, steps

    def __call__(self, rows: IntArray, labels: Names) -> Names:
        names, truth = np.unique(labels.astype(str), return_inverse=True)
        net, target = copy.deepcopy(self.untrained).train(), torch.from_numpy(truth)
        with deterministic(self.seed):
            head = nn.Linear(net.settings.width, len(names))
            optimizer = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=_RATE, weight_decay=0.05)
            x = net.read(self.known.catalogue, rows)
            g = torch.Generator().manual_seed(self.seed)
            for _ in range(self.steps):
                at = torch.randperm(len(rows), generator=g)[:_BATCH]
                loss = F.cross_entropy(head(net(_some(x, at)).summary), target[at])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
            net.eval()
            out = []
            for at in np.array_split(np.arange(len(self.asked)), -(-len(self.asked) // _BATCH)):
                with torch.inference_mode():
                    out.append(head(net(net.read(self.asked.catalogue, at)).summary).argmax(1).numpy())
        return names[np.concatenate(out)].astype(object)


def _some(x: ProductInputs, at: torch.Tensor) -> ProductInputs:
    return {name: {key: value[at] for key, value in part.items()} for name, part in x.items()}


def drawn(labels: Names, count: int, g: np.random.Generator) -> IntArray:
    """So many rows of each label, all of a label that has no more."""
    order = g.permutation(len(labels))
    kept = [order[labels[order] == name][:count] for name in np.unique(labels.astype(str))]
    return np.sort(np.concatenate(kept))


def learners(shop: Divided, model: Model, settings: Settings, *, steps: int) -> dict[str, tuple[str, Learner]]:
    """Every way of learning from few labels, with the view it has of a product."""
    known, seed = shop.train.take(shop.train.pictured), settings.training.seed
    with deterministic(seed):
        fresh = ProductEncoder.fit(shop.train.catalogue, settings.encoder)
    untrained = Model(product_encoder=fresh, user_encoder=None, settings=settings.encoder)
    out: dict[str, tuple[str, Learner]] = {}
    for name, one in (("recsys", model), ("untrained encoder", untrained)):
        vectors = (one.encode(part.catalogue, np.arange(len(part))) for part in (known, shop.test))
        out[name] = ("all", Head.of(*vectors))
    out["same network, labels alone"] = ("all", Scratch(known, shop.test, fresh, seed=seed, steps=steps))
    count = TfidfVectorizer().fit(shop.train.texts)
    out["tf-idf"] = ("text", Head.of(count.transform(known.texts), count.transform(shop.test.texts)))
    return out


def few_labels(
    shop: Divided,
    model: Model,
    settings: Settings,
    *,
    say: Callable[[str], None],
    quick: bool = False,
    only: bool = False,
) -> dict[str, Found]:
    """Share of types told right by each way of learning, from each number of labels; `only` = by ours alone."""
    known = shop.train.take(shop.train.pictured)
    labels, truth = known.labels[ATTRIBUTE], shop.test.labels[ATTRIBUTE].astype(str)
    found: dict[str, Found] = {}
    ways = learners(shop, model, settings, steps=2 if quick else _STEPS)
    for name, (view, learn) in ways.items():
        if only and name != "recsys":
            continue
        for count in COUNTS:
            right = []
            for draw in range(DRAWS):
                rows = drawn(labels, count, np.random.default_rng((settings.training.seed, 11, count, draw)))
                right.append(learn(rows, labels[rows]) == truth)
            values = np.mean(right, axis=0)
            say(f"{name}, {count} labels a class: {values.mean():.3f}")
            found.setdefault(name, {})[f"labels{count}_{ATTRIBUTE}", view] = values
    return found
