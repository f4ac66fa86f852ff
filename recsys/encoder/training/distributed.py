"""One training by several processes, which torchrun has started: each works on its share of every batch.

Every process makes the same batch and draws the same chance. What is dear is computed by rows: each process does its
rows (`local_shard`) and gets those of the others (`all_gather`); what is cheap, the losses among it, all of them do for the whole
batch. So any objective sees all products of the batch, and the loss is that of one process.
In: tensors. Out: tensors, with gradients that go back to the process the rows came from.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from recsys.encoder.device import select_device
from recsys.errors import DataContractError
from recsys.execution import torchrun as crew

_PATIENCE: Final = datetime.timedelta(days=1)
"""How long one waits for another: torchrun notices a process that has died and ends the rest at once."""


@contextmanager
def process_group(device: Literal["auto", "cpu", "cuda"]) -> Iterator[None]:
    """Wait for the other processes of the command and work with them inside the block; nothing without torchrun.

    Raises:
        ConfigError: there are fewer CUDA devices than processes.
    """
    if crew.world_size() == 1 or world_size() > 1:
        yield
        return
    own = select_device(device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    dist.init_process_group("cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """How many processes work together now."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is; number 0 leads."""
    return dist.get_rank() if world_size() > 1 else 0


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        _total(torch.zeros(1))


def all_reduce_max(number: int) -> int:
    """The largest of the processes' numbers, for all of them."""
    if world_size() == 1:
        return number
    held = torch.tensor([number])
    dist.all_reduce(held, dist.ReduceOp.MAX)
    return int(held)


def broadcast(number: int) -> int:
    """The number of process 0, for all of them."""
    return all_reduce_max(number if rank() == 0 else -(2**62))


def broadcast_parameters(parts: nn.Module, identity: dict[str, Any]) -> None:
    """Give every process the weights of process 0.

    Raises:
        DataContractError: the processes do not work on the same training.
    """
    if world_size() == 1:
        return
    text = json.dumps(identity, sort_keys=True).encode()
    own = int.from_bytes(hashlib.sha256(text).digest()[:7], "little")
    if all_reduce_max(own) != -all_reduce_max(-own):  # every process comes to the same judgement
        raise DataContractError(
            "the processes of this training have read different data or settings; "
            "start it again while nothing else writes to the store"
        )
    with torch.no_grad():
        for held in (*parts.parameters(), *parts.buffers()):
            sent = held.detach().clone(memory_format=torch.contiguous_format)
            dist.broadcast(sent, 0)
            held.copy_(sent)


def all_reduce_gradients(weights: Iterable[nn.Parameter]) -> None:
    """Make every gradient the mean of all processes', in one message; a weight nobody has one of keeps none."""
    if world_size() == 1:
        return
    held = [weight for weight in weights if weight.requires_grad]
    flat = [weight.new_zeros(weight.numel()) if weight.grad is None else weight.grad.flatten() for weight in held]
    has = torch.tensor([float(weight.grad is not None) for weight in held], device=flat[0].device)
    sums = torch.cat([*(part.float() for part in flat), has])
    dist.all_reduce(sums)
    sums /= world_size()
    start = 0
    for weight, any_has in zip(held, sums[-len(held) :].tolist(), strict=True):
        if any_has:
            mean = sums[start : start + weight.numel()].view(weight.shape)
            weight.grad = torch.empty_like(weight).copy_(mean)
        start += weight.numel()


def local_shard(x: Tensor, order: Tensor, sizes: Sequence[int]) -> Tensor:
    """This process's rows of a tensor that all have.

    Args:
        x: (n, ...), the same in every process.
        order: (n,) a permutation of the rows; the first `sizes[0]` of it are those of process 0, and so on.
        sizes: rows of each process.

    Returns:
        (sizes[rank], ...). What every process does with its rows comes together in the gradient of `x`.
    """
    out: Tensor = _Cut.apply(x, order, tuple(sizes))
    return out


