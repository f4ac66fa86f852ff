"""Name the words of a product by its picture alone.

In: products with text and picture. Out: cross-entropy between the words a picture suggests and those the product has.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from recsys.encoder.batches.products import ProductBatch
from recsys.encoder.modalities.bag_of_words import FIRST
from recsys.encoder.product_encoder import ProductEncoder

_MOST: Final = 8192
"""Words that are asked, those most products have."""


class ImageWordLoss(nn.Module):
    """Words as classes that share the truth by their weight (Joulin et al. 2016; SuperClass, Huang et al. 2024).

    It costs one matrix product, and the picture's tower learns from it in a few hundred steps what comparing pictures
    with texts takes thousands for.
    """

    name = "image_words"

    def __init__(self, width: int, words: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, max(1, min(words, _MOST)))

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Mean cross-entropy over the products with a picture and a known word: ()."""
        number = batch.x["words"]["words"].long() - FIRST
        asked = (number >= 0) & (number < self.head.out_features)
        has = batch.present(model)["image"] & asked.any(1)
        if not bool(has.any()):
            return self.head.weight.sum() * 0
        share = (batch.x["words"]["weights"] * asked)[has]
        # Asked of the token of the whole picture, before any fusion: the shortest way back to the tower.
        whole = batch.towers(model, g)["image"].x[has][:, -1]
        guess = self.head(whole).float().log_softmax(1).gather(1, number[has].clamp(0, self.head.out_features - 1))
        loss: Tensor = -(guess * share / share.sum(1, keepdim=True)).sum(1).mean()
        return loss
