"""Objective: predict the words of a product from its image alone.

In: products with text and image. Out: cross-entropy between the predicted words and those of the product.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from recsys.encoder.batches.products import ProductBatch
from recsys.encoder.modalities.bag_of_words import FIRST_WORD_ID
from recsys.encoder.product_encoder import ProductEncoder

_MAX_WORDS: Final = 8192
"""Only the most frequent words are predicted, at most this many."""


class ImageWordLoss(nn.Module):
    """Words as classes with soft targets by word weight.

    Sources: Joulin et al. 2016; SuperClass, Huang et al. 2024.
    It costs one matrix product, and teaches the image tower in a few hundred steps what contrasting images with texts
    takes thousands of steps for.
    """

    name = "image_words"

    def __init__(self, width: int, words: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, max(1, min(words, _MAX_WORDS)))

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Return the mean cross-entropy over the products with an image and a known word: ()."""
        word = batch.x["words"]["words"].long() - FIRST_WORD_ID
        is_class = (word >= 0) & (word < self.head.out_features)
        has = batch.present(model)["image"] & is_class.any(1)
        if not bool(has.any()):
            return self.head.weight.sum() * 0
        target = (batch.x["words"]["weights"] * is_class)[has]
        # The token of the full image, before any fusion: the shortest gradient path to the tower.
        summary = batch.towers(model, g)["image"].x[has][:, -1]
        log_probability = (
            self.head(summary).float().log_softmax(1).gather(1, word[has].clamp(0, self.head.out_features - 1))
        )
        loss: Tensor = -(log_probability * target / target.sum(1, keepdim=True)).sum(1).mean()
        return loss
