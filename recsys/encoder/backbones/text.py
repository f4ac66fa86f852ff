"""What a text tower is, and the one trained from scratch: a small transformer.

In: token numbers, 0 = nothing. Out: the gist of each text (what is dear to compute), two summary tokens made of it, and
the states of all tokens. The first three numbers mean the same for every tower.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn

from recsys.config import EncoderSettings
from recsys.encoder.transformer import TransformerBlock

PAD: Final = 0
MASK: Final = 1
NEXT: Final = 2
"""Token between two columns."""
SUMMARY: Final = 2
SPECIAL: Final = 3
"""Token numbers that mean the same for every tower."""


class TextTower(Protocol):
    """What a text field asks of what reads its tokens.

    Attributes:
        first: number of the tokenizer's first token; those before it are PAD, MASK, NEXT.
        longest: tokens it reads at most, None = as many as there are.
        learns: does the gist change in training.
    """

    first: int
    longest: int | None
    learns: bool

    def gist(self, tokens: Tensor) -> Tensor:
        """What a summary is made of: (b, L) int64, filled up behind with PAD -> (b, k)."""
        ...

    def summarised(self, gist: Tensor) -> Tensor:
        """Summary tokens: (b, k) -> (b, 2, w)."""
        ...

    def states(self, tokens: Tensor) -> Tensor:
        """Summary tokens and the state of every token: (b, L) int64 -> (b, 2 + L, w)."""
        ...

    def table(self) -> Tensor:
        """A vector for every token number, to guess hidden tokens by: (v, w)."""
        ...

    def state(self) -> dict[str, Any]:
        """What the tower is, but for its weights; fit for JSON."""
        ...


class TextTransformer(nn.Module):
    """A small transformer; learnt tokens in front gather what the fusion gets to see."""

    first = 0
    learns = True

    def __init__(self, vocabulary: int, settings: EncoderSettings) -> None:
        super().__init__()
        width = settings.width
        self.longest: int | None = settings.text_tokens
        self.embedding = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.zeros(settings.text_tokens, width))
        self.summary = nn.Parameter(torch.zeros(SUMMARY, width))
        self.blocks = nn.ModuleList(TransformerBlock(width, settings.heads) for _ in range(settings.text_layers))
        self.norm = nn.LayerNorm(width)

    def states(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.places[: tokens.shape[1]]
        x = torch.cat([self.summary.expand(len(tokens), -1, -1), x], 1)
        real = torch.cat([torch.ones(len(tokens), SUMMARY, dtype=torch.bool, device=tokens.device), tokens != PAD], 1)
        for block in self.blocks:
            x = block(x, real[:, None, None, :])
        states: Tensor = self.norm(x)
        return states

    def gist(self, tokens: Tensor) -> Tensor:
        return self.states(tokens)[:, :SUMMARY].flatten(1)

    def summarised(self, gist: Tensor) -> Tensor:
        return gist.view(len(gist), SUMMARY, gist.shape[1] // SUMMARY)

    def table(self) -> Tensor:
        return self.embedding.weight

    def state(self) -> dict[str, Any]:
        return {"kind": "own"}
