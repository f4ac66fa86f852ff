"""Transfer: start a training from an encoder of another shop, or from an earlier one of this shop.

In: a trained `Model`, a catalogue. Out: an encoder of that catalogue with every weight copied that fits; the rest is
new. Words known to an earlier model of the same shop keep their vectors (vocabulary transfer: Zoph et al. 2016). Words
of another shop start as in any training, rotated to where the shared words were: which words belong together differs
between shops, and so does how informative texts, images and attributes are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from recsys.config import EncoderSettings
from recsys.data.catalogue import Catalogue
from recsys.encoder.modalities.attributes import AttributeEncoder, Feature
from recsys.encoder.modalities.bag_of_words import FIRST_WORD_ID, BagOfWordsEncoder
from recsys.encoder.modalities.text import TextEncoder
from recsys.encoder.model import Model
from recsys.encoder.product_encoder import ProductEncoder
from recsys.encoder.training.plan import TrainingPlan
from recsys.errors import ModelFolderError

_SHOP_SETTINGS: Final = {
    "vocabulary",
    "text_tokens",
    "history",
    "user_layers",
    "text_columns",
    "attribute_columns",
    "modality_dropout",
    "id_dropout",
    "matryoshka",
    "tuning_pace",
    "precision",
}
"""Settings that may differ: they change no weight of the product encoder, or only how many rows a table has."""
_MODULES: Final = ("text", "image", "attributes", "words")
_MODALITY_WEIGHTS: Final = ("shares", "exactness", "glanced")
"""Weight of each modality in the vector of a product."""
_SAME_SHOP_SHARE: Final = 0.9
"""A model that knows at least this share of a catalogue's words, weighted by use, is of the same shop.

