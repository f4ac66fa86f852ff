"""Transfer: what an encoder has learnt in one shop, or earlier in this one, is where the training of another starts.

In: a trained `Model`, a catalogue. Out: an encoder of that catalogue with every weight that fits taken over; the rest
is new. Words that an earlier model of the shop knows keep their vectors (vocabulary transfer: Zoph et al. 2016). Words
of another shop start as in any training, turned to where the known ones were: what goes together differs from shop to
shop, and so does how much a text, a picture, an attribute tells.
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
from recsys.encoder.modalities.bag_of_words import FIRST, BagOfWordsEncoder
from recsys.encoder.modalities.text import TextEncoder
from recsys.encoder.model import Model
from recsys.encoder.product_encoder import ProductEncoder
from recsys.encoder.training.plan import TrainingPlan
from recsys.errors import ModelFolderError

_OF_THE_SHOP: Final = {
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
_TABLES: Final = ("text", "image", "attributes", "words")
_WEIGHED: Final = ("shares", "exactness", "glanced")
"""How much each modality tells."""
_SAME: Final = 0.9
"""Share of a catalogue's words, as they are used, from which on a model that knows them is one of the same shop; rare
words, which share their vectors, do not count."""

Pairs = Sequence[tuple[int, int]]
"""Rows of a new table and of the old one that mean the same."""


@dataclass(frozen=True)
class TransferReport:
    """How much of one part was taken over, in weights, words or values."""

    part: str
    unit: str
    taken: int
    of: int


class Transfer:
    """Starts a training from a trained model; `taken` tells afterwards what could be taken over."""

    def __init__(self, source: Model, settings: EncoderSettings) -> None:
        """Check that the sizes fit.

        Raises:
            ModelFolderError: they differ.
        """
        self.source = source
        self.taken: tuple[TransferReport, ...] = ()
        ours, theirs = settings.model_dump(mode="json"), source.settings.model_dump(mode="json")
        differing = [name for name in ours if name not in _OF_THE_SHOP and ours[name] != theirs.get(name)]
        if differing:
            said = ", ".join(f"{name} is {theirs.get(name)} there and {ours[name]} here" for name in differing)
            where = source.folder or "the model"
            raise ModelFolderError(
                f"{where}: its weights do not fit [encoder]: {said}; set them alike, or learn from it with --distill"
            )

    def course(self) -> TrainingPlan:
        """The course that starts there and goes on as usual."""
        return TrainingPlan(create_encoder=self.create_encoder, identity={"started_from": self.source.content_version})

    def create_encoder(self, catalogue: Catalogue, settings: EncoderSettings) -> ProductEncoder:
        """An encoder of the catalogue with the weights of the source wherever they fit."""
        model, old = ProductEncoder.fit(catalogue, settings), self.source.product
        # Token numbers mean something only together, so the whole tokenizer comes along.
        model.text = TextEncoder.of_state(old.text.tower.state(), old.text.tokenizer, model.text.columns, settings)
        with torch.no_grad():
            x = model.read(catalogue, np.arange(len(catalogue)), pictures=False)
            both = _common_words(model.words, old.words)
            here, there = [ours for ours, _ in both], [theirs for _, theirs in both]
            used = model.words.used([x["words"], x["facts"]])
            model.words.align(used, here, old.words.embedding.weight[there])
            same = bool(used[here].sum() >= _SAME * used[FIRST:].sum())
            weights = {
                "text": _copied(model.text, old.text),
                "image": _copied(model.image, old.image, leave=("first_guess.",)),
                "fusion": _copied(model, old, leave=[*(f"{name}." for name in _TABLES), *(() if same else _WEIGHED)]),
                "attributes": _attributes(model.attributes, old.attributes),
                "words": _words(model.words, old.words, both if same else ()),
            }
            # The words have other vectors than those it was fitted to; without pictures here that of the source serves.
            if catalogue.images.present.sum() > 1:
                model.image.first_guess.fit(catalogue.images, model.words(x["words"]) + model.words(x["facts"]))
            else:
                weights["image"] += _copied(model.image.first_guess, old.image.first_guess)
        sizes = {name: _size(getattr(model, name)) for name in _TABLES}
        sizes["fusion"] = _size(model) - sum(sizes.values())
        values = _common_values(model.attributes, old.attributes)
        self.taken = (
            *(TransferReport(name, "weights", taken, sizes[name]) for name, taken in weights.items()),
            TransferReport("words", "words", len(both), len(model.words.words)),
            TransferReport(
                "attributes", "values", values, sum(len(each.values) for each in model.attributes.categories)
            ),
        )
        return model


def _size(module: nn.Module) -> int:
    return sum(held.numel() for held in module.state_dict().values())


def _copied(new: nn.Module, old: nn.Module, *, leave: Sequence[str] = ()) -> int:
    """Take over what has the same name; of longer or shorter tables the rows both have. How many numbers that were."""
    held, taken = old.state_dict(), 0
    for name, into in new.state_dict().items():
        if name.startswith(tuple(leave)) or name not in held:
            continue
        if not into.ndim:
            into.copy_(held[name])
            taken += 1
        elif into.shape[1:] == held[name].shape[1:]:
            rows = min(len(into), len(held[name]))
            into[:rows] = held[name][:rows]
            taken += into[:rows].numel()
    return taken


def _rows(new: Tensor, old: Tensor, pairs: Pairs) -> int:
    """Take over single rows; how many numbers that were."""
    if not pairs:
        return 0
    into, out = (torch.tensor(side) for side in zip(*pairs, strict=True))
    new[into] = old[out]
    return new[into].numel()


def _common_words(new: BagOfWordsEncoder, old: BagOfWordsEncoder) -> list[tuple[int, int]]:
    """Rows of the words both know."""
    places = {word: at for at, word in enumerate(old.words)}
    return [(FIRST + at, FIRST + places[word]) for at, word in enumerate(new.words) if word in places]


def _words(new: BagOfWordsEncoder, old: BagOfWordsEncoder, both: Pairs) -> int:
    """Vectors of the words given and the spare ones; how rare a word is, each shop knows for itself."""
    return _rows(new.embedding.weight, old.embedding.weight, [*((at, at) for at in range(FIRST)), *both])


def _starts(features: Iterable[Feature]) -> dict[str, int]:
    """First row of each feature in a table that holds the outcomes of all."""
    out, at = {}, 0
    for feature in features:
        out[feature.name] = at
        at += feature.size
    return out


def _outcomes(new: Feature, old: Feature) -> Pairs:
    """Outcomes that mean the same: missing, unknown and common values; of numbers the bins, if there are as many."""
    if new.is_number:
        return [(at, at) for at in range(new.size)]
    places = {value: at + 2 for at, value in enumerate(old.values)}
    return [(0, 0), (1, 1), *((at + 2, places[value]) for at, value in enumerate(new.values) if value in places)]


def _common_features(new: AttributeEncoder, old: AttributeEncoder) -> Iterator[tuple[Feature, Feature]]:
    """Features of one name and kind; a number's bins are shares of the shop's own products, so they compare."""
    theirs = {feature.name: feature for feature in old.features}
    for feature in new.features:
        other = theirs.get(feature.name)
        if other and feature.is_number == other.is_number and not (feature.is_number and feature.size != other.size):
            yield feature, other


def _common_values(new: AttributeEncoder, old: AttributeEncoder) -> int:
    return sum(len(set(ours.values) & set(theirs.values)) for ours, theirs in _common_features(new, old))


def _attributes(new: AttributeEncoder, old: AttributeEncoder) -> int:
    """Vectors and guesses of the features both have; how many numbers that were."""
    held = list(_common_features(new, old))
    values, guesses = (
        [
            (into[ours.name] + a, out[ours.name] + b)
            for ours, theirs in held
            if ours.name in into
            for a, b in _outcomes(ours, theirs)
        ]
        for into, out in (
            (_starts(new.categories), _starts(old.categories)),
            (_starts((*new.categories, *new.numerics)), _starts((*old.categories, *old.numerics))),
        )
    )
    tokens, numbers = (  # a product's tokens stand in this order
        [(mine.index(ours), others.index(theirs)) for ours, theirs in held if ours in mine]
        for mine, others in (
            ([*new.categories, *new.numerics], [*old.categories, *old.numerics]),
            (new.numerics, old.numerics),
        )
    )
    new.concealed.copy_(old.concealed)
    return (
        new.concealed.numel()
        + _rows(new.embedding.weight, old.embedding.weight, values)
        + _rows(new.guess.weight, old.guess.weight, guesses)
        + _rows(new.guess.bias, old.guess.bias, guesses)
        + _rows(new.places, old.places, tokens)
        + _rows(new.absent, old.absent, numbers)
        + sum(_copied(new.scales[into], old.scales[out]) for into, out in numbers)
    )
