"""What somebody looks for: products, texts and pictures, how much each counts, and what it shall not be like.

In: ids, texts, picture files, one or several of each. Out: a checked `Query`, made of parts with weights.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from recsys.config import ImageSettings
from recsys.errors import UsageError, suggestion

logger = logging.getLogger(__name__)

KINDS: Final = ("product", "text", "image")
NOT: Final = "not_"
"""Before a kind, in the names of weights: what is not wanted."""
LONGEST: Final = 2_000
"""Characters of a text that are read: several times what the encoder takes."""
MOST: Final = 100
"""Parts of one query."""

One = str | os.PathLike[str]
OneOrMany = One | Sequence[One] | None
Weight = float | Sequence[float]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class QueryPart:
    """One thing that is wanted, or not wanted.

    Attributes:
        kind: one of KINDS.
        value: a product id, a text, or the path of a picture.
        weight: how much it counts, above 0.
    """

    kind: str
    value: str
    weight: float


@dataclass(frozen=True)
class Query:
    """What to look for: one thing, or several mixed.

    Attributes:
        product: a product id, or several.
        text: any text, or several.
        image: a picture file, or several.
        minus: what it shall not be like: "product", "text", "image" to one or several.
        weights: "product", "text", "image", and the same after "not_", to a number that all of this kind share, or to
            one number each; 1 unless named, so that three products count as much as one text.
        plus_parts: all that is wanted.
        minus_parts: all that is not.

    Raises:
        UsageError: nothing is wanted, a text is empty, or a name or a weight cannot be used.
    """

    product: OneOrMany = None
    text: OneOrMany = None
    image: OneOrMany = None
    minus: Mapping[str, OneOrMany] = field(default_factory=dict)
    weights: Mapping[str, Weight] = field(default_factory=dict)
    plus_parts: tuple[QueryPart, ...] = field(init=False)
    minus_parts: tuple[QueryPart, ...] = field(init=False)

    def __post_init__(self) -> None:
        wanted = {"product": _several(self.product), "text": _several(self.text), "image": _several(self.image)}
        for name in self.minus:
            if name not in KINDS:
                raise UsageError(f"minus knows {', '.join(KINDS)}, not '{name}'{suggestion(name, KINDS)}")
        unwanted = {name: _several(self.minus.get(name)) for name in KINDS}
        weights = {name.replace("-", "_"): weight for name, weight in self.weights.items()}
        counts = {
            **{name: len(held) for name, held in wanted.items()},
            **{NOT + name: len(held) for name, held in unwanted.items()},
        }
        _check(weights, counts)
        if not any(wanted.values()):
            raise UsageError("nothing to look for: name a product, a text or a picture")
        if sum(counts.values()) > MOST:
            raise UsageError(f"a query has at most {MOST} parts, not {sum(counts.values())}; ask several times")
        object.__setattr__(self, "plus_parts", _parts(wanted, weights, ""))
        object.__setattr__(self, "minus_parts", _parts(unwanted, weights, NOT))

    def values(self, kind: str, *, minus: bool = False) -> list[str]:
        """All of one kind that is wanted, or not wanted."""
        return [part.value for part in (self.minus_parts if minus else self.plus_parts) if part.kind == kind]


def _several(given: OneOrMany) -> list[str]:
    """What was named of one kind, as texts."""
    if given is None:
        return []
    held = list(given) if isinstance(given, Iterable) and not isinstance(given, str | os.PathLike) else [given]
    for one in held:
        if not isinstance(one, str | os.PathLike):
            raise UsageError(f"a product, a text or a picture is named by a text, not by {type(one).__name__} {one!r}")
    return [os.fspath(one) for one in held]


def _check(weights: Mapping[str, Weight], counts: Mapping[str, int]) -> None:
    for name, weight in weights.items():
        if name not in counts:
            raise UsageError(f"there is no weight '{name}'{suggestion(name, counts)}; there are {', '.join(counts)}")
        if not counts[name]:
            raise UsageError(f"there is a weight for '{name}', but nothing to weigh; leave it out")
        each = [weight] if isinstance(weight, int | float) else list(weight)
        if any(isinstance(one, bool) or not isinstance(one, int | float) for one in each):
            raise UsageError(f"weight of '{name}' is {weight!r}; give a number")
        if not all(np.isfinite(one) and one > 0 for one in each):
            raise UsageError(
                f"weight of '{name}' is {weight}; weights are above 0. What shall be left out is named by minus "
                "(--not-product, --not-text, --not-image)"
            )
        if not isinstance(weight, int | float) and len(each) != counts[name]:
            raise UsageError(f"{len(each)} weights for {counts[name]} times '{name}'; give one, or one for each")


def _parts(named: Mapping[str, Sequence[str]], weights: Mapping[str, Weight], before: str) -> tuple[QueryPart, ...]:
    out = []
    for kind, values in named.items():
        if not values:
            continue
        weight = weights.get(before + kind, 1.0)
        each = [float(weight) / len(values)] * len(values) if isinstance(weight, int | float) else weight
        out += [QueryPart(kind, _said(kind, value), float(one)) for value, one in zip(values, each, strict=True)]
    return tuple(out)


def _said(kind: str, value: str) -> str:
    """The value as it is looked for."""
    if kind == "image":
        return str(Path(value))
    if kind == "product":
        return value
    if not value.strip():
        raise UsageError("the text is empty; write what to look for, or leave the text out")
    if "\0" in value or value.encode("utf-8", "replace").decode() != value:
        raise UsageError("the text holds a NUL or half a character; mend it")
    text = value.strip()
    if len(text) > LONGEST:
        logger.warning("the text has %d characters; only the first %d are read", len(text), LONGEST)
    return text[:LONGEST]


def load_image(file: str, settings: ImageSettings) -> Pixels:
    """The picture of a file: (3, S, S).

    Raises:
        UsageError: there is none, or it cannot be used; the message says why.
    """
    from recsys.data.image_decoding import ImageError, decode_image

    path = Path(file)
    if not path.is_file():
        raise UsageError(f"there is no picture {path}")
    if path.stat().st_size > settings.max_megabytes * 1e6:
        raise UsageError(f"picture {path} is larger than {settings.max_megabytes} MB; see [images] max_megabytes")
    try:
        return decode_image(path.read_bytes(), settings)
    except ImageError as error:
        raise UsageError(f"picture {path} cannot be used ({error.code}); give a JPEG, PNG, GIF or WebP") from error
