"""Attributes, one token a feature: values by an embedding each, numbers by where they lie among the quantiles.

In: columns of the catalogue. Out: a token a feature, and a guess of each feature from a product's summary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.data import schema
from recsys.encoder.modalities import Inputs, Tokens

MISSING: Final = 0
UNKNOWN: Final = 1
"""A value the training catalogue had at most once."""
SEPARATOR: Final = " | "
"""Between the values of a feature that has several."""
_BINS: Final = 16
_PARTS: Final = 4
_MOST_VALUES: Final = 1000


@dataclass(frozen=True)
class Feature:
    """One column: its known `values` (ascending), or for a number the quantiles between its bins, `edges`."""

    name: str
    values: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()

    @property
    def is_number(self) -> bool:
        """Is it a number."""
        return bool(self.edges)

    @property
    def size(self) -> int:
        """Different outcomes: missing, unknown and each value; or missing and each bin."""
        return len(self.edges) if self.is_number else 2 + len(self.values)


def _edges(column: pl.Series) -> tuple[float, ...]:
    numbers = column.cast(pl.Float64, strict=False).drop_nulls().drop_nans().to_numpy()
    numbers = numbers[np.isfinite(numbers)]
    return tuple(np.unique(np.quantile(numbers, np.linspace(0, 1, _BINS + 1))).tolist()) if len(numbers) else ()


def _values(column: pl.Series) -> tuple[str, ...]:
    count = Counter(
        part for text in column.cast(pl.String).drop_nulls().to_list() for part in set(text.split(SEPARATOR))
    )
    return tuple(sorted(part for part, times in count.items() if times > 1 and part))


def select_features(frame: pl.DataFrame, columns: Sequence[str] | None) -> list[Feature]:
    """Learn the features of the catalogue from the named columns, or from brand, category, price and all attributes.

    A column is left out when it says nothing (fewer than two values) or is nearly an id (more than 1,000 values).
    """
    named = columns is not None
    found = columns or [
        name
        for name in frame.columns
        if name in (schema.BRAND, schema.CATEGORY, schema.PRICE) or name.startswith(schema.ATTRIBUTE_PREFIX)
    ]
    features = []
    for name in found:
        if name not in frame.columns:
            continue
        column = frame[name]
        if column.dtype.is_numeric():
            edges = _edges(column)
            if len(edges) > 2:
                features.append(Feature(name, edges=edges))
                continue
        values = _values(column)
        if len(values) >= 2 and (named or len(values) <= _MOST_VALUES):
            features.append(Feature(name, values=values))
    return features


class AttributeEncoder(nn.Module):
    """Reads attributes; a hidden feature has a vector of its own, a missing one another."""

    name = "attributes"

    def __init__(self, features: Sequence[Feature], width: int) -> None:
        super().__init__()
        self.features = list(features)
        self.columns = [feature.name for feature in features]
        self.categories = [feature for feature in features if not feature.is_number]
        self.numerics = [feature for feature in features if feature.is_number]
        self._numbers = [{value: at + 2 for at, value in enumerate(feature.values)} for feature in self.categories]
        sizes = [feature.size for feature in self.categories]
        self.offsets = [int(offset) for offset in np.cumsum([0, *sizes])[:-1]]
        self.embedding = nn.Embedding(max(1, sum(sizes)), width)
        self.scales = nn.ModuleList(nn.Linear(feature.size - 1, width) for feature in self.numerics)
        self.absent = nn.Parameter(torch.randn(len(self.numerics), width) * 0.02)
        self.places = nn.Parameter(torch.randn(len(features), width) * 0.02)
        self.concealed = nn.Parameter(torch.randn(width) * 0.02)
        self.guess = nn.Linear(width, max(1, sum(feature.size for feature in (*self.categories, *self.numerics))))
        nn.init.normal_(self.embedding.weight, std=0.5)

    def state(self) -> list[dict[str, Any]]:
        """What has been learnt from the catalogue, fit for JSON."""
        return [asdict(feature) for feature in self.features]

    @staticmethod
    def of_state(state: Sequence[dict[str, Any]], width: int) -> AttributeEncoder:
        """The field with features as `state()` gave them."""
        return AttributeEncoder([Feature(f["name"], tuple(f["values"]), tuple(f["edges"])) for f in state], width)

    def read(self, frame: pl.DataFrame) -> Inputs:
        """Features of some products.

        Returns:
            values: (m, C, 4) int32, the values of each of C features with values, filled up with 0;
            numbers: (m, N) float32, NaN = missing.
        """
        m = frame.height
        values: npt.NDArray[np.int32] = np.zeros((m, len(self.categories), _PARTS), np.int32)
        numbers = np.full((m, len(self.numerics)), np.nan, np.float32)
        for at, (feature, known) in enumerate(zip(self.categories, self._numbers, strict=True)):
            if feature.name in frame.columns:
                for row, text in enumerate(frame[feature.name].cast(pl.String).to_list()):
                    if text:
                        found = sorted({known.get(part, UNKNOWN) for part in text.split(SEPARATOR)}, reverse=True)[
                            :_PARTS
                        ]
                        values[row, at, : len(found)] = found
        for at, feature in enumerate(self.numerics):
            if feature.name in frame.columns:
                column = frame[feature.name].cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
                numbers[:, at] = np.where(np.isfinite(column), column, np.nan)
        return {"values": torch.from_numpy(values), "numbers": torch.from_numpy(numbers)}

    def known(self, x: Inputs) -> Tensor:
        """Which features of which products are known: (b, C + N) bool."""
        return torch.cat([x["values"][:, :, 0] != MISSING, ~x["numbers"].isnan()], 1)

    def present(self, x: Inputs) -> Tensor:
        """Which products have any feature: (b,) bool."""
        return self.known(x).any(1)

    def named(self, x: Inputs, names: Collection[str]) -> Tensor:
        """Which features are among the names, for each product: (b, C + N) bool, fit to conceal."""
        among = torch.tensor([feature.name in names for feature in (*self.categories, *self.numerics)])
        return among.to(x["values"].device).expand(len(x["values"]), -1)

    def _bins(self, x: Inputs) -> list[Tensor]:
        """Bin of each number, 1 .. size - 1; 0 = missing."""
        out = []
        for at, feature in enumerate(self.numerics):
            edges = torch.tensor(feature.edges[1:-1], dtype=torch.float32, device=x["numbers"].device)
            number = x["numbers"][:, at].contiguous()
            out.append(torch.where(number.isnan(), 0, torch.bucketize(number, edges) + 1))
        return out

    def _scaled(self, x: Inputs, at: int) -> Tensor:
        """How far a number fills each bin, 0..1 (piecewise linear encoding, Gorishniy et al. 2022): (b, bins)."""
        edges = torch.tensor(self.numerics[at].edges, dtype=torch.float32, device=x["numbers"].device)
        number = x["numbers"][:, at, None].nan_to_num()
        return ((number - edges[:-1]) / (edges[1:] - edges[:-1])).clamp(0, 1)

    def forward(self, x: Inputs, conceal: Tensor | None = None) -> Tokens:
        """A token a feature: (b, C + N, w); where `conceal` (b, C + N) is True the feature is hidden."""
        parts = []
        if self.categories:
            values = x["values"].long()
            offsets = torch.tensor(self.offsets, device=values.device)[:, None]
            # A feature that is missing looks up outcome 0 of its own; the fillers behind a value count nothing.
            weight = torch.cat([torch.ones_like(values[..., :1]), (values[..., 1:] != MISSING).long()], -1).float()
            vectors = self.embedding(values + offsets) * weight[..., None]
            parts.append(vectors.sum(2) / weight.sum(2)[..., None])
        for at, scale in enumerate(self.scales):
            missing = x["numbers"][:, at].isnan()[:, None]
            parts.append(torch.where(missing, self.absent[at], scale(self._scaled(x, at)).float())[:, None])
        if not parts:
            empty = torch.zeros(len(x["values"]), 0, self.places.shape[1], device=x["values"].device)
            return Tokens(empty, empty[..., 0].bool())
        tokens = torch.cat(parts, 1)
        if conceal is not None:
            tokens = torch.where(conceal[..., None], self.concealed, tokens)
        return Tokens(tokens + self.places, self.present(x)[:, None].expand(-1, tokens.shape[1]))

    def predict_masked(self, summary: Tensor, x: Inputs, conceal: Tensor) -> Tensor:
        """Cross-entropy of the hidden known features, guessed from a summary (b, w); several values share the truth."""
        guess = self.guess(summary).float()
        asked = conceal & self.known(x)
        losses, at = [], 0
        for c, feature in enumerate(self.categories):
            logits = guess[:, at : at + feature.size][asked[:, c]].log_softmax(1)
            truth = x["values"][:, c][asked[:, c]].long()
            share = (truth != MISSING).float()
            losses.append(-(logits.gather(1, truth) * share / share.sum(1, keepdim=True)).sum(1))
            at += feature.size
        for n, (feature, bins) in enumerate(zip(self.numerics, self._bins(x), strict=True)):
            hidden = asked[:, len(self.categories) + n]
            losses.append(F.cross_entropy(guess[:, at : at + feature.size][hidden], bins[hidden], reduction="none"))
            at += feature.size
        every = torch.cat(losses) if losses else guess.new_zeros(0)
        return every.mean() if len(every) else guess.sum() * 0
