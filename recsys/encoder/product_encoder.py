"""The product encoder: maps any subset of text, image and attributes to one vector in one space.

In: the inputs read by the modality encoders. Out: unit vectors; a missing or hidden modality contributes nothing.
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
from recsys.encoder.modalities.attributes import SEPARATOR, AttributeEncoder, select_features
from recsys.encoder.modalities.bag_of_words import BagOfWordsEncoder
from recsys.encoder.modalities.image import ImageEncoder
from recsys.encoder.modalities.text import TextEncoder
from recsys.encoder.transformer import TransformerBlock

MODALITIES: Final = ("text", "image", "attributes")
_INITIAL_WORD_WEIGHT: Final = 1.5
"""Initial weight of the exact words relative to the fused tokens."""
_INITIAL_PREDICTED_WEIGHT: Final = 0.7
"""Initial weight of the words predicted from an image; written words have weight 1."""
_INITIAL_SHARES: Final = {"text": 1.0, "image": 0.5, "attributes": 0.5, "together": 0.1}
"""Initial weight of each modality's own vector in the sum, and of the vector fused from all modalities (`together`)."""
ProductInputs = dict[str, Inputs]
"""Inputs by encoder: text, image, attributes, and the exact words of texts (`words`) and of attributes (`facts`)."""


@dataclass(frozen=True)
class ProductEmbedding:
    """b products in one view: `vector` (b, d) of unit length and its hidden state `summary` (b, w)."""

    vector: Tensor
    summary: Tensor