def all_gather(x: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
    """The rows of all processes, with gradients; what is then done must be the same in every process.

    Args:
        x: (m, ...), the process's rows.
        sizes: rows of each process; all as many as this one when not given.

    Returns:
        (n, ...), those of process 0 first; `x` itself where there is one process.
    """
    if world_size() == 1:
        return x
    out: Tensor = _Gathered.apply(x, tuple(sizes) if sizes is not None else (len(x),) * world_size())
    return out


@torch.compiler.disable  # type: ignore[untyped-decorator]
def sync_batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Batch normalisation by the mean and variance over all processes' rows (Ioffe & Szegedy 2015).

    `torch.nn.SyncBatchNorm` does the same on CUDA alone.

    Args:
        x: (b, C, ...).
        weight: (C,).
        bias: (C,).
        eps: added to the variance.

    Returns:
        (b, C, ...), mean (C,), variance (C,), numbers of each channel in all processes (1,).
    """
    out: tuple[Tensor, Tensor, Tensor, Tensor] = _Normalised.apply(x, weight, bias, eps)
    return out


def _total(x: Tensor) -> Tensor:
    """The sum of all processes' tensors, in place."""
    dist.all_reduce(x)
    return x


def _collected(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """The rows of all processes, filled up on the way, for messages must be of one size."""
    filled = x.new_zeros(max(sizes), *x.shape[1:])
    filled[: len(x)] = x
    sent = filled.view(torch.uint8) if filled.dtype == torch.bool else filled
    parts = [torch.empty_like(sent) for _ in sizes]
    dist.all_gather(parts, sent.contiguous())
    return torch.cat([part.view(filled.dtype)[:rows] for part, rows in zip(parts, sizes, strict=True)])


class _Gathered(torch.autograd.Function):
    """Its gradient is counted as often as there are processes, for `all_reduce_gradients` divides by that."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: tuple[int, ...]) -> Tensor:
        ctx.start, ctx.rows = sum(sizes[: rank()]), len(x)
        return _collected(x, sizes)

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None]:
        return above[ctx.start : ctx.start + ctx.rows] * world_size(), None


class _Cut(torch.autograd.Function):
    """Its gradient is put together from all processes', and what `all_gather` counted too often is taken off again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, sizes: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(order)
        ctx.sizes = sizes
        start = sum(sizes[: rank()])
        return x.index_select(0, order[start : start + sizes[rank()]])

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None, None]:
        (order,) = ctx.saved_tensors
        return _collected(above, ctx.sizes).index_select(0, order.argsort()) / world_size(), None, None


class _Normalised(torch.autograd.Function):
    """Batch normalisation by the mean and variance over all processes' rows (Ioffe & Szegedy 2015).

    `torch.nn.SyncBatchNorm` does the same on CUDA alone.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalise.

        Args:
            ctx: of the gradient.
            x: (b, C, ...).
            weight: (C,).
            bias: (C,).
            eps: added to the variance.

        Returns:
            (b, C, ...), mean (C,), variance (C,), numbers of each channel in all processes ().
        """
        flat = x.float()
        dims, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
        count = flat.new_full((1,), flat.numel() / flat.shape[1])
        sums = _total(torch.cat([flat.sum(dims), count]))
        counts = sums[-1:]
        mean = sums[:-1] / counts
        flat = flat - mean.view(shape)
        variance = _total(flat.square().sum(dims)) / counts
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, scale, counts)
        ctx.mark_non_differentiable(mean, variance, counts)
        out = flat * (scale * weight).view(shape) + bias.view(shape)
        return out.to(x.dtype), mean, variance, counts

    @staticmethod
    def backward(ctx: Any, above: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale, counts = ctx.saved_tensors
        dims, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
        grad = above.float()
        unit = (x.float() - mean.view(shape)) * scale.view(shape)
        own = torch.stack([grad.sum(dims), (grad * unit).sum(dims)])
        every = _total(own.clone()) / counts
        inner = grad - every[0].view(shape) - unit * every[1].view(shape)
        to_x = inner * (scale * weight).view(shape)
        return to_x.to(x.dtype), own[1].to(weight.dtype), own[0].to(weight.dtype), None
