"""Attribute encoder: one token per feature; categorical values are embedded, numbers binned.

In: catalogue columns. Out: one token per feature, and a prediction of each feature from a product's summary.
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
"""Code of a value that occurs at most once in the training catalogue."""
SEPARATOR: Final = " | "
"""Separates the values of a multi-valued feature."""
_N_BINS: Final = 16
_MAX_VALUES_PER_PRODUCT: Final = 4
_MAX_CATEGORIES: Final = 1000


@dataclass(frozen=True)
class Feature:
    """One column: its known `values` (ascending), or for numbers the quantiles between bins, `edges`."""

    name: str
    values: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()

    @property
    def is_number(self) -> bool:
        """Whether the column is numeric."""
        return bool(self.edges)

    @property
    def size(self) -> int:
        """Number of outcomes: missing, unknown and each value; or missing and each bin."""
        return len(self.edges) if self.is_number else 2 + len(self.values)


def _quantile_edges(column: pl.Series) -> tuple[float, ...]:
    numbers = column.cast(pl.Float64, strict=False).drop_nulls().drop_nans().to_numpy()
    numbers = numbers[np.isfinite(numbers)]
    return tuple(np.unique(np.quantile(numbers, np.linspace(0, 1, _N_BINS + 1))).tolist()) if len(numbers) else ()


def _repeated_values(column: pl.Series) -> tuple[str, ...]:
    counts = Counter(
        part for text in column.cast(pl.String).drop_nulls().to_list() for part in set(text.split(SEPARATOR))
    )
    return tuple(sorted(part for part, n in counts.items() if n > 1 and part))


def select_features(frame: pl.DataFrame, columns: Sequence[str] | None) -> list[Feature]:
    """Fit the features to the given columns, or by default to brand, category, price and all attributes.

    A column is skipped if it is constant (fewer than two values). By default a column that is nearly an id (more than
    1,000 values) is skipped too.
    """
    is_explicit = columns is not None
    names = columns or [
        name
        for name in frame.columns
        if name in (schema.BRAND, schema.CATEGORY, schema.PRICE) or name.startswith(schema.ATTRIBUTE_PREFIX)
    ]
    features = []
    for name in names:
        if name not in frame.columns:
            continue
        column = frame[name]
        if column.dtype.is_numeric():
            edges = _quantile_edges(column)
            if len(edges) > 2:
                features.append(Feature(name, edges=edges))
                continue
        values = _repeated_values(column)
        if len(values) >= 2 and (is_explicit or len(values) <= _MAX_CATEGORIES):
            features.append(Feature(name, values=values))
    return features


class AttributeEncoder(nn.Module):
    """Encodes attributes; hidden features and missing features have separate learned vectors."""

    name = "attributes"

    def __init__(self, features: Sequence[Feature], width: int) -> None:
        super().__init__()
        self.features = list(features)
        self.columns = [feature.name for feature in features]
        self.categorical_features = [feature for feature in features if not feature.is_number]
        self.numeric_features = [feature for feature in features if feature.is_number]
        self._value_codes = [
            {value: code + 2 for code, value in enumerate(feature.values)} for feature in self.categorical_features
        ]
        sizes = [feature.size for feature in self.categorical_features]
        self.offsets = [int(offset) for offset in np.cumsum([0, *sizes])[:-1]]
        self.embedding = nn.Embedding(max(1, sum(sizes)), width)
        self.scales = nn.ModuleList(nn.Linear(feature.size - 1, width) for feature in self.numeric_features)
        self.absent = nn.Parameter(torch.randn(len(self.numeric_features), width) * 0.02)
        self.places = nn.Parameter(torch.randn(len(features), width) * 0.02)
        self.concealed = nn.Parameter(torch.randn(width) * 0.02)
        self.guess = nn.Linear(
            width, max(1, sum(feature.size for feature in (*self.categorical_features, *self.numeric_features)))
        )
        nn.init.normal_(self.embedding.weight, std=0.5)

    def state(self) -> list[dict[str, Any]]:
        """Return the fitted features as a JSON-compatible list."""
        return [asdict(feature) for feature in self.features]

    @staticmethod
    def from_state(state: Sequence[dict[str, Any]], width: int) -> AttributeEncoder:
        """Build the encoder from the features `state()` returned; its weights are not set yet."""
        return AttributeEncoder([Feature(f["name"], tuple(f["values"]), tuple(f["edges"])) for f in state], width)

    def read(self, frame: pl.DataFrame) -> Inputs:
        """Read the features of some products.

        Returns:
            values: (m, C, 4) int32, value codes of each of C categorical features, padded with 0;
            numbers: (m, N) float32, NaN = missing.
        """
        m = frame.height
        values: npt.NDArray[np.int32] = np.zeros((m, len(self.categorical_features), _MAX_VALUES_PER_PRODUCT), np.int32)
        numbers = np.full((m, len(self.numeric_features)), np.nan, np.float32)
        for i, (feature, codes) in enumerate(zip(self.categorical_features, self._value_codes, strict=True)):
            if feature.name in frame.columns:
                for row, text in enumerate(frame[feature.name].cast(pl.String).to_list()):
                    if text:
                        row_codes = sorted({codes.get(part, UNKNOWN) for part in text.split(SEPARATOR)}, reverse=True)[
                            :_MAX_VALUES_PER_PRODUCT
                        ]
                        values[row, i, : len(row_codes)] = row_codes
        for i, feature in enumerate(self.numeric_features):
            if feature.name in frame.columns:
                column = frame[feature.name].cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
                numbers[:, i] = np.where(np.isfinite(column), column, np.nan)
        return {"values": torch.from_numpy(values), "numbers": torch.from_numpy(numbers)}

    def known_mask(self, x: Inputs) -> Tensor:
        """Return a mask of the features each product has: (b, C + N) bool."""
        return torch.cat([x["values"][:, :, 0] != MISSING, ~x["numbers"].isnan()], 1)

    def present(self, x: Inputs) -> Tensor:
        """Return a mask of the products with any feature: (b,) bool."""
        return self.known_mask(x).any(1)

    def hidden_mask(self, x: Inputs, names: Collection[str]) -> Tensor:
        """Return the mask that hides the features with these names: (b, C + N) bool, for `conceal`."""
        is_named = torch.tensor(
            [feature.name in names for feature in (*self.categorical_features, *self.numeric_features)]
        )
        return is_named.to(x["values"].device).expand(len(x["values"]), -1)

    def _bins(self, x: Inputs) -> list[Tensor]:
        """Bin of each number, 1 .. size - 1; 0 = missing."""
        bins = []
        for i, feature in enumerate(self.numeric_features):
            edges = torch.tensor(feature.edges[1:-1], dtype=torch.float32, device=x["numbers"].device)
            number = x["numbers"][:, i].contiguous()
            bins.append(torch.where(number.isnan(), 0, torch.bucketize(number, edges) + 1))
        return bins

    def _piecewise_linear(self, x: Inputs, i: int) -> Tensor:
        """Encode number i piecewise linearly (Gorishniy et al. 2022), 0..1 per bin: (b, bins)."""
        edges = torch.tensor(self.numeric_features[i].edges, dtype=torch.float32, device=x["numbers"].device)
        number = x["numbers"][:, i, None].nan_to_num()
        return ((number - edges[:-1]) / (edges[1:] - edges[:-1])).clamp(0, 1)

    def forward(self, x: Inputs, conceal: Tensor | None = None) -> Tokens:
        """Encode one token per feature: (b, C + N, w); `conceal`, (b, C + N) bool, hides features."""
        parts = []
        if self.categorical_features:
            values = x["values"].long()
            offsets = torch.tensor(self.offsets, device=values.device)[:, None]
            # A missing feature looks up its own outcome 0; the padding after a value has weight 0.
            weight = torch.cat([torch.ones_like(values[..., :1]), (values[..., 1:] != MISSING).long()], -1).float()
            vectors = self.embedding(values + offsets) * weight[..., None]
            parts.append(vectors.sum(2) / weight.sum(2)[..., None])
        for i, scale in enumerate(self.scales):
            missing = x["numbers"][:, i].isnan()[:, None]
            parts.append(torch.where(missing, self.absent[i], scale(self._piecewise_linear(x, i)).float())[:, None])
        if not parts:
            empty = torch.zeros(len(x["values"]), 0, self.places.shape[1], device=x["values"].device)
            return Tokens(empty, empty[..., 0].bool())
        tokens = torch.cat(parts, 1)
        if conceal is not None:
            tokens = torch.where(conceal[..., None], self.concealed, tokens)
        return Tokens(tokens + self.places, self.present(x)[:, None].expand(-1, tokens.shape[1]))

    def predict_masked(self, summary: Tensor, x: Inputs, conceal: Tensor) -> Tensor:
        """Return the cross-entropy of the hidden features, predicted from a summary (b, w).

        Only features that the product has count; several values of a feature share the target probability equally.
        """
        all_logits = self.guess(summary).float()
        target_mask = conceal & self.known_mask(x)
        losses, start = [], 0
        for c, feature in enumerate(self.categorical_features):
            logits = all_logits[:, start : start + feature.size][target_mask[:, c]].log_softmax(1)
            targets = x["values"][:, c][target_mask[:, c]].long()
            share = (targets != MISSING).float()
            losses.append(-(logits.gather(1, targets) * share / share.sum(1, keepdim=True)).sum(1))
            start += feature.size
        for n, (feature, bins) in enumerate(zip(self.numeric_features, self._bins(x), strict=True)):
            hidden = target_mask[:, len(self.categorical_features) + n]
            losses.append(
                F.cross_entropy(all_logits[:, start : start + feature.size][hidden], bins[hidden], reduction="none")
            )
            start += feature.size
        loss = torch.cat(losses) if losses else all_logits.new_zeros(0)
        return loss.mean() if len(loss) else all_logits.sum() * 0
