"""Search query: products, texts and images with weights, both wanted and unwanted.

In: ids, texts, image files, one or several of each. Out: a validated `Query` of weighted parts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from recsys.arguments import Paths, Texts, path_list, require_mapping, text_list
from recsys.config import ImageSettings
from recsys.errors import UsageError, suggestion

logger = logging.getLogger(__name__)

KINDS: Final = ("product", "text", "image")
"""Kinds of query parts."""
NOT_PREFIX: Final = "not_"
"""Prefix of a kind in the names of weights, for unwanted parts."""
MAX_CHARACTERS: Final = 2_000
"""Characters of a text that are read: several times the encoder's limit."""
MAX_PARTS: Final = 100
"""Largest number of parts of one query."""

OneOrMany = Paths | None
"""One product, text or image, or several of them."""
Weight = float | Sequence[float]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class QueryPart:
    """One wanted or unwanted part of a query.

    Attributes:
        kind: one of KINDS.
        value: a product id, a text, or the path of an image.
        weight: above 0.
    """

    kind: str
    value: str
    weight: float


@dataclass(frozen=True)
class Query:
    """A search query of one or several parts.

    Attributes:
        product: a product id, or several.
        text: any text, or several.
        image: an image file, or several.
        minus: unwanted parts: "product", "text", "image" to one or several.
        weights: "product", "text", "image", and the same after "not_", to a number that all parts of this kind share,
            or to one number each; the default is 1 per kind, so that three products count as much as one text.
        plus_parts: all wanted parts.
        minus_parts: all unwanted parts.

    Raises:
        UsageError: nothing is wanted, a text is empty, or a name or a weight is invalid.
    """

    product: OneOrMany = None
    text: OneOrMany = None
    image: OneOrMany = None
    minus: Mapping[str, OneOrMany] = field(default_factory=dict)
    weights: Mapping[str, Weight] = field(default_factory=dict)
    plus_parts: tuple[QueryPart, ...] = field(init=False)
    minus_parts: tuple[QueryPart, ...] = field(init=False)

    def __post_init__(self) -> None:
        require_mapping(self.minus, "minus", example='{"text": "red"}')
        require_mapping(self.weights, "weights", example='{"text": 2}')
        plus = {kind: _to_texts(getattr(self, kind), kind) for kind in KINDS}
        for name in self.minus:
            if name not in KINDS:
                raise UsageError(f"minus knows {', '.join(KINDS)}, not '{name}'{suggestion(str(name), KINDS)}")
        minus = {kind: _to_texts(self.minus.get(kind), kind, NOT_PREFIX) for kind in KINDS}
        weights = {str(name).replace("-", "_"): weight for name, weight in self.weights.items()}
        counts = {
            **{name: len(values) for name, values in plus.items()},
            **{NOT_PREFIX + name: len(values) for name, values in minus.items()},
        }
        _check_weights(weights, counts)
        if not any(plus.values()):
            raise UsageError("nothing to look for: name a product, a text or an image")
        if sum(counts.values()) > MAX_PARTS:
            raise UsageError(f"a query has at most {MAX_PARTS} parts, not {sum(counts.values())}; ask several times")
        object.__setattr__(self, "plus_parts", _parts(plus, weights, ""))
        object.__setattr__(self, "minus_parts", _parts(minus, weights, NOT_PREFIX))

    def values(self, kind: str, *, minus: bool = False) -> list[str]:
        """Return all wanted or unwanted values of one kind."""
        return [part.value for part in (self.minus_parts if minus else self.plus_parts) if part.kind == kind]


def _to_texts(values: OneOrMany, kind: str, prefix: str = "") -> list[str]:
    """Return the values of one kind as texts."""
    if kind == "image":
        return [str(path) for path in path_list(values, prefix + kind)]
    if kind == "text" and isinstance(values, str):
        return [values]  # an empty one is refused together with blank ones
    return text_list(cast(Texts, values), prefix + kind, what="id" if kind == "product" else "text")


def _check_weights(weights: Mapping[str, Weight], counts: Mapping[str, int]) -> None:
    """Check names and values of the weights against the number of parts."""
    for name, weight in weights.items():
        if name not in counts:
            raise UsageError(f"there is no weight '{name}'{suggestion(name, counts)}; there are {', '.join(counts)}")
        if not counts[name]:
            raise UsageError(f"there is a weight for '{name}', but nothing to weigh; leave it out")
        _require_numbers(name, weight)
        each = [weight] if isinstance(weight, int | float) else list(weight)
        if not all(np.isfinite(value) and value > 0 for value in each):
            raise UsageError(
                f"weight of '{name}' is {weight}; it must be above 0. Name unwanted parts by minus "
                "(--not-product, --not-text, --not-image)"
            )
        if not isinstance(weight, int | float) and len(each) != counts[name]:
            raise UsageError(f"{len(each)} weights for {counts[name]} times '{name}'; give one, or one for each")


def _require_numbers(name: str, weight: object) -> None:
    """Refuse a weight that is neither a number nor several."""
    values = [weight] if isinstance(weight, str) or not isinstance(weight, Iterable) else list(weight)
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        raise UsageError(f"weight of '{name}' is {weight!r}; give a number")


def _parts(
    values_by_kind: Mapping[str, Sequence[str]], weights: Mapping[str, Weight], prefix: str
) -> tuple[QueryPart, ...]:
    """Return the parts of all kinds; a single weight is divided among the parts of a kind."""
    out = []
    for kind, values in values_by_kind.items():
        if not values:
            continue
        weight = weights.get(prefix + kind, 1.0)
        part_weights = [float(weight) / len(values)] * len(values) if isinstance(weight, int | float) else weight
        out += [
            QueryPart(kind, _normalize_value(kind, value), float(part_weight))
            for value, part_weight in zip(values, part_weights, strict=True)
        ]
    return tuple(out)


def _normalize_value(kind: str, value: str) -> str:
    """Validate a value and return it in the form that is searched."""
    if kind != "text":
        return value
    if not value.strip():
        raise UsageError("the text is empty; write what to look for, or leave the text out")
    if "\0" in value or value.encode("utf-8", "replace").decode() != value:
        raise UsageError("the text holds a NUL or half a character; remove it")
    text = value.strip()
    if len(text) > MAX_CHARACTERS:
        logger.warning("the text has %d characters; only the first %d are read", len(text), MAX_CHARACTERS)
    return text[:MAX_CHARACTERS]


def load_image(file: str, settings: ImageSettings) -> Pixels:
    """Read and decode an image file: (3, S, S).

    Raises:
        UsageError: there is no file, or it cannot be used; the message says why.
    """
    from recsys.data.image_decoding import ImageError, decode_image

    path = Path(file)
    if not path.is_file():
        raise UsageError(f"there is no image {path}")
    if path.stat().st_size > settings.max_megabytes * 1e6:
        raise UsageError(f"image {path} is larger than {settings.max_megabytes} MB; see [images] max_megabytes")
    try:
        return decode_image(path.read_bytes(), settings)
    except ImageError as error:
        raise UsageError(f"image {path} cannot be used ({error.code}); give a JPEG, PNG, GIF or WebP") from error
