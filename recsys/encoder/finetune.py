"""Few labels: an encoder goes on learning as before and besides guesses labels, of which it sees every one often.

In: `Labels` of some products, a course that starts somewhere. Out: a `Course`; afterwards the heads, and their guess of
the labels of any product with its confidence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.labels import Labels
from recsys.encoder.course import Course
from recsys.encoder.model import Model, Vectors
from recsys.encoder.objectives.labels import Labels as LabelsObjective

CONFIDENCE = "confidence"


@dataclass(frozen=True)
class Heads:
    """A head a label: its name, its values, and what turns vectors into their logits."""

    names: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    objective: LabelsObjective

    @staticmethod
    def of(labels: Labels, dim: int) -> Heads:
        """Heads on vectors of length `dim` that know nothing yet."""
        sizes = [len(known) for known in labels.values]
        objective = LabelsObjective(torch.from_numpy(labels.targets.copy()), sizes, dim)
        return Heads(labels.names, labels.values, objective)


def course(heads: Heads, labels: Labels, start: Course, *, weight: float) -> Course:
    """The course that learns the labels besides.

    Args:
        heads: trained along.
        labels: of the catalogue's products.
        start: where the encoder comes from.
        weight: of the labels among the other objectives.
    """
    told = {**start.identity, "labels": labels.digest, "labels_weight": weight}
    return replace(start, more=[*start.more, (weight, heads.objective)], often=labels.rows, identity=told)


def predict(model: Model, catalogue: Catalogue, heads: Heads, *, vectors: Vectors | None = None) -> pl.DataFrame:
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
        answers = [logits.softmax(1).max(1) for logits in objective.answers(torch.from_numpy(held))]
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


def unlabelled(frame: pl.DataFrame, labels: Labels) -> pl.DataFrame:
    """Of the frame of `predict`, the products that nobody labelled."""
    kept: npt.NDArray[np.bool_] = (labels.targets < 0).T.reshape(-1)
    return frame.filter(pl.Series(kept))
