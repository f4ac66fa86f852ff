"""Fine-tune an encoder on few labels, in addition to its other objectives.

Labelled products are oversampled.
In: `Labels` of some products, a plan to extend. Out: a `TrainingPlan`; after training the classification heads, and
their predictions with confidence for any product.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl
import torch
from torch import nn

from recsys.config import EncoderSettings
from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.labels import Labels
from recsys.encoder.model import Model
from recsys.encoder.objectives.labels import LabelLoss
from recsys.encoder.product_encoder import ProductEncoder
from recsys.encoder.training.plan import TrainingPlan
from recsys.types import BoolArray, FloatArray

CONFIDENCE = "confidence"
_INVERSE_REGULARIZATION: Final = 10.0
"""`C` of the logistic regression, on unit vectors."""
_MAX_ITERATIONS: Final = 300


@dataclass(frozen=True)
class ClassificationHeads:
    """One classification head per label: names, values, and the objective that holds the weights."""

    names: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    objective: LabelLoss

    @staticmethod
    def from_labels(labels: Labels, dim: int) -> ClassificationHeads:
        """Create untrained heads on vectors of length `dim`."""
        sizes = [len(values) for values in labels.values]
        objective = LabelLoss(torch.from_numpy(labels.targets.copy()), sizes, dim)
        return ClassificationHeads(labels.names, labels.values, objective)

    def fit(self, vectors: FloatArray, labels: Labels) -> None:
        """Initialise the heads with the weights of a logistic regression.

        Training then need not distort good vectors to fit random heads (Kumar et al. 2022), and few passes suffice.

        Args:
            vectors: (l, d) of the products `labels.rows`.
            labels: the labels of these heads.
        """
        # scikit-learn is slow to import, and only this method needs it
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        objective = self.objective.to("cpu")
        for column, (head, values) in enumerate(zip(objective.heads, self.values, strict=True)):
            truth = labels.targets[labels.rows, column]
            labelled = truth >= 0
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # training continues from there anyway
                regression = LogisticRegression(C=_INVERSE_REGULARIZATION, max_iter=_MAX_ITERATIONS).fit(
                    vectors[labelled], truth[labelled]
                )
            weight, bias = regression.coef_, regression.intercept_
            if len(values) == 2:  # one row holds the difference of the two classes
                weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
            assert isinstance(head, nn.Linear)
            with torch.no_grad():
                head.weight.copy_(torch.from_numpy(weight / objective.scale))
                head.bias.copy_(torch.from_numpy(bias))


def finetuning_plan(
    heads: ClassificationHeads, labels: Labels, base_plan: TrainingPlan, *, weight: float
) -> TrainingPlan:
    """Extend a plan by the label objective, with heads fitted to the encoder it starts from.

    Args:
        heads: trained together with the encoder.
        labels: of the catalogue's products.
        base_plan: the plan to extend; creates the encoder.
        weight: of the label objective among the others.
    """

    def create_encoder(catalogue: Catalogue, settings: EncoderSettings) -> ProductEncoder:
        product = base_plan.create_encoder(catalogue, settings)
        model = Model(product_encoder=product, user_encoder=None, settings=settings)
        heads.fit(model.encode(catalogue, labels.rows), labels)
        return product

    identity = {**base_plan.identity, "labels": labels.digest, "labels_weight": weight}
    objectives = [*base_plan.extra_objectives, (weight, heads.objective)]
    return replace(
        base_plan,
        create_encoder=create_encoder,
        extra_objectives=objectives,
        oversampled_rows=labels.rows,
        identity=identity,
    )


def predict_labels(
    model: Model, catalogue: Catalogue, heads: ClassificationHeads, *, vectors: FloatArray | None = None
) -> pl.DataFrame:
    """Predict the most probable value of every label for every product.

    Args:
        model: trained with the heads.
        catalogue: n products.
        heads: of K labels.
        vectors: (n, d) of all products by the model; None = encode them.

    Returns:
        product_id, attribute, value, confidence (0..1, softmax probability): n * K rows, ordered by label.
    """
    product_vectors = model.encode(catalogue, np.arange(len(catalogue))) if vectors is None else np.array(vectors)
    objective = heads.objective.to("cpu").eval()
    with torch.inference_mode():
        predictions = [logits.softmax(1).max(1) for logits in objective.logits(torch.from_numpy(product_vectors))]
    frames = [
        pl.DataFrame(
            {
                schema.PRODUCT_ID: catalogue.ids.texts,
                schema.ATTRIBUTE: [name] * len(catalogue),
                schema.LABEL_VALUE: [values[i] for i in best.indices.tolist()],
                CONFIDENCE: best.values.double().numpy(),
            },
            schema_overrides={schema.PRODUCT_ID: pl.String, schema.ATTRIBUTE: pl.String, schema.LABEL_VALUE: pl.String},
        )
        for name, values, best in zip(heads.names, heads.values, predictions, strict=True)
    ]
    return pl.concat(frames)


def filter_unlabelled(frame: pl.DataFrame, labels: Labels) -> pl.DataFrame:
    """Filter the frame of `predict_labels` to the products without the label."""
    unlabelled: BoolArray = (labels.targets < 0).T.reshape(-1)
    return frame.filter(pl.Series(unlabelled))
