"""Text as byte-level BPE tokens learnt from the catalogue itself, read by a small transformer; any script will do.

In: text columns, or any texts. Out: a few summary tokens a product, and the hidden state of every token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn

from recsys.config import EncoderSettings
from recsys.encoder.blocks import Block
from recsys.encoder.fields import Inputs, Tokens

PAD: Final = 0
MASK: Final = 1
NEXT: Final = 2
"""Token between two columns."""
_SPECIAL: Final = ["[PAD]", "[MASK]", "[NEXT]"]
_SUMMARY: Final = 2
_LONGEST: Final = 4000
"""Characters of a text that are looked at; the tower reads only its first tokens anyway."""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learn a byte-level BPE (Sennrich et al. 2016) from the catalogue: no byte of any script is ever unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        max_token_length=24,
    )
    tokenizer.train_from_iterator((text[:_LONGEST] for text in texts), trainer)
    return tokenizer


class TextField(nn.Module):
    """Reads texts; `summary` learnt tokens in front gather what the fusion gets to see."""

    name = "text"

    def __init__(self, tokenizer: Tokenizer, columns: Sequence[str], settings: EncoderSettings) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.columns = list(columns)
        self.length = settings.text_tokens
        width = settings.width
        self.embedding = nn.Embedding(tokenizer.get_vocab_size(), width)
        self.places = nn.Parameter(torch.zeros(self.length, width))
        self.summary = nn.Parameter(torch.zeros(_SUMMARY, width))
        self.blocks = nn.ModuleList(Block(width, settings.heads) for _ in range(settings.text_layers))
        self.norm = nn.LayerNorm(width)

    @staticmethod
    def fit(texts: Iterable[str], columns: Sequence[str], settings: EncoderSettings) -> TextField:
        """Learn the vocabulary from `texts` (everything the field will read)."""
        return TextField(train_tokenizer(texts, settings.vocabulary), columns, settings)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token numbers of each text, not cut."""
        return [coded.ids for coded in self.tokenizer.encode_batch_fast([text[:_LONGEST] for text in texts])]

    def read(self, frame: pl.DataFrame) -> Inputs:
        """Tokenise the text columns of some products, columns in their order: tokens (m, L) int32."""
        rows: list[list[int]] = [[] for _ in range(frame.height)]
        for column in self.columns:
            if column not in frame.columns:
                continue
            texts = frame[column].cast(pl.String).fill_null("").to_list()
            for row, ids in zip(rows, self.ids(texts), strict=True):
                if ids:
                    row.extend([NEXT, *ids] if row else ids)
        return self.padded(rows)

    def padded(self, rows: Sequence[Sequence[int]]) -> Inputs:
        """Token lists as one array, cut at the length the tower reads: tokens (m, L) int32."""
        out: npt.NDArray[np.int32] = np.full((len(rows), self.length), PAD, np.int32)
        for at, row in enumerate(rows):
            cut = row[: self.length]
            out[at, : len(cut)] = cut
        return {"tokens": torch.from_numpy(out)}

    def present(self, x: Inputs) -> Tensor:
        """Which products have any text: (b,) bool."""
        return x["tokens"][:, 0] != PAD

    def hidden(self, tokens: Tensor) -> Tensor:
        """Hidden states, the summary first: (b, summary + L', w); L' is the longest text of the batch."""
        length = max(1, int((tokens != PAD).sum(1).max())) if len(tokens) else 1
        tokens = tokens[:, :length].long()
        x = torch.cat([self.summary.expand(len(tokens), -1, -1), self.embedding(tokens) + self.places[:length]], 1)
        real = torch.cat([torch.ones(len(tokens), _SUMMARY, dtype=torch.bool, device=tokens.device), tokens != PAD], 1)
        for block in self.blocks:
            x = block(x, real[:, None, None, :])
        states: Tensor = self.norm(x)
        return states

    def forward(self, x: Inputs) -> Tokens:
        """Summary tokens of each product: (b, 2, w)."""
        states = self.hidden(x["tokens"])[:, :_SUMMARY]
        return Tokens(states, self.present(x)[:, None].expand(-1, _SUMMARY))
