"""Text as tokens: byte-level BPE learnt from the catalogue itself, or those of a pretrained model; any script will do.

In: text columns, or any texts. Out: two summary tokens a product, and the hidden state of every token.
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
from recsys.encoder.backbones.text import NEXT as NEXT
from recsys.encoder.backbones.text import PAD as PAD
from recsys.encoder.backbones.text import SUMMARY, TextTower, TextTransformer
from recsys.encoder.modalities import Inputs, Tokens

_SPECIAL: Final = ["[PAD]", "[MASK]", "[NEXT]"]
_LONGEST: Final = 4000
"""Characters of a text that are looked at; the tower reads only its first tokens anyway."""
_BUDGET: Final = 4096
"""Tokens the tower reads at a time outside training."""
_STEP: Final = 8
"""Texts are filled up to a multiple of so many tokens, whatever stands beside them: so the same text is always read in
the same shape, and its numbers are the same to the last bit wherever the products of matrices do not depend on how
many rows they have (seen so on AVX-512 in fp32 and in bf16; elsewhere they differ by rounding)."""


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


class TokenEmbedding:
    """Vectors of the token numbers; `weight` (v, w) is what hidden tokens are guessed by."""

    def __init__(self, tower: TextTower) -> None:
        self._tower = tower

    @property
    def weight(self) -> Tensor:
        """(v, w) float."""
        return self._tower.table()


class TextEncoder(nn.Module):
    """Reads texts with the tokenizer and the tower it is given."""

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
        self.length = min(settings.text_tokens, self.tower.longest or settings.text_tokens)
        self._known: tuple[Tensor, Tensor, Tensor] | None = None

    @staticmethod
    def fit(texts: Iterable[str], columns: Sequence[str], settings: EncoderSettings) -> TextEncoder:
        """Learn the vocabulary from `texts` (everything the field will read), or take a pretrained model's.

        Raises:
            ConfigError, ModelFolderError: the model of `settings.text` is not there or not whole.
        """
        if settings.text == "own":
            return TextEncoder(train_tokenizer(texts, settings.vocabulary), columns, settings)
        from recsys.encoder.backbones.text_pretrained import PretrainedText

        tower, tokenizer = PretrainedText.of(settings.text, settings)
        return TextEncoder(tokenizer, columns, settings, tower)

    @staticmethod
    def of_state(
        state: dict[str, Any], tokenizer: Tokenizer, columns: Sequence[str], settings: EncoderSettings
    ) -> TextEncoder:
        """The field with the tower as its `state()` says; the weights are not set yet."""
        if state["kind"] == "own":
            return TextEncoder(tokenizer, columns, settings)
        from recsys.encoder.backbones.text_pretrained import PretrainedText

        return TextEncoder(tokenizer, columns, settings, PretrainedText.of_state(state, settings))

    @property
    def embedding(self) -> TokenEmbedding:
        """The vectors hidden tokens are guessed by, whatever the tower."""
        return TokenEmbedding(self.tower)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token numbers of each text, not cut."""
        some, first = [text[:_LONGEST] for text in texts], self.tower.first
        coded = self.tokenizer.encode_batch_fast(some, add_special_tokens=False)
        return [[number + first for number in one.ids] if first else one.ids for one in coded]

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
        return self.tower.states(tokens[:, :length].long())

    def pooled(self, tokens: Tensor) -> Tensor:
        """What the summary of each text is made of: (b, L) -> (b, k), the pooled states of a pretrained tower.

        Outside training, and in training where the tower does not learn, texts are read in batches of like length.
        """
        if not self.tower.learns and self._known is not None:
            known, out = self._found(tokens)
            if not bool(known.all()):
                out[~known] = self._in_batches(tokens[~known])
            return out
        if self.tower.learns and torch.is_grad_enabled():
            length = max(1, int((tokens != PAD).sum(1).max())) if len(tokens) else 1
            return self.tower.gist(tokens[:, :length].long())
        return self._in_batches(tokens)

    def remember(self, x: Inputs) -> None:
        """Read the texts of a training once and for all, if the tower does not learn."""
        if self.tower.learns or not len(x["tokens"]):
            return
        tokens = torch.unique(x["tokens"], dim=0)
        marks, order = _marks(tokens).sort()
        self._known = marks, tokens[order], self._in_batches(tokens[order]).cpu()

    def _found(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Which texts are remembered, and the gist of those: (b,) bool, (b, k)."""
        assert self._known is not None
        marks, held, gist = self._known
        here = tokens.to("cpu", torch.int32)
        at = torch.searchsorted(marks, _marks(here)).clamp(max=len(marks) - 1)
        return (held[at] == here).all(1).to(tokens.device), gist[at].to(tokens.device)

    def _in_batches(self, tokens: Tensor) -> Tensor:
        with torch.no_grad():
            parts = [(rows, self.tower.gist(tokens[rows, :length].long())) for rows, length in _batches(tokens)]
        if not parts:
            return self.tower.gist(tokens[:, :_STEP].long())
        out = torch.empty(len(tokens), parts[0][1].shape[1], device=tokens.device)
        for rows, gist in parts:
            out[rows] = gist.float()
        return out

    def forward(self, x: Inputs) -> Tokens:
        """Summary tokens of each product: (b, 2, w)."""
        summary = self.tower.summarised(self.pooled(x["tokens"]))
        return Tokens(summary, self.present(x)[:, None].expand(-1, SUMMARY))


def _batches(tokens: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Rows of like length that fill the budget, longest first, and how many tokens they are filled up to."""
    lengths = (tokens != PAD).sum(1).clamp(min=1)
    filled = (-(-lengths // _STEP) * _STEP).clamp(max=tokens.shape[1])
    for length in torch.unique(filled).flip(0).tolist():
        yield from ((rows, length) for rows in (filled == length).nonzero()[:, 0].split(max(1, _BUDGET // length)))


def _marks(tokens: Tensor) -> Tensor:
    """A number for each row of tokens that hardly any other row has: (m,) int64."""
    odd = torch.from_numpy(np.random.default_rng(0).integers(2**62, size=tokens.shape[1]) * 2 + 1)
    return (tokens.long() * odd).sum(1)
