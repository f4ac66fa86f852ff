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
N_SUMMARY_TOKENS: Final = 2
"""Number of summary tokens per text."""
N_SPECIAL_TOKENS: Final = 3
"""Number of token ids that mean the same for every tower."""


class TextTower(Protocol):
    """A network that maps token ids to states.

    Attributes:
        token_offset: offset of the tokenizer's token ids; the ids below it are PAD, MASK, NEXT.
        max_tokens: maximum number of tokens, None = unlimited.
        is_trainable: whether training changes the pooled state.
    """

    token_offset: int
    max_tokens: int | None
    is_trainable: bool

    def pool(self, tokens: Tensor) -> Tensor:
        """Compute the pooled state of each text: (b, L) int64, right-padded with PAD -> (b, k)."""
        ...

    def summary_tokens(self, pooled: Tensor) -> Tensor:
        """Compute the summary tokens from pooled states: (b, k) -> (b, 2, w)."""
        ...

    def hidden_states(self, tokens: Tensor) -> Tensor:
        """Compute the summary tokens and the state of every token: (b, L) int64 -> (b, 2 + L, w)."""
        ...

    def token_vectors(self) -> Tensor:
        """Return a vector for every token id, by which masked tokens are predicted: (v, w)."""
        ...

    def state(self) -> dict[str, Any]:
        """Return the architecture without the weights as a JSON-compatible dict."""
        ...


class TextTransformer(nn.Module):
    """A small transformer; learned tokens at the front summarise the text for the fusion."""

    token_offset = 0
    is_trainable = True

    def __init__(self, vocabulary_size: int, settings: EncoderSettings) -> None:
        super().__init__()
        width = settings.width
        self.max_tokens: int | None = settings.text_tokens
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.places = nn.Parameter(torch.zeros(settings.text_tokens, width))
        self.summary = nn.Parameter(torch.zeros(N_SUMMARY_TOKENS, width))
        self.blocks = nn.ModuleList(TransformerBlock(width, settings.heads) for _ in range(settings.text_layers))
        self.norm = nn.LayerNorm(width)

    def hidden_states(self, tokens: Tensor) -> Tensor:
        """Compute the summary tokens and the state of every token: (b, L) int64 -> (b, 2 + L, w)."""
        x = self.embedding(tokens) + self.places[: tokens.shape[1]]
        x = torch.cat([self.summary.expand(len(tokens), -1, -1), x], 1)
        real = torch.cat(
            [torch.ones(len(tokens), N_SUMMARY_TOKENS, dtype=torch.bool, device=tokens.device), tokens != PAD], 1
        )
        for block in self.blocks:
            x = block(x, real[:, None, None, :])
        states: Tensor = self.norm(x)
        return states

    def pool(self, tokens: Tensor) -> Tensor:
        """Compute the pooled state, both summary tokens joined: (b, L) int64 -> (b, 2 * w)."""
        return self.hidden_states(tokens)[:, :N_SUMMARY_TOKENS].flatten(1)

    def summary_tokens(self, pooled: Tensor) -> Tensor:
        """Split pooled states into summary tokens: (b, 2 * w) -> (b, 2, w)."""
        return pooled.view(len(pooled), N_SUMMARY_TOKENS, pooled.shape[1] // N_SUMMARY_TOKENS)

    def token_vectors(self) -> Tensor:
        """Return the input embedding: (v, w)."""
        return self.embedding.weight

    def state(self) -> dict[str, Any]:
        """Return the architecture without the weights as a JSON-compatible dict."""
        return {"kind": "own"}
