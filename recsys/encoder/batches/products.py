"""Training batches of products, each a pure function of seed and step.

A resumed training therefore sees the same batches.
In: catalogue, co-purchase pairs. Out: `ProductBatch`, half of it products in random order, half partners they were
bought with, and for each product a search query such as a customer might type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys.data.catalogue import Catalogue
from recsys.data.tokenize import tokenize
from recsys.encoder.batches.co_purchase_pairs import CoPurchasePairs
from recsys.encoder.modalities import Inputs, Tokens
from recsys.encoder.product_encoder import (
    ProductEmbedding,
    ProductEncoder,
    ProductInputs,
    attribute_texts,
    product_texts,
)
from recsys.types import BoolArray, IntArray

_MAX_QUERY_FACTS = 4
"""A query has at most this many attribute values."""
_OVERSAMPLED_SHARE = 0.5
"""Share of the products in random order that are taken from the oversampled ones, if there are any."""
_UNMASKED_SHARE = 0.4
"""Share of the products without any masked attribute."""


@dataclass(frozen=True)
class MaskedView:
    """Products encoded from their unmasked data.

    Attributes:
        embedding: the embedding.
        masked_features: (b, F) bool, masked features.
        tokens: tokens by modality that were fused.
    """

    embedding: ProductEmbedding
    masked_features: Tensor
    tokens: dict[str, Tokens]


@dataclass
class ProductBatch:
    """b products; the second half are partners of the first.

    Attributes:
        rows: (b,) int64 product rows.
        x: inputs of each modality.
        query: tokens, words, word weights of a search query for each product.
        text_key: (n,) int64 for all products of the catalogue, equal where two texts are identical.
        has_partner: (b / 2,) bool, whether the product was bought with its partner.
        pairs: all known pairs.
    """

    rows: IntArray
    x: ProductInputs
    query: Inputs
    text_key: IntArray
    has_partner: Tensor
    pairs: CoPurchasePairs
    _towers: dict[str, Tokens] = field(default_factory=dict)
    _present: dict[str, Tensor] = field(default_factory=dict)
    _single: dict[str, ProductEmbedding] = field(default_factory=dict)
    _masked: list[MaskedView] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device) -> ProductBatch:
        """Return the batch on a device; `rows` stay on the CPU."""
        x = {name: to_device(part, device) for name, part in self.x.items()}
        query = to_device(self.query, device)
        return ProductBatch(self.rows, x, query, self.text_key, self.has_partner.to(device), self.pairs)

    def towers(self, model: ProductEncoder, g: torch.Generator) -> dict[str, Tokens]:
        """Return the tokens of each modality, computed once per step and shared by all objectives."""
        if not self._towers:
            self._towers = model.modality_tokens(self.x, g)
        return self._towers

    def present(self, model: ProductEncoder) -> dict[str, Tensor]:
        """Return which products have which modality: (b,) bool each."""
        if not self._present:
            self._present = model.present(self.x)
        return self._present

    def encode_modality(
        self, model: ProductEncoder, g: torch.Generator, name: Literal["text", "image"]
    ) -> ProductEmbedding:
        """Return the products encoded from one modality, computed once per step."""
        if name not in self._single:
            self._single[name] = model.encode_modality(name, self.towers(model, g)[name], self.x)
        return self._single[name]

    def encode_masked(self, model: ProductEncoder, g: torch.Generator) -> MaskedView:
        """Return the products encoded from all modalities under random masks.

        All objectives share one view, because it is the most expensive one.
        """
        if not self._masked:
            show, conceal = sample_masks(model, self.x, self.present(model), g)
            single = {name: self.encode_modality(model, g, name) for name in ("text", "image")}
            self._masked.append(
                apply_masks(
                    model,
                    self.x,
                    self.towers(model, g),
                    visible=show,
                    masked_features=conceal,
                    single_embeddings=single,
                )
            )
        return self._masked[0]

    def same_text_mask(self, a: IntArray, b: IntArray) -> BoolArray:
        """Mark pairs of products, given by row, with identical text: (m,) and (k,) -> (m, k) bool."""
        return np.equal.outer(self.text_key[a], self.text_key[b])


def sample_masks(
    model: ProductEncoder, x: ProductInputs, present: dict[str, Tensor], g: torch.Generator
) -> tuple[dict[str, Tensor], Tensor]:
    """Sample the visible modalities, (b,) bool each, and the masked features, (b, F) bool."""
    show = drop_modalities(present, model.settings.modality_dropout, g)
    known = model.attributes.known_mask(x["attributes"])
    share = (torch.rand(len(known), 1, generator=g) - _UNMASKED_SHARE) / (1 - _UNMASKED_SHARE)
    return show, (torch.rand(known.shape, generator=g) < share).to(known.device)


def apply_masks(
    model: ProductEncoder,
    x: ProductInputs,
    towers: dict[str, Tokens],
    *,
    visible: dict[str, Tensor],
    masked_features: Tensor,
    single_embeddings: Mapping[str, ProductEmbedding] | None = None,
) -> MaskedView:
    """Encode products under masks.

    Args:
        model: the product encoder.
        x: inputs of b products.
        towers: tokens by modality, without masks.
        visible: (b,) bool by modality, whether it is visible, see `sample_masks`.
        masked_features: (b, F) bool, masked features.
        single_embeddings: embeddings by single modality without masks, if already computed.
    """
    parts = {name: part.where(visible[name]) for name, part in towers.items()}
    parts["attributes"] = model.attributes(x["attributes"], masked_features).where(visible["attributes"])
    return MaskedView(model.encode_all(parts, x, visible, modality_views=single_embeddings), masked_features, parts)


def to_device(x: Inputs, device: torch.device) -> Inputs:
    """Copy inputs to a device; from pinned memory the copy is asynchronous."""
    return {name: value.to(device, non_blocking=True) for name, value in x.items()}


def drop_modalities(present: dict[str, Tensor], rate: float, g: torch.Generator) -> dict[str, Tensor]:
    """Hide each modality of each product with probability `rate`, but keep at least one of those present."""
    names = list(present)
    available = torch.stack([present[name] for name in names], 1)
    draw = torch.rand(available.shape, generator=g).to(available.device)
    keep = available & (draw >= rate)
    best = (draw * available).argmax(1)
    keep[torch.arange(len(keep)), best] |= available[torch.arange(len(keep)), best] & ~keep.any(1)
    return {name: keep[:, i] for i, name in enumerate(names)}


class ProductBatchLoader:
    """Reads all inputs but the pixels once; `at(step)` assembles a batch."""

    def __init__(
        self,
        catalogue: Catalogue,
        model: ProductEncoder,
        pairs: CoPurchasePairs,
        *,
        batch_size: int,
        seed: int,
        oversampled_rows: IntArray | None = None,
    ) -> None:
        """Read the catalogue; `oversampled_rows` (l,) are rows of products that get a fixed share of every batch."""
        self.catalogue, self.model, self.pairs, self.seed = catalogue, model, pairs, seed
        n = len(catalogue)
        self.half_size = max(1, min(batch_size, n) // 2)
        self.oversampled_rows = oversampled_rows if oversampled_rows is not None else np.zeros(0, np.int64)
        self._n_oversampled = min(len(self.oversampled_rows), round(_OVERSAMPLED_SHARE * self.half_size))
        self.steps_per_epoch = max(1, -(-n // (2 * self.half_size)))
        self._inputs = model.read(catalogue, np.arange(n), load_images=False)
        model.text.cache_pooled(self._inputs["text"])
        self._text_key = np.unique(self._inputs["text"]["tokens"].numpy(), axis=0, return_inverse=True)[1].reshape(-1)
        self._tokenize_values(catalogue)

    def _tokenize_values(self, catalogue: Catalogue) -> None:
        """Tokenize each distinct title and attribute value, and record which product has which."""
        titles = product_texts(catalogue.frame, self.model.text.columns[:1])
        facts = attribute_texts(catalogue.frame, self.model.categorical_columns)
        texts = list(dict.fromkeys(text for product in (*titles, *facts) for text in product))
        text_index = {text: i for i, text in enumerate(texts)}
        self._text_tokens = self.model.text.token_ids(texts)
        self._text_words = [tokenize(text) for text in texts]
        self._titles = [[text_index[text] for text in product] for product in titles]
        self._facts = [[text_index[text] for text in product] for product in facts]

    def _sample_queries(self, rows: npt.NDArray[np.integer], rng: np.random.Generator) -> Inputs:
        """Sample queries: a few attribute values of a product in random order, half the time with its title."""
        token_rows: list[Sequence[int]] = []
        word_rows = []
        with_title, n_facts = rng.random(len(rows)) < 0.5, rng.integers(1, _MAX_QUERY_FACTS + 1, len(rows))
        for i, row in enumerate(rows.tolist()):
            facts = self._facts[row]
            query = [facts[j] for j in rng.permutation(len(facts))[: n_facts[i]]]
            if with_title[i] or not query:
                query += self._titles[row]
                rng.shuffle(query)
            token_rows.append([token for text in query for token in self._text_tokens[text]])
            word_rows.append(self.model.words.token_ids(word for text in query for word in self._text_words[text]))
        return {**self.model.text.pad(token_rows), **self.model.words.pad(word_rows)}

    def get_batch(self, step: int) -> ProductBatch:
        """Return the batch of a step: every product occurs once per pass, followed by its partner."""
        n = len(self.catalogue)
        anchors = _epoch_permutation(n, step, self.half_size - self._n_oversampled, seed=self.seed)
        if self._n_oversampled:
            oversampled = _epoch_permutation(len(self.oversampled_rows), step, self._n_oversampled, seed=self.seed)
            anchors = np.concatenate([anchors, self.oversampled_rows[oversampled]])
        rng = np.random.default_rng((self.seed, 1, step))
        partners = self.pairs.sample(anchors, rng)
        paired = partners >= 0
        rows = np.concatenate([anchors, np.where(paired, partners, rng.integers(0, n, len(anchors)))])
        index = torch.from_numpy(rows)
        x: ProductInputs = {
            name: {key: value[index] for key, value in self._inputs[name].items()} for name in self._inputs
        }
        x["image"] = self._read_images(rows)
        return ProductBatch(
            rows, x, self._sample_queries(rows, rng), self._text_key, torch.from_numpy(paired), self.pairs
        )

    def _read_images(self, rows: npt.NDArray[np.integer]) -> Inputs:
        return {
            **self.model.image.read(self.catalogue.images, rows),
            "guess": self.model.image.first_guess.leave_one_out(rows),
        }


def _epoch_permutation(n: int, step: int, count: int, *, seed: int) -> IntArray:
    """Return the `count` of n rows of a step: all rows occur in random order before any occurs again."""
    positions = np.arange(step * count, (step + 1) * count)
    orders = {
        epoch: np.random.default_rng((seed, 0, epoch)).permutation(n) for epoch in np.unique(positions // n).tolist()
    }
    return np.concatenate([order[positions[positions // n == epoch] % n] for epoch, order in orders.items()])
