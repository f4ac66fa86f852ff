"""The product encoder: any subset of a product's text, picture and attributes to one vector in one space.

In: what the fields have read. Out: unit vectors; a modality that is missing or hidden is simply not there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.config import EncoderSettings
from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.tokenize import tokenize
from recsys.encoder.modalities import Inputs, Tokens
from recsys.encoder.modalities import attributes as table
from recsys.encoder.modalities.attributes import AttributeEncoder
from recsys.encoder.modalities.bag_of_words import BagOfWordsEncoder
from recsys.encoder.modalities.image import ImageEncoder
from recsys.encoder.modalities.text import TextEncoder
from recsys.encoder.transformer import TransformerBlock

MODALITIES: Final = ("text", "image", "attributes")
_EXACTNESS: Final = 1.5
"""How much exact words count at the start, beside what attention makes of the tokens."""
_GLANCED: Final = 0.7
"""How much the words a picture suggests count at the start; written words count 1."""
_SHARES: Final = {"text": 1.0, "image": 0.5, "attributes": 0.5, "together": 0.1}
"""How much each modality by itself counts in the vector of all at the start, and how much what they say together."""
ProductInputs = dict[str, Inputs]
"""Inputs by field: text, image, attributes, and the exact words of texts (`words`) and of attributes (`facts`)."""


@dataclass(frozen=True)
class ProductEmbedding:
    """b products as seen in one view: `vector` (b, d) of unit length, `summary` (b, w) behind it."""

    vector: Tensor
    summary: Tensor


class ProductEncoder(nn.Module):
    """Towers for text, picture and attributes, a fusion transformer over their tokens, and a path for exact words."""

    def __init__(
        self,
        *,
        text: TextEncoder,
        image: ImageEncoder,
        attributes: AttributeEncoder,
        words: BagOfWordsEncoder,
        names: Sequence[str],
        settings: EncoderSettings,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.names = list(names)
        self.text, self.image, self.attributes, self.words = text, image, attributes, words
        width = settings.width
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        self.kinds = nn.Parameter(torch.randn(len(MODALITIES), width) * 0.02)
        self.blocks = nn.ModuleList(TransformerBlock(width, settings.heads) for _ in range(settings.fusion_layers))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, settings.dim)
        self.exactness = nn.Parameter(torch.tensor(_EXACTNESS))
        self.glanced = nn.Parameter(torch.tensor(_GLANCED))
        self.shares = nn.Parameter(torch.tensor(list(_SHARES.values())))

    @staticmethod
    def fit(catalogue: Catalogue, settings: EncoderSettings) -> ProductEncoder:
        """Learn vocabulary, features and words from a catalogue; the weights are still random (torch's generator)."""
        frame = catalogue.frame
        auto = settings.attribute_columns == "auto"
        features = table.select_features(frame, None if auto else list(settings.attribute_columns))
        attributes = AttributeEncoder(features, settings.width)
        chosen = {feature.name for feature in features}
        names = [
            name
            for name in frame.columns
            if name == schema.GROUP_ID
            or (auto and name not in chosen and (name == schema.BRAND or name.startswith(schema.ATTRIBUTE_PREFIX)))
        ]
        names = [
            name for name in names if frame[name].dtype == pl.String and frame[name].drop_nulls().is_duplicated().any()
        ]
        columns = [name for name in settings.text_columns if name in frame.columns]
        texts = texts_of(frame, columns)
        facts = attribute_texts(frame, [feature.name for feature in features if not feature.is_number])
        words = BagOfWordsEncoder.fit(
            (
                product_words(text, fact, name)
                for text, fact, name in zip(texts, facts, _named(frame, names), strict=True)
            ),
            settings.dim,
        )
        corpus = (piece for text, fact in zip(texts, facts, strict=True) for piece in (*text, *fact))
        text = TextEncoder.fit(corpus, columns, settings)
        if settings.text == "own":
            nn.init.normal_(text.embedding.weight, std=0.5)
        model = ProductEncoder(
            text=text, image=ImageEncoder(settings), attributes=attributes, words=words, names=names, settings=settings
        )
        with torch.no_grad():
            x = model.read(catalogue, np.arange(len(catalogue)), pictures=False)
            model.words.initialize_lsa([x["words"], x["facts"]])
            model.image.first_guess.fit(catalogue.images, model.words(x["words"]) + model.words(x["facts"]))
        return model

    @property
    def columns(self) -> list[str]:
        """Columns of the catalogue that determine a product's vector."""
        return list(dict.fromkeys([*self.text.columns, *self.attributes.columns, *self.names, schema.IMAGE_HASH]))

    @property
    def fact_columns(self) -> list[str]:
        """Attribute columns whose values are words."""
        return [feature.name for feature in self.attributes.categories]

    def read(
        self,
        catalogue: Catalogue,
        rows: npt.NDArray[np.integer],
        *,
        pictures: bool = True,
        hide: Collection[str] = (),
    ) -> ProductInputs:
        """Read some products as if the columns `hide` were empty; without `pictures` the pixels are left for later."""
        columns = [name for name in self.columns if name in catalogue.frame.columns and name not in hide]
        frame = catalogue.frame.select(columns)[rows.tolist()]
        texts = [tokenize(" ".join(text)) for text in texts_of(frame, self.text.columns)]
        facts, names = attribute_texts(frame, self.fact_columns), _named(frame, self.names)
        out = {
            "text": self.text.read(frame),
            "attributes": self.attributes.read(frame),
            "words": self.words.padded([self.words.token_ids(words) for words in texts]),
            "facts": self.words.padded(
                [self.words.token_ids(product_words((), fact, name)) for fact, name in zip(facts, names, strict=True)]
            ),
        }
        if pictures:
            out["image"] = ImageEncoder.read(catalogue.images, rows)
        return out

    def present(self, x: ProductInputs) -> dict[str, Tensor]:
        """Which products have which modality: (b,) bool each."""
        return {name: getattr(self, name).present(x[name]) for name in MODALITIES}

    def towers(self, x: ProductInputs, g: torch.Generator | None = None) -> dict[str, Tokens]:
        """Tokens of each modality on its own; `g` given = training, pictures are augmented."""
        return {
            "text": self.text(x["text"]),
            "image": self.image(x["image"], g),
            "attributes": self.attributes(x["attributes"]),
        }

    def encode_all(
        self,
        parts: Mapping[str, Tokens],
        x: ProductInputs,
        show: Mapping[str, Tensor],
        *,
        alone: Mapping[str, ProductEmbedding] | None = None,
    ) -> ProductEmbedding:
        """Products by several modalities: each by itself, added by learned shares, and what attention makes of all.

        Adding vectors that can each stand alone finds neighbours better than attention over all tokens does.

        Args:
            parts: tokens of the modalities; those that are not to be seen are not real.
            x: what they were made from.
            show: which products are to be seen by which of them: (b,) bool each.
            alone: what `alone` gave for some of them before.
        """
        together = self.fuse(parts, None)
        *single, joint = self.shares
        vector = joint * together.vector
        for name, share in zip(MODALITIES, single, strict=True):
            if name in parts:
                view = (alone or {}).get(name) or self.encode_modality(name, parts[name], x)
                vector = vector + share * show[name][:, None] * view.vector
        return ProductEmbedding(F.normalize(vector, dim=1), together.summary)

    def encode_modality(self, name: str, part: Tokens, x: ProductInputs) -> ProductEmbedding:
        """Products by one modality: by its tokens and its exact words."""
        if name == "image":
            return self.fuse({name: part}, self.predict_words(x["image"]))
        return self.fuse({name: part}, self.written(x["words" if name == "text" else "facts"]))

    def written(self, x: Inputs) -> Tensor:
        """The exact words of a text or of values: (b, d)."""
        return F.normalize(self.words(x).float(), dim=1)

    def predict_words(self, x: Inputs) -> Tensor:
        """The words a picture suggests, less loudly: (b, d)."""
        out: Tensor = self.glanced * F.normalize(self.image.glance(x).float(), dim=1)
        return out

    def fuse(self, parts: Mapping[str, Tokens], exact: Tensor | None) -> ProductEmbedding:
        """Tokens of some modalities and their exact words, (b, d), to one vector."""
        tokens = torch.cat([part.x + self.kinds[MODALITIES.index(name)] for name, part in parts.items()], 1)
        real = torch.cat([part.real for part in parts.values()], 1)
        # The first token starts as the mean of the others, so that it means something before attention has learnt.
        mean = (tokens * real[..., None]).sum(1) / real.sum(1).clamp(min=1)[:, None]
        x = torch.cat([(self.start + mean)[:, None], tokens], 1)
        seen = torch.cat([real.new_ones(len(real), 1), real], 1)[:, None, None, :]
        for block in self.blocks:
            x = block(x, seen)
        summary = self.norm(x[:, 0])
        vector = F.normalize(self.project(summary).float(), dim=1)
        if exact is not None:
            vector = F.normalize(vector + self.exactness * exact.float(), dim=1)
        return ProductEmbedding(vector, summary)

    def forward(
        self, x: ProductInputs, modalities: Sequence[str] = MODALITIES, *, hide: Collection[str] = ()
    ) -> ProductEmbedding:
        """Encode products by the given modalities as far as they have them.

        What `read` left out of `x` should be in `hide` too: its tokens then say "not told", which training has taught
        them, not "this product has none".
        """
        parts = {name: getattr(self, name)(x[name]) for name in modalities}
        if hide and "attributes" in parts:
            parts["attributes"] = self.attributes(x["attributes"], self.attributes.named(x["attributes"], hide))
        if len(parts) == 1:
            return self.encode_modality(*next(iter(parts.items())), x)
        show = {name: getattr(self, name).present(x[name]) for name in modalities}
        return self.encode_all(parts, x, show)


def texts_of(frame: pl.DataFrame, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The texts of each product, columns in their order."""
    lists = [frame[name].cast(pl.String).to_list() for name in columns if name in frame.columns]
    return [tuple(text for text in row if text) for row in zip(*lists, strict=True)] if lists else [()] * frame.height


def attribute_texts(frame: pl.DataFrame, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The different attribute values of each product as texts."""
    rows = texts_of(frame, columns)
    return [tuple(dict.fromkeys(part for text in row for part in text.split(table.SEPARATOR) if part)) for row in rows]


def _named(frame: pl.DataFrame, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Values that count as one word each, under the name of their column."""
    held = [name for name in columns if name in frame.columns]
    lists = [[value and f"{name}={value}" for value in frame[name].cast(pl.String).to_list()] for name in held]
    return [tuple(text for text in row if text) for row in zip(*lists, strict=True)] if lists else [()] * frame.height


def product_words(texts: Iterable[str], facts: Iterable[str], names: Iterable[str]) -> list[str]:
    """All words of a product: those of its texts and values, and its named values as they are."""
    return [*tokenize(" ".join((*texts, *facts))), *names]
