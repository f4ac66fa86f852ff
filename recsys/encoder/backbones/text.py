"""The text tower protocol, and a small transformer trained from scratch.

In: token ids, 0 = padding. Out: a pooled state of each text (the expensive part), two summary tokens computed from it,
and the hidden states of all tokens. The first three token ids mean the same for every tower.
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
"""Separator token between two columns."""
SUMMARY: Final = 2
"""Number of summary tokens per text."""
SPECIAL: Final = 3
"""Number of token ids that mean the same for every tower."""


class TextTower(Protocol):
    """A network that maps token ids to states.

    Attributes:
        first: offset of the tokenizer's token ids; the ids below it are PAD, MASK, NEXT.
        longest: maximum number of tokens, None = unlimited.
        learns: whether training changes the pooled state.
    """

    first: int
    longest: int | None
    learns: bool

    def gist(self, tokens: Tensor) -> Tensor:
        """Compute the pooled state of each text: (b, L) int64, right-padded with PAD -> (b, k)."""
        ...

    def summarised(self, gist: Tensor) -> Tensor:
        """Compute the summary tokens from pooled states: (b, k) -> (b, 2, w)."""
        ...

    def states(self, tokens: Tensor) -> Tensor:
        """Compute the summary tokens and the state of every token: (b, L) int64 -> (b, 2 + L, w)."""
        ...

    def table(self) -> Tensor:
        """Return a vector for every token id, by which masked tokens are predicted: (v, w)."""
        ...

    def state(self) -> dict[str, Any]:
        """Return the architecture without the weights as a JSON-compatible dict."""
        ...


class TextTransformer(nn.Module):
    """A small transformer; learned tokens at the front summarise the text for the fusion."""

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
        """Compute the summary tokens and the state of every token: (b, L) int64 -> (b, 2 + L, w)."""
        x = self.embedding(tokens) + self.places[: tokens.shape[1]]
        x = torch.cat([self.summary.expand(len(tokens), -1, -1), x], 1)
        real = torch.cat([torch.ones(len(tokens), SUMMARY, dtype=torch.bool, device=tokens.device), tokens != PAD], 1)
        for block in self.blocks:
            x = block(x, real[:, None, None, :])
        states: Tensor = self.norm(x)
        return states

    def gist(self, tokens: Tensor) -> Tensor:
        """Compute the pooled state, both summary tokens joined: (b, L) int64 -> (b, 2 * w)."""
        return self.states(tokens)[:, :SUMMARY].flatten(1)

    def summarised(self, gist: Tensor) -> Tensor:
        """Split pooled states into summary tokens: (b, 2 * w) -> (b, 2, w)."""
        return gist.view(len(gist), SUMMARY, gist.shape[1] // SUMMARY)

    def table(self) -> Tensor:
        """Return the input embedding: (v, w)."""
        return self.embedding.weight

    def state(self) -> dict[str, Any]:
        """Return the architecture without the weights as a JSON-compatible dict."""
        return {"kind": "own"}
