"""The user encoder: maps a user's event sequence to vectors that score products by inner product.

In: ranking vectors of the products of a history, event types, time gaps. Out: a vector after every event.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from recsys.config import EncoderSettings
from recsys.data import schema
from recsys.data.id_map import IdMap
from recsys.encoder.transformer import TransformerBlock, dropout

_N_GAP_BUCKETS: Final = 28
_DROPOUT_RATE: Final = 0.2
_INITIAL_SCALE: Final = 8.0


def time_gap_buckets(seconds: Tensor) -> Tensor:
    """Map seconds to one of 28 buckets, each about twice as long as the last; 0 = under a minute."""
    return (1 + torch.log2((seconds.clamp(min=0) / 60).float().clamp(min=0.5))).long().clamp(0, _N_GAP_BUCKETS - 1)


class ItemProjection(nn.Module):
    """Ranking vectors: projected content plus a learned residual per product, none for cold products."""

    def __init__(self, dim: int, n_items: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, dim, bias=False)
        self.up = nn.Linear(dim, 2 * dim)
        self.down = nn.Linear(2 * dim, dim, bias=False)
        self.residual = nn.Embedding(max(1, n_items), dim)
        nn.init.eye_(self.project.weight)
        nn.init.zeros_(self.down.weight)
        nn.init.normal_(self.residual.weight, std=0.01)

    def forward(self, content: Tensor, number: Tensor, keep: Tensor | None = None) -> Tensor:
        """Compute ranking vectors: (m, d).

        Args:
            content: (m, d) product vectors.
            number: (m,) row of each product's residual, -1 = none.
            keep: (m,) bool, False = without the residual; None = with all residuals.
        """
        out: Tensor = self.project(content) + self.down(torch.nn.functional.gelu(self.up(content)))
        has_residual = number >= 0 if keep is None else (number >= 0) & keep
        residual: Tensor = self.residual(number.clamp(min=0)) * has_residual[:, None]
        return out + residual


class UserEncoder(nn.Module):
    """A causal transformer (SASRec, Kang & McAuley 2018) plus a decayed mean of the history.

    The decayed mean is what plain item-item models compute; the transformer learns the remainder. Distances between
    events enter the attention as a learned bias per head (Raffel et al. 2020), so that the absolute position in the
    window does not matter.
    """

    def __init__(self, ids: IdMap, settings: EncoderSettings) -> None:
        super().__init__()
        self.ids = ids
        self.settings = settings
        dim, width, heads = settings.dim, settings.width, settings.heads
        self.ranking = ItemProjection(dim, len(ids))
        self.enter = nn.Linear(dim, width)
        self.kinds = nn.Embedding(len(schema.EVENT_TYPES), width)
        self.gaps = nn.Embedding(_N_GAP_BUCKETS, width)
        self.waits = nn.Embedding(_N_GAP_BUCKETS, width)
        self.distances = nn.Parameter(torch.zeros(heads, settings.history + 1))
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, rate=_DROPOUT_RATE) for _ in range(settings.user_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, dim)
        self.fade = nn.Parameter(torch.linspace(0, -2, settings.history + 1))
        self.scale = nn.Parameter(torch.tensor(_INITIAL_SCALE))
        for table in (self.kinds, self.gaps, self.waits):
            nn.init.normal_(table.weight, std=0.02)

    def residual_rows(self, ids: IdMap) -> Tensor:
        """Return the residual row of each product of another id map, -1 = none: (n,) int64."""
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
        """Compute the user vector after each event.

        Args:
            items: (b, t, d) ranking vectors, newest last; any values where there is no event.
            times: (b, t) int64 UTC seconds.
            kinds: (b, t) codes of the event types.
            real: (b, t) bool, False = padding.
            until: (b, t) int64 UTC seconds of the moment each vector is for (the next event, or now).
            g: generator for dropout, None outside training.

        Returns:
            (b, t, d); undefined where `real` is False.
        """
        t = items.shape[1]
        previous_times = torch.cat([times[:, :1], times[:, :-1]], 1)
        has_previous = torch.cat([torch.zeros_like(real[:, :1]), real[:, :-1]], 1)
        gaps = torch.where(has_previous, times - previous_times, 0)
        items = items * real[..., None]
        x = self.enter(items) + self.kinds(kinds.long()) + self.gaps(time_gap_buckets(gaps))
        x = dropout(x, _DROPOUT_RATE, g)
        position = torch.arange(t, device=items.device)
        distance = (position[:, None] - position[None, :]).clamp(0, self.settings.history)
        causal = position[:, None] >= position[None, :]
        mask = (causal & real[:, None, :]) | torch.eye(t, dtype=torch.bool, device=items.device)
        bias = self.distances[:, distance].float().masked_fill(~mask[:, None], -torch.inf)
        for block in self.blocks:
            x = block(x, bias, g)
        sequential: Tensor = self.leave(self.norm(x) + self.waits(time_gap_buckets(until - times)))
        weight = self.fade[distance].exp() * (causal & real[:, None, :])
        decayed = (weight / weight.sum(2, keepdim=True).clamp(min=1e-6)) @ items
        return sequential + self.scale * decayed
