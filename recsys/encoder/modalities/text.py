"""Text encoder for any script: a byte-level BPE trained on the catalogue, or a pretrained model.

In: text columns, or any texts. Out: two summary tokens per product, and the hidden state of every token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn

from recsys.config import EncoderSettings
from recsys.encoder.backbones.text import MASK as MASK
from recsys.encoder.backbones.text import N_SUMMARY_TOKENS, TextTower, TextTransformer
from recsys.encoder.backbones.text import NEXT as NEXT
from recsys.encoder.backbones.text import PAD as PAD
from recsys.encoder.modalities import Inputs, Tokens

_SPECIAL_TOKENS: Final = ["[PAD]", "[MASK]", "[NEXT]"]
_MAX_CHARACTERS: Final = 4000
"""Longer texts are cut; the tower reads only the first tokens anyway."""
_MAX_BATCH_TOKENS: Final = 4096
"""Tokens per forward pass of the tower outside training."""
_LENGTH_MULTIPLE: Final = 8
"""Texts are padded to a multiple of this many tokens, whatever else is in the batch: a text is always read in the same
shape, and its states are bit-identical wherever matrix products do not depend on the number of rows (observed on
AVX-512 in fp32 and in bf16; elsewhere they differ by rounding)."""


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer (Sennrich et al. 2016); no byte of any script is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        special_tokens=_SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        max_token_length=24,
    )
    tokenizer.train_from_iterator((text[:_MAX_CHARACTERS] for text in texts), trainer)
    return tokenizer


class TokenEmbedding:
    """Vectors of the token ids; masked tokens are predicted by `weight` (v, w)."""

    def __init__(self, tower: TextTower) -> None:
        self._tower = tower

    @property
    def weight(self) -> Tensor:
        """Return the vectors of all token ids: (v, w) float."""
        return self._tower.token_vectors()


class TextEncoder(nn.Module):
    """Encodes texts with a tokenizer and a text tower."""

    name = "text"
    tower: TextTower

    def __init__(
        self,
        tokenizer: Tokenizer,
        columns: Sequence[str],
        settings: EncoderSettings,
        tower: TextTower | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.columns = list(columns)
        self.tower = tower if tower is not None else TextTransformer(tokenizer.get_vocab_size(), settings)
        self.max_tokens = min(settings.text_tokens, self.tower.max_tokens or settings.text_tokens)
        self._cached: tuple[Tensor, Tensor, Tensor] | None = None

    @staticmethod
    def fit(texts: Iterable[str], columns: Sequence[str], settings: EncoderSettings) -> TextEncoder:
        """Train the tokenizer on `texts` (all texts to encode), or load the pretrained model of the settings.

        Raises:
            ConfigError, ModelFolderError: the model of `settings.text` is missing or incomplete.
        """
        if settings.text == "own":
            return TextEncoder(train_tokenizer(texts, settings.vocabulary), columns, settings)
        from recsys.encoder.backbones.text_pretrained import PretrainedText

        tower, tokenizer = PretrainedText.from_pretrained(settings.text, settings)
        return TextEncoder(tokenizer, columns, settings, tower)

    @staticmethod
    def from_state(
        state: dict[str, Any], tokenizer: Tokenizer, columns: Sequence[str], settings: EncoderSettings
    ) -> TextEncoder:
        """Build the encoder from the `state()` of its tower; its weights are not set yet."""
        if state["kind"] == "own":
            return TextEncoder(tokenizer, columns, settings)
        from recsys.encoder.backbones.text_pretrained import PretrainedText

        return TextEncoder(tokenizer, columns, settings, PretrainedText.from_state(state, settings))

    @property
    def embedding(self) -> TokenEmbedding:
        """Vectors by which masked tokens are predicted, for every kind of tower."""
        return TokenEmbedding(self.tower)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, not truncated."""
        truncated, first = [text[:_MAX_CHARACTERS] for text in texts], self.tower.token_offset
        encodings = self.tokenizer.encode_batch_fast(truncated, add_special_tokens=False)
        return [[token + first for token in encoding.ids] if first else encoding.ids for encoding in encodings]

    def read(self, frame: pl.DataFrame) -> Inputs:
        """Tokenise and join the text columns of some products, in column order: tokens (m, L) int32."""
        rows: list[list[int]] = [[] for _ in range(frame.height)]
        for column in self.columns:
            if column not in frame.columns:
                continue
            texts = frame[column].cast(pl.String).fill_null("").to_list()
            for row, ids in zip(rows, self.token_ids(texts), strict=True):
                if ids:
                    row.extend([NEXT, *ids] if row else ids)
        return self.pad(rows)

    def pad(self, rows: Sequence[Sequence[int]]) -> Inputs:
        """Pad token lists to one array, truncated to the length the tower reads: tokens (m, L) int32."""
        tokens: npt.NDArray[np.int32] = np.full((len(rows), self.max_tokens), PAD, np.int32)
        for i, row in enumerate(rows):
            truncated = row[: self.max_tokens]
            tokens[i, : len(truncated)] = truncated
        return {"tokens": torch.from_numpy(tokens)}

    def present(self, x: Inputs) -> Tensor:
        """Return a mask of the products with any text: (b,) bool."""
        return x["tokens"][:, 0] != PAD

    def hidden_states(self, tokens: Tensor) -> Tensor:
        """Compute hidden states, summary first: (b, summary + L', w); L' = longest text of the batch."""
        length = max(1, int((tokens != PAD).sum(1).max())) if len(tokens) else 1
        return self.tower.hidden_states(tokens[:, :length].long())

    def pool(self, tokens: Tensor) -> Tensor:
        """Compute the pooled state of each text, from which its summary is made: (b, L) -> (b, k).

        Outside training, and in training with a frozen tower, texts are read in batches of similar length.
        """
        if not self.tower.is_trainable and self._cached is not None:
            is_cached, pooled = self._look_up(tokens)
            if not bool(is_cached.all()):
                pooled[~is_cached] = self._pool_in_batches(tokens[~is_cached])
            return pooled
        if self.tower.is_trainable and torch.is_grad_enabled():
            length = max(1, int((tokens != PAD).sum(1).max())) if len(tokens) else 1
            return self.tower.pool(tokens[:, :length].long())
        return self._pool_in_batches(tokens)

    def cache_pooled(self, x: Inputs) -> None:
        """Cache the pooled states of all training texts if the tower is frozen, so that each is read once."""
        if self.tower.is_trainable or not len(x["tokens"]):
            return
        tokens = torch.unique(x["tokens"], dim=0)
        hashes, order = _hash_rows(tokens).sort()
        self._cached = hashes, tokens[order], self._pool_in_batches(tokens[order]).cpu()

    def _look_up(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Look up cached texts: a mask of those found, (b,) bool, and their pooled states, (b, k)."""
        assert self._cached is not None
        hashes, cached_tokens, pooled = self._cached
        queries = tokens.to("cpu", torch.int32)
        index = torch.searchsorted(hashes, _hash_rows(queries)).clamp(max=len(hashes) - 1)
        return (cached_tokens[index] == queries).all(1).to(tokens.device), pooled[index].to(tokens.device)

    def _pool_in_batches(self, tokens: Tensor) -> Tensor:
        with torch.no_grad():
            parts = [(rows, self.tower.pool(tokens[rows, :length].long())) for rows, length in _length_batches(tokens)]
        if not parts:
            return self.tower.pool(tokens[:, :_LENGTH_MULTIPLE].long())
        pooled = torch.empty(len(tokens), parts[0][1].shape[1], device=tokens.device)
        for rows, batch_pooled in parts:
            pooled[rows] = batch_pooled.float()
        return pooled

    def forward(self, x: Inputs) -> Tokens:
        """Encode each product as summary tokens: (b, 2, w)."""
        summary = self.tower.summary_tokens(self.pool(x["tokens"]))
        return Tokens(summary, self.present(x)[:, None].expand(-1, N_SUMMARY_TOKENS))


def _length_batches(tokens: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Yield batches of rows of similar length, longest first, and the number of tokens they are padded to."""
    lengths = (tokens != PAD).sum(1).clamp(min=1)
    padded_lengths = (-(-lengths // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE).clamp(max=tokens.shape[1])
    for length in torch.unique(padded_lengths).flip(0).tolist():
        yield from (
            (rows, length)
            for rows in (padded_lengths == length).nonzero()[:, 0].split(max(1, _MAX_BATCH_TOKENS // length))
        )


def _hash_rows(tokens: Tensor) -> Tensor:
    """Hash each row of tokens by odd random multipliers; collisions are rare: (m,) int64."""
    multipliers = torch.from_numpy(np.random.default_rng(0).integers(2**62, size=tokens.shape[1]) * 2 + 1)
    return (tokens.long() * multipliers).sum(1)
