"""Untrained image descriptors (HOG, colour histogram, thumbnail), and words predicted from them.

In: (b, 3, S, S) uint8. Out: (b, WIDTH) descriptors; predicted word vectors, (b, d), by ridge regression on them.
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

_SIDE, _CELL, _N_ANGLES = 64, 8, 9
"""HOG: side of the resized image in pixels, side of a cell in pixels, number of gradient directions."""
_BLOCK_CLIP = 0.2
"""Maximum of a normalised HOG block's entries."""
_N_SHADES, _COLOUR_SIDE = 6, 32
"""Colour histogram: shades per channel, side of the resized image in pixels."""
_THUMBNAIL_SIDE = 16
_N_CELLS = _SIDE // _CELL
N_HOG, N_COLOURS, N_THUMBNAIL = (_N_CELLS - 1) ** 2 * 4 * _N_ANGLES, _N_SHADES**3 * 5, 3 * _THUMBNAIL_SIDE**2
"""Numbers of HOG, colour histogram and thumbnail per image."""
N_DESCRIPTORS: Final = N_HOG + N_COLOURS + N_THUMBNAIL
"""Numbers per image in all."""
_STD_OFFSETS: Final = (0.02, 0.02, 0.05)
"""Added to the standard deviations of HOG, colours and thumbnail: near-constant numbers are not amplified."""
_RIDGE_PENALTY: Final = 0.3
"""Ridge penalty relative to the mean of the Gram matrix's diagonal."""
_MAX_IMAGES, _BATCH_SIZE = 20_000, 512
_MAX_LEVERAGE: Final = 0.99
"""Bounds the division by 1 - leverage in the leave-one-out residuals."""


def image_descriptors(pixels: Tensor) -> Tensor:
    """Compute HOG, colour histogram and thumbnail of images: (b, 3, S, S) uint8 -> (b, WIDTH)."""
    parts = []
    for chunk in torch.split(pixels, _BATCH_SIZE):
        scaled = chunk.float() / 255
        parts.append(
            torch.cat(
                [hog(scaled), colour_histogram(scaled), F.adaptive_avg_pool2d(scaled, _THUMBNAIL_SIDE).flatten(1)], 1
            )
        )
    return torch.cat(parts) if parts else torch.zeros(0, N_DESCRIPTORS, device=pixels.device)


def hog(pixels: Tensor) -> Tensor:
    """Compute HOG descriptors (Dalal & Triggs 2005): (b, 3, S, S) of 0..1 -> (b, OUTLINES).

    Cells of 8 pixels in an image resized to 64, nine unsigned directions, each gradient split linearly between the two
    nearest; blocks of 2 x 2 cells, each normalised to unit length, clipped at 0.2 and normalised again.
    """
    pixels = F.adaptive_avg_pool2d(pixels, _SIDE)
    dx = F.pad(pixels[..., 2:] - pixels[..., :-2], (1, 1))
    dy = F.pad(pixels[..., 2:, :] - pixels[..., :-2, :], (0, 0, 1, 1))
    strongest_channel = (dx.square() + dy.square()).argmax(1, keepdim=True)
    dx, dy = dx.gather(1, strongest_channel)[:, 0], dy.gather(1, strongest_channel)[:, 0]
    magnitude = torch.hypot(dx, dy)
    angle = torch.remainder(torch.atan2(dy, dx), math.pi) / math.pi * _N_ANGLES
    lower = angle.floor()
    upper_share = angle - lower
    lower_bin = lower.long() % _N_ANGLES
    histograms = magnitude.new_zeros(len(pixels), _N_ANGLES, _SIDE, _SIDE)
    histograms.scatter_add_(1, lower_bin[:, None], (magnitude * (1 - upper_share))[:, None])
    histograms.scatter_add_(1, (lower_bin[:, None] + 1) % _N_ANGLES, (magnitude * upper_share)[:, None])
    blocks = F.unfold(F.avg_pool2d(histograms, _CELL), 2).transpose(1, 2)
    return _normalize(_normalize(blocks).clamp(max=_BLOCK_CLIP)).flatten(1)


def _normalize(blocks: Tensor) -> Tensor:
    return blocks / (blocks.square().sum(2, keepdim=True) + 1e-3).sqrt()


