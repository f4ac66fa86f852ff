"""Few labels: an encoder goes on learning as before and besides guesses labels, of which it sees every one often.

In: `Labels` of some products, a course that starts somewhere. Out: a `TrainingPlan`; afterwards the heads, and their guess of
the labels of any product with its confidence.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import nn

from recsys.config import EncoderSettings
from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.labels import Labels
from recsys.encoder.model import Model
from recsys.encoder.objectives.labels import LabelLoss as LabelsObjective
from recsys.encoder.product_encoder import ProductEncoder
from recsys.encoder.training.plan import TrainingPlan
from recsys.types import BoolArray, FloatArray

CONFIDENCE = "confidence"
_TRUST: Final = 10.0
"""How far a regression goes with the labels against small weights, on unit vectors."""
_STEPS: Final = 300


@dataclass(frozen=True)
class ClassificationHeads:
    """A head a label: its name, its values, and what turns vectors into their logits."""

    names: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    objective: LabelsObjective

    @staticmethod
    def of(labels: Labels, dim: int) -> ClassificationHeads:
        """Heads on vectors of length `dim` that know nothing yet."""
        sizes = [len(known) for known in labels.values]
        objective = LabelsObjective(torch.from_numpy(labels.targets.copy()), sizes, dim)
        return ClassificationHeads(labels.names, labels.values, objective)

    def fit(self, vectors: FloatArray, labels: Labels) -> None:
        """Bring the heads to where a logistic regression has them.

        So training need not bend good vectors to heads that know nothing (Kumar et al. 2022), and few passes will do.

        Args:
            vectors: (l, d) of the products `labels.rows`.
            labels: those the heads are for.
        """
        objective = self.objective.to("cpu")
        for at, (head, known) in enumerate(zip(objective.heads, self.values, strict=True)):
            truth = labels.targets[labels.rows, at]
            held = truth >= 0
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # training goes on from there anyway
                found = LogisticRegression(C=_TRUST, max_iter=_STEPS).fit(vectors[held], truth[held])
            weight, bias = found.coef_, found.intercept_
            if len(known) == 2:  # one row stands for the difference of the two
                weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
            assert isinstance(head, nn.Linear)
            with torch.no_grad():
                head.weight.copy_(torch.from_numpy(weight / objective.scale))
                head.bias.copy_(torch.from_numpy(bias))


def finetuning_plan(heads: ClassificationHeads, labels: Labels, start: TrainingPlan, *, weight: float) -> TrainingPlan:
    """The course that learns the labels besides, with heads that fit the encoder it starts from.

    Args:
        heads: trained along.
        labels: of the catalogue's products.
        start: where the encoder comes from.
        weight: of the labels among the other objectives.
    """

    def begin(catalogue: Catalogue, settings: EncoderSettings) -> ProductEncoder:
        product = start.create_encoder(catalogue, settings)
        model = Model(product=product, user=None, settings=settings)
        heads.fit(model.encode(catalogue, labels.rows), labels)
        return product

    told = {**start.identity, "labels": labels.digest, "labels_weight": weight}
    more = [*start.extra_objectives, (weight, heads.objective)]
    return replace(start, create_encoder=begin, extra_objectives=more, oversampled_rows=labels.rows, identity=told)


def predict(
    model: Model, catalogue: Catalogue, heads: ClassificationHeads, *, vectors: FloatArray | None = None
) -> pl.DataFrame:
    """The likeliest value of every label for every product.

    Args:
        model: trained with the heads.
        catalogue: n products.
        heads: of K labels.
        vectors: (n, d) of all products by the model, when they are known already.

    Returns:
        product_id, attribute, value, confidence (0..1, the softmax's): n * K rows, by label.
    """
    held = model.encode(catalogue, np.arange(len(catalogue))) if vectors is None else np.array(vectors)
    objective = heads.objective.to("cpu").eval()
    with torch.inference_mode():
        answers = [logits.softmax(1).max(1) for logits in objective.logits(torch.from_numpy(held))]
    frames = [
        pl.DataFrame(
            {
                schema.PRODUCT_ID: catalogue.ids.texts,
                schema.ATTRIBUTE: [name] * len(catalogue),
                schema.LABEL_VALUE: [known[at] for at in best.indices.tolist()],
                CONFIDENCE: best.values.double().numpy(),
            },
            schema_overrides={schema.PRODUCT_ID: pl.String, schema.ATTRIBUTE: pl.String, schema.LABEL_VALUE: pl.String},
        )
        for name, known, best in zip(heads.names, heads.values, answers, strict=True)
    ]
    return pl.concat(frames)


def filter_unlabelled(frame: pl.DataFrame, labels: Labels) -> pl.DataFrame:
    """Of the frame of `predict`, the products that nobody labelled."""
    kept: BoolArray = (labels.targets < 0).T.reshape(-1)
    return frame.filter(pl.Series(kept))