Rare words share their vectors and do not count."""

RowPairs = Sequence[tuple[int, int]]
"""Pairs of rows with the same meaning in a new and an old table."""


@dataclass(frozen=True)
class TransferReport:
    """How much of one part was copied, in weights, words or values.

    Attributes:
        part: of the encoder.
        unit: what is counted: weights, words or values.
        copied: number copied.
        total: number in the new encoder.
    """

    part: str
    unit: str
    copied: int
    total: int


class Transfer:
    """Starts a training from a trained model; `report` reports afterwards how much was copied."""

    def __init__(self, source: Model, settings: EncoderSettings) -> None:
        """Check that the sizes fit.

        Raises:
            ModelFolderError: they differ.
        """
        self.source = source
        self.report: tuple[TransferReport, ...] = ()
        new, old = settings.model_dump(mode="json"), source.settings.model_dump(mode="json")
        differing = [name for name in new if name not in _SHOP_SETTINGS and new[name] != old.get(name)]
        if differing:
            differences = ", ".join(f"{name} is {old.get(name)} there and {new[name]} here" for name in differing)
            location = source.folder or "the model"
            raise ModelFolderError(
                f"{location}: its weights do not fit [encoder]: {differences}; set them to the same values, or "
                "learn from this model with --distill"
            )

    def training_plan(self) -> TrainingPlan:
        """Return the plan of a training that starts from the source and is otherwise the default."""
        return TrainingPlan(create_encoder=self.create_encoder, identity={"started_from": self.source.content_version})

    def create_encoder(self, catalogue: Catalogue, settings: EncoderSettings) -> ProductEncoder:
        """Create an encoder of the catalogue with the weights of the source wherever they fit."""
        model, old = ProductEncoder.fit(catalogue, settings), self.source.product_encoder
        # Token ids have a meaning only within their tokenizer, so the tokenizer is copied too.
        model.text = TextEncoder.from_state(old.text.tower.state(), old.text.tokenizer, model.text.columns, settings)
        with torch.no_grad():
            x = model.read(catalogue, np.arange(len(catalogue)), load_images=False)
            shared = _common_words(model.words, old.words)
            new_rows, old_rows = [new_row for new_row, _ in shared], [old_row for _, old_row in shared]
            used = model.words.word_usage([x["words"], x["facts"]])
            model.words.align(used, new_rows, old.words.embedding.weight[old_rows])
            same_shop = bool(used[new_rows].sum() >= _SAME_SHOP_SHARE * used[FIRST_WORD_ID:].sum())
            weights = {
                "text": _copy_weights(model.text, old.text),
                "image": _copy_weights(model.image, old.image, skip=("first_guess.",)),
                "fusion": _copy_weights(
                    model, old, skip=[*(f"{name}." for name in _MODULES), *(() if same_shop else _MODALITY_WEIGHTS)]
                ),
                "attributes": _copy_attributes(model.attributes, old.attributes),
                "words": _copy_words(model.words, old.words, shared if same_shop else ()),
            }
            # The word vectors differ from those it was fitted to; without images here the source's is used.
            if catalogue.images.present.sum() > 1:
                model.image.first_guess.fit(catalogue.images, model.words(x["words"]) + model.words(x["facts"]))
            else:
                weights["image"] += _copy_weights(model.image.first_guess, old.image.first_guess)
        sizes = {name: _count_weights(getattr(model, name)) for name in _MODULES}
        sizes["fusion"] = _count_weights(model) - sum(sizes.values())
        n_values = _count_common_values(model.attributes, old.attributes)
        self.report = (
            *(TransferReport(name, "weights", copied, sizes[name]) for name, copied in weights.items()),
            TransferReport("words", "words", len(shared), len(model.words.vocabulary)),
            TransferReport(
                "attributes",
                "values",
                n_values,
                sum(len(feature.values) for feature in model.attributes.categorical_features),
            ),
        )
        return model


def _count_weights(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values())


def _copy_weights(new: nn.Module, old: nn.Module, *, skip: Sequence[str] = ()) -> int:
    """Copy tensors of equal name, or the common rows of unequal tables; return how many weights."""
    old_state, copied = old.state_dict(), 0
    for name, target in new.state_dict().items():
        if name.startswith(tuple(skip)) or name not in old_state:
            continue
        if not target.ndim:
            target.copy_(old_state[name])
            copied += 1
        elif target.shape[1:] == old_state[name].shape[1:]:
            rows = min(len(target), len(old_state[name]))
            target[:rows] = old_state[name][:rows]
            copied += target[:rows].numel()
    return copied


def _copy_rows(new: Tensor, old: Tensor, pairs: RowPairs) -> int:
    """Copy single rows; return how many weights."""
    if not pairs:
        return 0
    new_rows, old_rows = (torch.tensor(rows) for rows in zip(*pairs, strict=True))
    new[new_rows] = old[old_rows]
    return new[new_rows].numel()


def _common_words(new: BagOfWordsEncoder, old: BagOfWordsEncoder) -> list[tuple[int, int]]:
    """Return the rows, in both tables, of the words known to both."""
    old_index = {word: i for i, word in enumerate(old.vocabulary)}
    return [
        (FIRST_WORD_ID + i, FIRST_WORD_ID + old_index[word])
        for i, word in enumerate(new.vocabulary)
        if word in old_index
    ]


def _copy_words(new: BagOfWordsEncoder, old: BagOfWordsEncoder, shared: RowPairs) -> int:
    """Copy the vectors of shared and of reserved words; word frequencies stay those of the new shop."""
    return _copy_rows(new.embedding.weight, old.embedding.weight, [*((i, i) for i in range(FIRST_WORD_ID)), *shared])


def _feature_starts(features: Iterable[Feature]) -> dict[str, int]:
    """Return the first row of each feature in a table with one row per outcome of each feature."""
    starts, row = {}, 0
    for feature in features:
        starts[feature.name] = row
        row += feature.size
    return starts


def _common_outcomes(new: Feature, old: Feature) -> RowPairs:
    """Return the outcomes with equal meaning: missing, unknown and common values, or all bins of a number."""
    if new.is_number:
        return [(i, i) for i in range(new.size)]
    old_index = {value: i + 2 for i, value in enumerate(old.values)}
    return [(0, 0), (1, 1), *((i + 2, old_index[value]) for i, value in enumerate(new.values) if value in old_index)]


def _common_features(new: AttributeEncoder, old: AttributeEncoder) -> Iterator[tuple[Feature, Feature]]:
    """Yield features of equal name and kind; bins are quantiles within each shop, so they correspond."""
    old_features = {feature.name: feature for feature in old.features}
    for feature in new.features:
        match = old_features.get(feature.name)
        if match and feature.is_number == match.is_number and not (feature.is_number and feature.size != match.size):
            yield feature, match


def _count_common_values(new: AttributeEncoder, old: AttributeEncoder) -> int:
    return sum(len(set(a.values) & set(b.values)) for a, b in _common_features(new, old))


def _copy_attributes(new: AttributeEncoder, old: AttributeEncoder) -> int:
    """Copy vectors and prediction weights of the common features; return how many weights."""
    common = list(_common_features(new, old))
    values, predictions = (
        [
            (new_starts[a.name] + new_outcome, old_starts[b.name] + old_outcome)
            for a, b in common
            if a.name in new_starts
            for new_outcome, old_outcome in _common_outcomes(a, b)
        ]
        for new_starts, old_starts in (
            (_feature_starts(new.categorical_features), _feature_starts(old.categorical_features)),
            (
                _feature_starts((*new.categorical_features, *new.numeric_features)),
                _feature_starts((*old.categorical_features, *old.numeric_features)),
            ),
        )
    )
    tokens, numbers = (  # the tokens of a product are in this order
        [(new_order.index(a), old_order.index(b)) for a, b in common if a in new_order]
        for new_order, old_order in (
            ([*new.categorical_features, *new.numeric_features], [*old.categorical_features, *old.numeric_features]),
            (new.numeric_features, old.numeric_features),
        )
    )
    new.concealed.copy_(old.concealed)
    return (
        new.concealed.numel()
        + _copy_rows(new.embedding.weight, old.embedding.weight, values)
        + _copy_rows(new.guess.weight, old.guess.weight, predictions)
        + _copy_rows(new.guess.bias, old.guess.bias, predictions)
        + _copy_rows(new.places, old.places, tokens)
        + _copy_rows(new.absent, old.absent, numbers)
        + sum(_copy_weights(new.scales[new_index], old.scales[old_index]) for new_index, old_index in numbers)
    )
