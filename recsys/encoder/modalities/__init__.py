"""Modality encoders: text, image and attributes, one module each.

In: catalogue columns or images. Out: `Tokens`, the same type for every modality.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

Inputs = dict[str, Tensor]
"""Inputs of a modality encoder for some products: tensors by name, products as the first axis."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of b products from one modality.

    Attributes:
        x: (b, L, w) float, the token vectors.
        real: (b, L) bool, False = no token; attention masks it.
    """

    x: Tensor
    real: Tensor

    def where(self, mask: Tensor) -> Tokens:
        """Return the tokens masked for the products where `mask`, (b,) bool, is False."""
        return Tokens(self.x, self.real & mask[:, None])