def colour_histogram(pixels: Tensor) -> Tensor:
    """Compute colour histograms (Swain & Ballard 1991): (b, 3, S, S) of 0..1 -> (b, COLOURS).

    6 x 6 x 6 bins of red, green and blue, each pixel split linearly between neighbouring bins; square roots of the
    shares, for the four quarters of the image and for the whole image.
    """
    small = F.adaptive_avg_pool2d(pixels, _COLOUR_SIDE)
    shades = torch.linspace(0, 1, _N_SHADES, device=pixels.device)
    bin_weights = (1 - (small[:, :, None] - shades[:, None, None]).abs() * (_N_SHADES - 1)).clamp(min=0).flatten(3)
    joint = torch.einsum("bip,bjp,bkp->bijkp", bin_weights[:, 0], bin_weights[:, 1], bin_weights[:, 2])
    joint = joint.reshape(len(pixels), _N_SHADES**3, _COLOUR_SIDE, _COLOUR_SIDE)
    quarters = F.adaptive_avg_pool2d(joint, 2).flatten(1)
    return torch.cat([quarters, joint.mean((2, 3))], 1).sqrt()


class RidgeWordPredictor(nn.Linear):
    """Predicts the word vector of a product from the descriptors of its image.

    Fitted in closed form and never trained: an optimiser's steps would be far too large for its weights.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(N_DESCRIPTORS, dim)
        self.requires_grad_(requires_grad=False)
        self._leave_one_out: dict[int, Tensor] = {}

    @torch.no_grad()
    def fit(self, images: Images, word_vectors: Tensor) -> None:
        """Fit the prediction of the words by ridge regression.

        A linear map learns in seconds what a deep network needs many epochs for; training starts from it. Without
        images the prediction is zero. The prediction for each image as if it had not been fitted on (leave-one-out,
        Allen 1974) is kept for `leave_one_out`.

        Args:
            images: images of n products.
            word_vectors: (n, d) word vectors to predict.
        """
        rows = np.flatnonzero(images.present)
        rows = rows[np.linspace(0, len(rows) - 1, min(_MAX_IMAGES, len(rows))).astype(np.int64)] if len(rows) else rows
        self.weight.zero_()
        self.bias.zero_()
        if len(rows) < 2:
            return
        descriptors = torch.empty(len(rows), N_DESCRIPTORS)
        for start in range(0, len(rows), _BATCH_SIZE):
            batch_rows = rows[start : start + _BATCH_SIZE]
            descriptors[start : start + len(batch_rows)] = image_descriptors(torch.from_numpy(images.take(batch_rows)))
        std_offsets = torch.cat(
            [torch.full((n,), s) for n, s in zip((N_HOG, N_COLOURS, N_THUMBNAIL), _STD_OFFSETS, strict=True)]
        )
        mean, scale = descriptors.mean(0), descriptors.std(0) + std_offsets
        descriptors.sub_(mean).div_(scale)
        targets = F.normalize(word_vectors[torch.from_numpy(rows)].float(), dim=1)
        target_mean = targets.mean(0)
        weight, leverage = _ridge_regression(
            descriptors, targets - target_mean, _RIDGE_PENALTY * descriptors.square().sum() / N_DESCRIPTORS + 1e-6
        )
        self.weight.copy_((weight / scale[:, None]).T)
        self.bias.copy_(target_mean - self.weight @ mean)
        residuals = (targets - target_mean - descriptors @ weight) / (1 - leverage.clamp(max=_MAX_LEVERAGE))[:, None]
        self._leave_one_out = dict(zip(rows.tolist(), targets - residuals, strict=True))

    def leave_one_out(self, rows: npt.NDArray[np.integer]) -> Tensor:
        """Return predictions for products it was fitted on, each without its own image: (b, d), NaN = unknown.

        In training the other weights must not learn to rely on a prediction that was fitted to its target.
        """
        unknown = torch.full((self.out_features,), torch.nan)
        return torch.stack([self._leave_one_out.get(row, unknown) for row in rows.tolist()])

    def forward(self, pixels: Tensor) -> Tensor:
        """Predict the word vectors of images: (b, 3, S, S) uint8 -> (b, d)."""
        return super().forward(image_descriptors(pixels).to(self.weight.dtype))


def _ridge_regression(x: Tensor, y: Tensor, penalty: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression of centred y (m, d) on centred x (m, p): weights (p, d), leverages (m,)."""
    is_wide = len(x) < x.shape[1]  # the smaller Gram matrix gives the same solution
    gram = x @ x.T if is_wide else x.T @ x
    gram.diagonal().add_(penalty)
    root = torch.linalg.cholesky(gram)
    if is_wide:
        # x (x' x + penalty)^-1 x' = 1 - penalty (x x' + penalty)^-1
        return x.T @ torch.cholesky_solve(y, root), 1 - penalty * torch.cholesky_inverse(root).diagonal()
    leverage = torch.linalg.solve_triangular(root, x.T, upper=False).square().sum(0)
    return torch.cholesky_solve(x.T @ y, root), leverage
