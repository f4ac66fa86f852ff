"""Batches of products to train on: each a pure function of seed and step, so that a resumed training sees the same.

In: catalogue, co-purchase pairs. Out: `ProductBatch`, half of it products in random order, half partners they were
bought with, and for each product a query such as a customer might type.
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
from recsys.encoder.product_encoder import ProductEmbedding, ProductEncoder, ProductInputs, attribute_texts, texts_of
from recsys.types import BoolArray, IntArray

_QUERY_FACTS = 4
_OFTEN = 0.5
"""Share of the products in random order that are drawn from those that come often, where there are any."""
_SPARED = 0.4
"""Share of the products of which no attribute is hidden."""


@dataclass(frozen=True)
class MaskedView:
    """Products by all that is shown of them; `conceal` (b, F) tells the hidden features, `parts` is what was fused."""

    encoded: ProductEmbedding
    conceal: Tensor
    parts: dict[str, Tokens]


@dataclass
class ProductBatch:
    """b products; the second half are partners of the first.

    Attributes:
        rows: (b,) int64 product rows.
        x: what the fields have read.
        query: tokens, words, weights of a typed query for each product.
        text_key: (n,) int64 for all products of the catalogue, equal where two have the very same text.
        paired: (b / 2,) bool, was the product bought with its partner.
        pairs: all known pairs.
    """

    rows: IntArray
    x: ProductInputs
    query: Inputs
    text_key: IntArray
    paired: Tensor
    pairs: CoPurchasePairs
    _towers: dict[str, Tokens] = field(default_factory=dict)
    _present: dict[str, Tensor] = field(default_factory=dict)
    _alone: dict[str, ProductEmbedding] = field(default_factory=dict)
    _whole: list[MaskedView] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device) -> ProductBatch:
        """The same on a device; `rows` stay here."""
        x = {name: to_device(part, device) for name, part in self.x.items()}
        query = to_device(self.query, device)
        return ProductBatch(self.rows, x, query, self.text_key, self.paired.to(device), self.pairs)

    def towers(self, model: ProductEncoder, g: torch.Generator) -> dict[str, Tokens]:
        """Tokens of each modality, computed once a step however many objectives ask."""
        if not self._towers:
            self._towers = model.towers(self.x, g)
        return self._towers

    def present(self, model: ProductEncoder) -> dict[str, Tensor]:
        """Which products have which modality: (b,) bool each."""
        if not self._present:
            self._present = model.present(self.x)
        return self._present

    def alone(self, model: ProductEncoder, g: torch.Generator, name: Literal["text", "image"]) -> ProductEmbedding:
        """The products by their texts or their pictures alone, computed once a step too."""
        if name not in self._alone:
            self._alone[name] = model.encode_modality(name, self.towers(model, g)[name], self.x)
        return self._alone[name]

    def whole(self, model: ProductEncoder, g: torch.Generator) -> MaskedView:
        """The products by all they have, less what chance hides; one view for all objectives, for it is the dearest."""
        if not self._whole:
            show, conceal = sample_masks(model, self.x, self.present(model), g)
            alone = {name: self.alone(model, g, name) for name in ("text", "image")}
            self._whole.append(
                apply_masks(model, self.x, self.towers(model, g), show=show, conceal=conceal, alone=alone)
            )
        return self._whole[0]

    def same_text(self, a: IntArray, b: IntArray) -> BoolArray:
        """Which products, by their rows, have the very same text: (m,) and (k,) -> (m, k) bool."""
        return np.equal.outer(self.text_key[a], self.text_key[b])


def sample_masks(
    model: ProductEncoder, x: ProductInputs, present: dict[str, Tensor], g: torch.Generator
) -> tuple[dict[str, Tensor], Tensor]:
    """What chance leaves of products: which modalities show, (b,) bool each, and which features hide, (b, F) bool."""
    show = drop_modalities(present, model.settings.modality_dropout, g)
    known = model.attributes.known(x["attributes"])
    share = (torch.rand(len(known), 1, generator=g) - _SPARED) / (1 - _SPARED)
    return show, (torch.rand(known.shape, generator=g) < share).to(known.device)


def apply_masks(
    model: ProductEncoder,
    x: ProductInputs,
    towers: dict[str, Tokens],
    *,
    show: dict[str, Tensor],
    conceal: Tensor,
    alone: Mapping[str, ProductEmbedding] | None = None,
) -> MaskedView:
    """Products by what is left of them, see `sample_masks`; `towers` and `alone` are of the products with nothing hidden."""
    parts = {name: part.shown(show[name]) for name, part in towers.items()}
    parts["attributes"] = model.attributes(x["attributes"], conceal).shown(show["attributes"])
    return MaskedView(model.encode_all(parts, x, show, alone=alone), conceal, parts)


def to_device(x: Inputs, device: torch.device) -> Inputs:
    """Inputs on a device; from pinned memory the copying goes on while others work."""
    return {name: value.to(device, non_blocking=True) for name, value in x.items()}


def drop_modalities(present: dict[str, Tensor], rate: float, g: torch.Generator) -> dict[str, Tensor]:
    """Hide each modality of each product with chance `rate`, but leave every product one if it has any."""
    names = list(present)
    had = torch.stack([present[name] for name in names], 1)
    draw = torch.rand(had.shape, generator=g).to(had.device)
    keep = had & (draw >= rate)
    best = (draw * had).argmax(1)
    keep[torch.arange(len(keep)), best] |= had[torch.arange(len(keep)), best] & ~keep.any(1)
    return {name: keep[:, at] for at, name in enumerate(names)}


class ProductBatchLoader:
    """Reads everything but pixels once; `at(step)` puts a batch together."""

    def __init__(
        self,
        catalogue: Catalogue,
        model: ProductEncoder,
        pairs: CoPurchasePairs,
        *,
        size: int,
        seed: int,
        often: IntArray | None = None,
    ) -> None:
        """Read the catalogue; `often` (l,) are rows of products that have a share of every batch for themselves."""
        self.catalogue, self.model, self.pairs, self.seed = catalogue, model, pairs, seed
        n = len(catalogue)
        self.half = max(1, min(size, n) // 2)
        self.often = often if often is not None else np.zeros(0, np.int64)
        self._extra = min(len(self.often), round(_OFTEN * self.half))
        self.steps_per_pass = max(1, -(-n // (2 * self.half)))
        self._all = model.read(catalogue, np.arange(n), pictures=False)
        model.text.remember(self._all["text"])
        self._text_key = np.unique(self._all["text"]["tokens"].numpy(), axis=0, return_inverse=True)[1].reshape(-1)
        self._pieces(catalogue)

    def _pieces(self, catalogue: Catalogue) -> None:
        """Tokens and words of each different title and attribute value, and which product has which."""
        titles = texts_of(catalogue.frame, self.model.text.columns[:1])
        facts = attribute_texts(catalogue.frame, self.model.fact_columns)
        pieces = list(dict.fromkeys(piece for group in (*titles, *facts) for piece in group))
        number = {piece: at for at, piece in enumerate(pieces)}
        self._piece_ids = self.model.text.ids(pieces)
        self._piece_words = [tokenize(piece) for piece in pieces]
        self._titles = [[number[piece] for piece in group] for group in titles]
        self._facts = [[number[piece] for piece in group] for group in facts]

    def _queries(self, rows: npt.NDArray[np.integer], rng: np.random.Generator) -> Inputs:
        """A few of a product's attribute values in any order, half the time with its title."""
        token_rows: list[Sequence[int]] = []
        word_rows = []
        with_title, how_many = rng.random(len(rows)) < 0.5, rng.integers(1, _QUERY_FACTS + 1, len(rows))
        for at, row in enumerate(rows.tolist()):
            facts = self._facts[row]
            chosen = [facts[i] for i in rng.permutation(len(facts))[: how_many[at]]]
            if with_title[at] or not chosen:
                chosen += self._titles[row]
                rng.shuffle(chosen)
            token_rows.append([token for piece in chosen for token in self._piece_ids[piece]])
            word_rows.append(self.model.words.token_ids(word for piece in chosen for word in self._piece_words[piece]))
        return {**self.model.text.padded(token_rows), **self.model.words.padded(word_rows)}

    def at(self, step: int) -> ProductBatch:
        """The batch of a step: every product comes once in a pass, its partner beside it."""
        n = len(self.catalogue)
        anchors = _epoch_permutation(n, step, self.half - self._extra, seed=self.seed)
        if self._extra:
            chosen = _epoch_permutation(len(self.often), step, self._extra, seed=self.seed)
            anchors = np.concatenate([anchors, self.often[chosen]])
        rng = np.random.default_rng((self.seed, 1, step))
        partners = self.pairs.sample(anchors, rng)
        paired = partners >= 0
        rows = np.concatenate([anchors, np.where(paired, partners, rng.integers(0, n, len(anchors)))])
        at = torch.from_numpy(rows)
        x: ProductInputs = {name: {key: value[at] for key, value in self._all[name].items()} for name in self._all}
        x["image"] = self._pictures(rows)
        return ProductBatch(rows, x, self._queries(rows, rng), self._text_key, torch.from_numpy(paired), self.pairs)

    def _pictures(self, rows: npt.NDArray[np.integer]) -> Inputs:
        return {
            **self.model.image.read(self.catalogue.images, rows),
            "guess": self.model.image.first_guess.leave_one_out(rows),
        }


def _epoch_permutation(n: int, step: int, count: int, *, seed: int) -> IntArray:
    """The `count` of n rows that come in a step: all come in random order before any comes again."""
    places = np.arange(step * count, (step + 1) * count)
    orders = {turn: np.random.default_rng((seed, 0, turn)).permutation(n) for turn in np.unique(places // n).tolist()}
    return np.concatenate([order[places[places // n == turn] % n] for turn, order in orders.items()])
