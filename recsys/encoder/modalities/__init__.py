"""The ways of seeing a product, one file each.

In: columns of the catalogue or pictures. Out: `Tokens`, the same for every way of seeing.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

Inputs = dict[str, Tensor]
"""What a field has read of some products: named tensors, all with the products as first axis."""


@dataclass(frozen=True)
class Tokens:
    """What a field says about b products.

    Attributes:
        x: (b, L, w) float.
        real: (b, L) bool, False = not there; such a token is never looked at.
    """

    x: Tensor
    real: Tensor

    def shown(self, show: Tensor) -> Tokens:
        """The same, hidden where `show` (b,) is False."""
        return Tokens(self.x, self.real & show[:, None])
