"""Pictures read by a network trained from scratch or brought along, augmented as whole batches.

In: (b, 3, S, S) uint8 and which products have one. Out: five tokens a picture: its four quarters and the whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.config import EncoderSettings
from recsys.data.catalogue import Pictures
from recsys.encoder.backbones import image as towers
from recsys.encoder.fields import Inputs, Tokens

_GLANCE = 24
"""Side in pixels of the small copy that a glance reads."""
_RIDGE = 1e-3
_MOST = 20_000
_LEVERAGE = 0.99


def augmented(pixels: Tensor, g: torch.Generator) -> Tensor:
    """Mirror, shift, zoom and relight each picture a little: (b, 3, S, S) float 0..1 -> the same.

    Hue stays: the colour is what the product is.
    """
    return moved(pixels, drawn(len(pixels), g))


def drawn(b: int, g: torch.Generator) -> Tensor:
    """How each of b pictures is to be changed: (b, 8), the 2 x 3 numbers of an affine map, light, contrast."""

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(b, generator=g)

    zoom, ratio = draw(0.88, 1.06), draw(0.95, 1.05)
    mirror = torch.where(torch.rand(b, generator=g) < 0.5, -1.0, 1.0)
    moves = torch.zeros(b, 8)
    moves[:, 0], moves[:, 4] = zoom * ratio * mirror, zoom / ratio
    moves[:, 2], moves[:, 5] = draw(-0.08, 0.08), draw(-0.08, 0.08)
    moves[:, 6], moves[:, 7] = draw(-0.08, 0.08), draw(0.85, 1.15)
    return moves


def moved(pixels: Tensor, moves: Tensor) -> Tensor:
    """Pictures (b, 3, S, S) changed as drawn."""
    moves = moves.to(pixels.device)
    grid = F.affine_grid(moves[:, :6].view(-1, 2, 3), list(pixels.shape), align_corners=False)
    seen = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    light, contrast = moves[:, 6], moves[:, 7]
    return (seen - 0.5) * contrast[:, None, None, None] + 0.5 + light[:, None, None, None]


class ImageField(nn.Module):
    """Reads pictures; products without one are skipped, not filled with zeros."""

    name = "image"

    def __init__(self, settings: EncoderSettings, state: dict[str, Any] | None = None) -> None:
        """Build the tower of the settings, or that of a saved model by its state."""
        super().__init__()
        self.tower = towers.tower(settings, state)
        self.out = nn.Linear(self.tower.channels, settings.width)
        self.norm = nn.LayerNorm(settings.width)
        self.places = nn.Parameter(torch.zeros(5, settings.width))
        # In closed form and never trained: the steps of an optimiser are far too long for it.
        self.first_guess = nn.Linear(2 * 3 * _GLANCE**2, settings.dim).requires_grad_(requires_grad=False)
        self._honest: dict[int, Tensor] = {}
        self.to(memory_format=torch.channels_last)

    def fit(self, pictures: Pictures, words: Tensor) -> None:
        """Guess the words of a product from its colours alone, by ridge regression on a small copy of the picture.

        What a deep network needs many passes to find, a linear map has in seconds; training starts from there. Without
        pictures the guess says nothing. Each picture's own guess as if it had not been there to fit on (leave-one-out,
        Allen 1974) is kept for `honest`.

        Args:
            pictures: of n products.
            words: (n, d) what to guess.
        """
        rows = np.flatnonzero(pictures.present)
        rows = rows[np.linspace(0, len(rows) - 1, min(_MOST, len(rows))).astype(np.int64)] if len(rows) else rows
        with torch.no_grad():
            self.first_guess.weight.zero_()
            self.first_guess.bias.zero_()
            if len(rows) < 2:
                return
            seen = torch.cat(
                [_small(torch.from_numpy(pictures.take(part))) for part in np.array_split(rows, -(-len(rows) // 2000))]
            )
            wanted = F.normalize(words[torch.from_numpy(rows)].float(), dim=1)
            middle, centre = seen.mean(0), wanted.mean(0)
            seen = seen - middle
            ridge = 3 * _RIDGE * seen.square().sum() / seen.shape[1] + 1e-6
            weight, leverage = _ridge(seen, wanted - centre, ridge)
            self.first_guess.weight.copy_(weight.T)
            self.first_guess.bias.copy_(centre - middle @ weight)
            missed = (wanted - centre - seen @ weight) / (1 - leverage.clamp(max=_LEVERAGE))[:, None]
            self._honest = dict(zip(rows.tolist(), wanted - missed, strict=True))

    def honest(self, rows: npt.NDArray[np.integer]) -> Tensor:
        """Guesses for products of the catalogue it was fitted on, each without its own picture: (b, d), NaN = unknown.

        In training the others must not learn to lean on a guess that has seen the answer.
        """
        unknown = torch.full((self.first_guess.out_features,), torch.nan)
        return torch.stack([self._honest.get(row, unknown) for row in rows.tolist()])

    @staticmethod
    def read(pictures: Pictures, rows: npt.NDArray[np.integer]) -> Inputs:
        """Pictures of some products: pixels (m, 3, S, S) uint8, has (m,) bool."""
        return {"pixels": torch.from_numpy(pictures.take(rows)), "has": torch.from_numpy(pictures.present[rows])}

    def present(self, x: Inputs) -> Tensor:
        """Which products have a picture: (b,) bool."""
        return x["has"]

    def drawn(self, x: Inputs, g: torch.Generator) -> Inputs:
        """The same with how each picture is to be changed, so that any part of the products can be read by itself."""
        has = x["has"]
        moves = torch.zeros(len(has), 8, device=has.device)
        moves[has] = drawn(int(has.sum()), g).to(has.device)
        return {**x, "moves": moves}

    def forward(self, x: Inputs, g: torch.Generator | None = None) -> Tokens:
        """Five tokens of each picture: (b, 5, w); `g` given = augment, `moves` in `x` = as drawn before."""
        has = x["has"]
        width = self.places.shape[1]
        if not bool(has.any()):
            return Tokens(torch.zeros(len(has), 5, width, device=has.device), has[:, None].expand(-1, 5))
        pixels = x["pixels"][has].float() / 255
        if "moves" in x:
            pixels = moved(pixels, x["moves"][has])
        elif g is not None:
            pixels = augmented(pixels, g)
        h, whole = self.tower(pixels)
        quarters = F.adaptive_avg_pool2d(h, 2).flatten(2).transpose(1, 2)
        whole = whole if whole is not None else h.mean((2, 3))
        tokens = self.norm(self.out(torch.cat([quarters, whole[:, None]], 1))).float() + self.places
        every = torch.zeros(len(has), 5, width, device=has.device).index_copy(0, has.nonzero()[:, 0], tokens)
        return Tokens(every, has[:, None].expand(-1, 5))

    def glance(self, x: Inputs) -> Tensor:
        """The first guess of each picture's words: (b, d), zeros without a picture."""
        guess: Tensor = self.first_guess(_small(x["pixels"])).float()
        if "guess" in x:
            guess = torch.where(x["guess"].isnan(), guess, x["guess"])
        return guess * x["has"][:, None]


def _ridge(seen: Tensor, wanted: Tensor, penalty: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression of centred `wanted` (m, d) on centred `seen` (m, p): weights (p, d), leverages (m,)."""
    wide = len(seen) < seen.shape[1]  # the same solution, by the smaller of the two squares
    square = seen @ seen.T if wide else seen.T @ seen
    square.diagonal().add_(penalty)
    root = torch.linalg.cholesky(square)
    if wide:
        # seen (seen' seen + penalty)^-1 seen' = 1 - penalty (seen seen' + penalty)^-1
        return seen.T @ torch.cholesky_solve(wanted, root), 1 - penalty * torch.cholesky_inverse(root).diagonal()
    leverage = torch.linalg.solve_triangular(root, seen.T, upper=False).square().sum(0)
    return torch.cholesky_solve(seen.T @ wanted, root), leverage


def _small(pixels: Tensor) -> Tensor:
    """A small copy of each picture and its squares: (b, 3, S, S) uint8 -> (b, 2 * 3 * 24 * 24)."""
    flat = F.adaptive_avg_pool2d(pixels.float() / 255, _GLANCE).flatten(1)
    return torch.cat([flat, flat.square()], 1)