class ProductEncoder(nn.Module):
    """Modality encoders, a fusion transformer over their tokens, and a path for exact words."""

    def __init__(
        self,
        *,
        text: TextEncoder,
        image: ImageEncoder,
        attributes: AttributeEncoder,
        words: BagOfWordsEncoder,
        keyword_columns: Sequence[str],
        settings: EncoderSettings,
    ) -> None:
        """Combine the modality encoders; a value of the columns `keyword_columns` counts as one word."""
        super().__init__()
        self.settings = settings
        self.keyword_columns = list(keyword_columns)
        self.text, self.image, self.attributes, self.words = text, image, attributes, words
        width = settings.width
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        self.kinds = nn.Parameter(torch.randn(len(MODALITIES), width) * 0.02)
        self.blocks = nn.ModuleList(TransformerBlock(width, settings.heads) for _ in range(settings.fusion_layers))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, settings.dim)
        self.exactness = nn.Parameter(torch.tensor(_INITIAL_WORD_WEIGHT))
        self.glanced = nn.Parameter(torch.tensor(_INITIAL_PREDICTED_WEIGHT))
        self.shares = nn.Parameter(torch.tensor(list(_INITIAL_SHARES.values())))

    @staticmethod
    def fit(catalogue: Catalogue, settings: EncoderSettings) -> ProductEncoder:
        """Fit vocabulary, features and words to a catalogue; other weights are random (torch's generator)."""
        frame = catalogue.frame
        auto = settings.attribute_columns == "auto"
        features = select_features(frame, None if auto else list(settings.attribute_columns))
        attributes = AttributeEncoder(features, settings.width)
        feature_names = {feature.name for feature in features}
        names = [
            name
            for name in frame.columns
            if name == schema.GROUP_ID
            or (
                auto
                and name not in feature_names
                and (name == schema.BRAND or name.startswith(schema.ATTRIBUTE_PREFIX))
            )
        ]
        names = [
            name for name in names if frame[name].dtype == pl.String and frame[name].drop_nulls().is_duplicated().any()
        ]
        columns = [name for name in settings.text_columns if name in frame.columns]
        texts = product_texts(frame, columns)
        facts = attribute_texts(frame, [feature.name for feature in features if not feature.is_number])
        words = BagOfWordsEncoder.fit(
            (
                product_words(text, fact, name)
                for text, fact, name in zip(texts, facts, _keyword_values(frame, names), strict=True)
            ),
            settings.dim,
        )
        corpus = (piece for text, fact in zip(texts, facts, strict=True) for piece in (*text, *fact))
        text = TextEncoder.fit(corpus, columns, settings)
        if settings.text == "own":
            nn.init.normal_(text.embedding.weight, std=0.5)
        encoder = ProductEncoder(
            text=text,
            image=ImageEncoder(settings),
            attributes=attributes,
            words=words,
            keyword_columns=names,
            settings=settings,
        )
        with torch.no_grad():
            x = encoder.read(catalogue, np.arange(len(catalogue)), load_images=False)
            encoder.words.initialize_lsa([x["words"], x["facts"]])
            encoder.image.first_guess.fit(catalogue.images, encoder.words(x["words"]) + encoder.words(x["facts"]))
        return encoder

    @property
    def columns(self) -> list[str]:
        """Catalogue columns that determine a product's vector."""
        return list(
            dict.fromkeys([*self.text.columns, *self.attributes.columns, *self.keyword_columns, schema.IMAGE_HASH])
        )

    @property
    def categorical_columns(self) -> list[str]:
        """Attribute columns with categorical values, which are also encoded as words."""
        return [feature.name for feature in self.attributes.categorical_features]

    def read(
        self,
        catalogue: Catalogue,
        rows: npt.NDArray[np.integer],
        *,
        load_images: bool = True,
        hide: Collection[str] = (),
    ) -> ProductInputs:
        """Read the inputs of some products.

        Args:
            catalogue: the products.
            rows: (m,) rows to read.
            load_images: also read the pixels; False = the caller adds `image` later.
            hide: columns to read as if they were empty.
        """
        columns = [name for name in self.columns if name in catalogue.frame.columns and name not in hide]
        frame = catalogue.frame.select(columns)[rows.tolist()]
        texts = [tokenize(" ".join(text)) for text in product_texts(frame, self.text.columns)]
        facts, names = attribute_texts(frame, self.categorical_columns), _keyword_values(frame, self.keyword_columns)
        x = {
            "text": self.text.read(frame),
            "attributes": self.attributes.read(frame),
            "words": self.words.pad([self.words.token_ids(words) for words in texts]),
            "facts": self.words.pad(
                [self.words.token_ids(product_words((), fact, name)) for fact, name in zip(facts, names, strict=True)]
            ),
        }
        if load_images:
            x["image"] = ImageEncoder.read(catalogue.images, rows)
        return x

    def present(self, x: ProductInputs) -> dict[str, Tensor]:
        """Masks of the products that have each modality: (b,) bool by modality."""
        return {name: getattr(self, name).present(x[name]) for name in MODALITIES}

    def modality_tokens(self, x: ProductInputs, g: torch.Generator | None = None) -> dict[str, Tokens]:
        """Compute the tokens of each modality; with a generator `g` (training) images are augmented."""
        return {
            "text": self.text(x["text"]),
            "image": self.image(x["image"], g),
            "attributes": self.attributes(x["attributes"]),
        }

    def encode_all(
        self,
        tokens: Mapping[str, Tokens],
        x: ProductInputs,
        visible: Mapping[str, Tensor],
        *,
        modality_views: Mapping[str, ProductEmbedding] | None = None,
    ) -> ProductEmbedding:
        """Encode products as a weighted sum of each modality's vector and the fused vector.

        A sum of vectors that each work by themselves finds neighbours better than attention over all tokens does. The
        weights of the sum are learned.

        Args:
            tokens: tokens by modality; tokens of hidden modalities are not real.
            x: the inputs the tokens were computed from.
            visible: which products each modality is visible for: (b,) bool by modality.
            modality_views: results of `encode_modality` that are already computed, by modality.
        """
        fused = self.fuse(tokens, None)
        *modality_shares, fused_share = self.shares
        vector = fused_share * fused.vector
        for name, share in zip(MODALITIES, modality_shares, strict=True):
            if name in tokens:
                view = (modality_views or {}).get(name) or self.encode_modality(name, tokens[name], x)
                vector = vector + share * visible[name][:, None] * view.vector
        return ProductEmbedding(F.normalize(vector, dim=1), fused.summary)

    def encode_modality(self, name: str, tokens: Tokens, x: ProductInputs) -> ProductEmbedding:
        """Encode products by one modality: its tokens and its exact words."""
        if name == "image":
            return self.fuse({name: tokens}, self.predict_words(x["image"]))
        return self.fuse({name: tokens}, self.encode_words(x["words" if name == "text" else "facts"]))

    def encode_words(self, x: Inputs) -> Tensor:
        """Encode the exact words of a text or of attribute values: (b, d) of unit length."""
        return F.normalize(self.words(x).float(), dim=1)

    def predict_words(self, x: Inputs) -> Tensor:
        """Predict the word vector of an image, scaled below written words: (b, d)."""
        out: Tensor = self.glanced * F.normalize(self.image.predict_words(x).float(), dim=1)
        return out

    def fuse(self, parts: Mapping[str, Tokens], word_vector: Tensor | None) -> ProductEmbedding:
        """Fuse the tokens of some modalities and the vectors of their exact words, (b, d), into one vector."""
        tokens = torch.cat([part.x + self.kinds[MODALITIES.index(name)] for name, part in parts.items()], 1)
        real = torch.cat([part.real for part in parts.values()], 1)
        # The first token starts as the mean of the others, so that it is informative before attention is trained.
        mean = (tokens * real[..., None]).sum(1) / real.sum(1).clamp(min=1)[:, None]
        x = torch.cat([(self.start + mean)[:, None], tokens], 1)
        mask = torch.cat([real.new_ones(len(real), 1), real], 1)[:, None, None, :]
        for block in self.blocks:
            x = block(x, mask)
        summary = self.norm(x[:, 0])
        vector = F.normalize(self.project(summary).float(), dim=1)
        if word_vector is not None:
            vector = F.normalize(vector + self.exactness * word_vector.float(), dim=1)
        return ProductEmbedding(vector, summary)

    def forward(
        self, x: ProductInputs, modalities: Sequence[str] = MODALITIES, *, hide: Collection[str] = ()
    ) -> ProductEmbedding:
        """Encode products by the given modalities; a modality that a product lacks is skipped.

        Columns hidden in `read` should be in `hide` too: their tokens then mean "hidden", which the encoder knows from
        training, not "this product has no value".
        """
        parts = {name: getattr(self, name)(x[name]) for name in modalities}
        if hide and "attributes" in parts:
            parts["attributes"] = self.attributes(x["attributes"], self.attributes.hidden_mask(x["attributes"], hide))
        if len(parts) == 1:
            return self.encode_modality(*next(iter(parts.items())), x)
        show = {name: getattr(self, name).present(x[name]) for name in modalities}
        return self.encode_all(parts, x, show)


def product_texts(frame: pl.DataFrame, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the non-empty texts of each product, in the order of the columns."""
    lists = [frame[name].cast(pl.String).to_list() for name in columns if name in frame.columns]
    return [tuple(text for text in row if text) for row in zip(*lists, strict=True)] if lists else [()] * frame.height


def attribute_texts(frame: pl.DataFrame, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the distinct attribute values of each product as texts."""
    rows = product_texts(frame, columns)
    return [tuple(dict.fromkeys(part for text in row for part in text.split(SEPARATOR) if part)) for row in rows]


def _keyword_values(frame: pl.DataFrame, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Values that count as one word each, as `<column>=<value>`."""
    names = [name for name in columns if name in frame.columns]
    lists = [[value and f"{name}={value}" for value in frame[name].cast(pl.String).to_list()] for name in names]
    return [tuple(text for text in row if text) for row in zip(*lists, strict=True)] if lists else [()] * frame.height


def product_words(texts: Iterable[str], attribute_values: Iterable[str], keywords: Iterable[str]) -> list[str]:
    """Return all words of a product: of its texts and attribute values, and unsplit keyword values."""
    return [*tokenize(" ".join((*texts, *attribute_values))), *keywords]
