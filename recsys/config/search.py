"""The section about looking for products: `similar` and the table of similar products.

In: values. Out: a frozen, checked section.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recsys.config.section import Section


class SearchSettings(Section):
    """Looking for products."""

    mode: Literal["vector", "lexical", "hybrid"] = Field(
        "vector",
        description="how `similar` takes a text: vector = by its meaning, lexical = by its words (BM25), hybrid = by "
        "both",
    )
    variants: bool = Field(
        False, description="show every variant of a product; false = the best one of each group_id, also at night"
    )
    depth: int = Field(100, ge=10, description="places of each list that hybrid search fuses, at least k")
    fusion: float = Field(
        60, gt=0, description="constant of reciprocal rank fusion; larger = the first places count less"
    )
