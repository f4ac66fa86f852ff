"""What a first glance sees of a picture, without training, and the words it suggests: outlines, colours, a small copy.

In: (b, 3, S, S) uint8. Out: (b, WIDTH) numbers; a guess of the words, (b, d), by ridge regression on them.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.data.catalogue import Images

_SIDE, _CELL, _ANGLES = 64, 8, 9
"""Pictures are brought to this side in pixels; outlines are counted in cells of so many, by so many directions."""
_MOST_OF_A_BLOCK = 0.2
_SHADES, _COLOUR_SIDE = 6, 32
_COPY = 16
_CELLS = _SIDE // _CELL
OUTLINES, COLOURS, COPY = (_CELLS - 1) ** 2 * 4 * _ANGLES, _SHADES**3 * 5, 3 * _COPY**2
WIDTH: Final = OUTLINES + COLOURS + COPY
_SOFTENING: Final = (0.02, 0.02, 0.05)
"""Added to the standard deviation of outlines, colours and copy: what hardly varies is not blown up."""
_RIDGE: Final = 0.3
_MOST, _AT_ONCE = 20_000, 512
_LEVERAGE: Final = 0.99


def image_descriptors(pixels: Tensor) -> Tensor:
    """Outlines, colours and a small copy of each picture: (b, 3, S, S) uint8 -> (b, WIDTH)."""
    parts = []
    for some in torch.split(pixels, _AT_ONCE):
        lit = some.float() / 255
        parts.append(torch.cat([hog(lit), colour_histogram(lit), F.adaptive_avg_pool2d(lit, _COPY).flatten(1)], 1))
    return torch.cat(parts) if parts else torch.zeros(0, WIDTH, device=pixels.device)


def hog(lit: Tensor) -> Tensor:
    """Histograms of oriented gradients (Dalal and Triggs 2005): (b, 3, S, S) of 0..1 -> (b, OUTLINES).

    Cells of 8 pixels of a picture of 64, nine directions without a sign, shared linearly by the two nearest; blocks
    of two by two cells, each brought to unit length, cut at .2 and brought to unit length again.
    """
    lit = F.adaptive_avg_pool2d(lit, _SIDE)
    across = F.pad(lit[..., 2:] - lit[..., :-2], (1, 1))
    down = F.pad(lit[..., 2:, :] - lit[..., :-2, :], (0, 0, 1, 1))
    strongest = (across.square() + down.square()).argmax(1, keepdim=True)
    across, down = across.gather(1, strongest)[:, 0], down.gather(1, strongest)[:, 0]
    strength = torch.hypot(across, down)
    angle = torch.remainder(torch.atan2(down, across), math.pi) / math.pi * _ANGLES
    lower = angle.floor()
    share = angle - lower
    first = lower.long() % _ANGLES
    counts = strength.new_zeros(len(lit), _ANGLES, _SIDE, _SIDE)
    counts.scatter_add_(1, first[:, None], (strength * (1 - share))[:, None])
    counts.scatter_add_(1, (first[:, None] + 1) % _ANGLES, (strength * share)[:, None])
    blocks = F.unfold(F.avg_pool2d(counts, _CELL), 2).transpose(1, 2)
    return _unit(_unit(blocks).clamp(max=_MOST_OF_A_BLOCK)).flatten(1)


def _unit(blocks: Tensor) -> Tensor:
    return blocks / (blocks.square().sum(2, keepdim=True) + 1e-3).sqrt()


def colour_histogram(lit: Tensor) -> Tensor:
    """Colour histograms (Swain and Ballard 1991), roots of shares: (b, 3, S, S) of 0..1 -> (b, COLOURS).

    Six shades of red by six of green by six of blue, each pixel shared linearly by its neighbours; of the four
    quarters of the picture and of the whole.
    """
    small = F.adaptive_avg_pool2d(lit, _COLOUR_SIDE)
    shades = torch.linspace(0, 1, _SHADES, device=lit.device)
    near = (1 - (small[:, :, None] - shades[:, None, None]).abs() * (_SHADES - 1)).clamp(min=0).flatten(3)
    mixed = torch.einsum("bip,bjp,bkp->bijkp", near[:, 0], near[:, 1], near[:, 2])
    mixed = mixed.reshape(len(lit), _SHADES**3, _COLOUR_SIDE, _COLOUR_SIDE)
    quarters = F.adaptive_avg_pool2d(mixed, 2).flatten(1)
    return torch.cat([quarters, mixed.mean((2, 3))], 1).sqrt()


class RidgeWordPredictor(nn.Linear):
    """The words of a product guessed from the first glance at its picture.

    Fitted in closed form and never trained: the steps of an optimiser are far too long for it.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(WIDTH, dim)
        self.requires_grad_(requires_grad=False)
        self._honest: dict[int, Tensor] = {}

    @torch.no_grad()
    def fit(self, pictures: Images, words: Tensor) -> None:
        """Guess the words by ridge regression.

        What a deep network needs many passes to find, a linear map has in seconds; training starts from there. Without
        pictures the guess says nothing. Each picture's own guess as if it had not been there to fit on (leave-one-out,
        Allen 1974) is kept for `honest`.

        Args:
            pictures: of n products.
            words: (n, d) what to guess.
        """
        rows = np.flatnonzero(pictures.present)
        rows = rows[np.linspace(0, len(rows) - 1, min(_MOST, len(rows))).astype(np.int64)] if len(rows) else rows
        self.weight.zero_()
        self.bias.zero_()
        if len(rows) < 2:
            return
        seen = torch.empty(len(rows), WIDTH)
        for at in range(0, len(rows), _AT_ONCE):
            some = rows[at : at + _AT_ONCE]
            seen[at : at + len(some)] = image_descriptors(torch.from_numpy(pictures.take(some)))
        soft = torch.cat([torch.full((n,), s) for n, s in zip((OUTLINES, COLOURS, COPY), _SOFTENING, strict=True)])
        middle, scale = seen.mean(0), seen.std(0) + soft
        seen.sub_(middle).div_(scale)
        wanted = F.normalize(words[torch.from_numpy(rows)].float(), dim=1)
        centre = wanted.mean(0)
        weight, leverage = _ridge(seen, wanted - centre, _RIDGE * seen.square().sum() / WIDTH + 1e-6)
        self.weight.copy_((weight / scale[:, None]).T)
        self.bias.copy_(centre - self.weight @ middle)
        missed = (wanted - centre - seen @ weight) / (1 - leverage.clamp(max=_LEVERAGE))[:, None]
        self._honest = dict(zip(rows.tolist(), wanted - missed, strict=True))

    def leave_one_out(self, rows: npt.NDArray[np.integer]) -> Tensor:
        """Guesses for products of the catalogue it was fitted on, each without its own picture: (b, d), NaN = unknown.

        In training the others must not learn to lean on a guess that has seen the answer.
        """
        unknown = torch.full((self.out_features,), torch.nan)
        return torch.stack([self._honest.get(row, unknown) for row in rows.tolist()])

    def forward(self, pixels: Tensor) -> Tensor:
        """Pictures (b, 3, S, S) uint8 -> (b, d)."""
        return super().forward(image_descriptors(pixels).to(self.weight.dtype))


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
