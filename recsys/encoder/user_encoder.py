"""The user encoder: what a user did, in order, to a vector that gives a product's score by inner product.

In: ranking vectors of the products of a history, kinds of events, time gaps. Out: a vector after every event.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from recsys.config import EncoderSettings
from recsys.data import schema
from recsys.data.id_map import IdMap
from recsys.encoder.transformer import TransformerBlock, dropout

_SPANS: Final = 28
_RATE: Final = 0.2
_FIRST_SCALE: Final = 8.0


def time_gap_buckets(seconds: Tensor) -> Tensor:
    """Seconds as one of 28 lengths of time, each about twice the one before; 0 = less than a minute."""
    return (1 + torch.log2((seconds.clamp(min=0) / 60).float().clamp(min=0.5))).long().clamp(0, _SPANS - 1)


class ItemProjection(nn.Module):
    """Ranking vector of a product = projection of its content + a residual of its own; a cold product has none."""

    def __init__(self, dim: int, known: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, dim, bias=False)
        self.up = nn.Linear(dim, 2 * dim)
        self.down = nn.Linear(2 * dim, dim, bias=False)
        self.residual = nn.Embedding(max(1, known), dim)
        nn.init.eye_(self.project.weight)
        nn.init.zeros_(self.down.weight)
        nn.init.normal_(self.residual.weight, std=0.01)

    def forward(self, content: Tensor, number: Tensor, keep: Tensor | None = None) -> Tensor:
        """Ranking vectors (m, d).

        Args:
            content: (m, d) product vectors.
            number: (m,) place of each product's residual, -1 = none.
            keep: (m,) bool, False = leave the residual out; None = all in.
        """
        out: Tensor = self.project(content) + self.down(torch.nn.functional.gelu(self.up(content)))
        has = number >= 0 if keep is None else (number >= 0) & keep
        own: Tensor = self.residual(number.clamp(min=0)) * has[:, None]
        return out + own


class UserEncoder(nn.Module):
    """A causal transformer (SASRec, Kang & McAuley 2018) beside a fading sum of the history.

    The fading sum is what plain item-item models do; the transformer learns what it leaves. Distances between events
    enter the attention as a learnt number per head (Raffel et al. 2020), so position in the window does not matter.
    """

    def __init__(self, ids: IdMap, settings: EncoderSettings) -> None:
        super().__init__()
        self.ids = ids
        self.settings = settings
        dim, width, heads = settings.dim, settings.width, settings.heads
        self.ranking = ItemProjection(dim, len(ids))
        self.enter = nn.Linear(dim, width)
        self.kinds = nn.Embedding(len(schema.EVENT_TYPES), width)
        self.gaps = nn.Embedding(_SPANS, width)
        self.waits = nn.Embedding(_SPANS, width)
        self.distances = nn.Parameter(torch.zeros(heads, settings.history + 1))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, rate=_RATE) for _ in range(settings.user_layers))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, dim)
        self.fade = nn.Parameter(torch.linspace(0, -2, settings.history + 1))
        self.scale = nn.Parameter(torch.tensor(_FIRST_SCALE))
        for table in (self.kinds, self.gaps, self.waits):
            nn.init.normal_(table.weight, std=0.02)

    def numbers(self, ids: IdMap) -> Tensor:
        """Place of the residual of each product of another map of ids, -1 = none: (n,) int64."""
        return torch.from_numpy(self.ids.rows(ids.texts))

    def forward(
        self,
        items: Tensor,
        *,
        times: Tensor,
        kinds: Tensor,
        real: Tensor,
        until: Tensor,
        g: torch.Generator | None = None,
    ) -> Tensor:
        """User vectors after each event.

        Args:
            items: (b, t, d) ranking vectors, newest last; anything where there is no event.
            times: (b, t) int64 UTC seconds.
            kinds: (b, t) event codes.
            real: (b, t) bool.
            until: (b, t) int64 UTC seconds of the moment each vector is for (the next event, or now).
            g: generator of the dropout, none outside training.

        Returns:
            (b, t, d); rubbish where `real` is False.
        """
        t = items.shape[1]
        before = torch.cat([times[:, :1], times[:, :-1]], 1)
        started = torch.cat([torch.zeros_like(real[:, :1]), real[:, :-1]], 1)
        gaps = torch.where(started, times - before, 0)
        items = items * real[..., None]
        x = self.enter(items) + self.kinds(kinds.long()) + self.gaps(time_gap_buckets(gaps))
        x = dropout(x, _RATE, g)
        at = torch.arange(t, device=items.device)
        distance = (at[:, None] - at[None, :]).clamp(0, self.settings.history)
        causal = at[:, None] >= at[None, :]
        seen = (causal & real[:, None, :]) | torch.eye(t, dtype=torch.bool, device=items.device)
        bias = self.distances[:, distance].float().masked_fill(~seen[:, None], -torch.inf)
        for block in self.blocks:
            x = block(x, bias, g)
        learnt: Tensor = self.leave(self.norm(x) + self.waits(time_gap_buckets(until - times)))
        weight = self.fade[distance].exp() * (causal & real[:, None, :])
        faded = (weight / weight.sum(2, keepdim=True).clamp(min=1e-6)) @ items
        return learnt + self.scale * faded
