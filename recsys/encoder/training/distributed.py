"""Train one model in several processes started by torchrun; each computes its share of every batch.

Every process builds the same batch from the same random numbers. The expensive part runs row-wise: each process
computes its rows (`local_shard`) and receives those of the others (`all_gather`). The cheap part, the losses included,
runs on the full batch in every process. So each objective sees all products of the batch, and the loss equals that of
one process.
In: tensors. Out: tensors, with gradients that flow back to the process the rows came from.
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
from recsys.execution import torchrun

_TIMEOUT: Final = datetime.timedelta(days=1)
"""Longest wait for another process: torchrun notices a dead process and ends the others at once."""


@contextmanager
def process_group(device: Literal["auto", "cpu", "cuda"]) -> Iterator[None]:
    """Join the process group of the command inside the block; does nothing without torchrun.

    Raises:
        ConfigError: there are fewer CUDA devices than processes.
    """
    if torchrun.world_size() == 1 or world_size() > 1:
        yield
        return
    local_device = select_device(device)
    if local_device.type == "cuda":
        torch.cuda.set_device(local_device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if local_device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """Return the number of processes in the group; 1 without a group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process; rank 0 writes files and logs."""
    return dist.get_rank() if world_size() > 1 else 0


def barrier() -> None:
    """Wait until every process reaches this call."""
    if world_size() > 1:
        _all_reduce_sum(torch.zeros(1))


def all_reduce_max(value: int) -> int:
    """Return the largest number of all processes, in every process."""
    if world_size() == 1:
        return value
    reduced = torch.tensor([value])
    dist.all_reduce(reduced, dist.ReduceOp.MAX)
    return int(reduced)


def broadcast(value: int) -> int:
    """Return the number of process 0, in every process."""
    return all_reduce_max(value if rank() == 0 else -(2**62))


def broadcast_parameters(modules: nn.Module, identity: dict[str, Any]) -> None:
    """Copy the weights of process 0 to every process.

    Raises:
        DataContractError: the processes do not run the same training.
    """
    if world_size() == 1:
        return
    text = json.dumps(identity, sort_keys=True).encode()
    digest = int.from_bytes(hashlib.sha256(text).digest()[:7], "little")
    if all_reduce_max(digest) != -all_reduce_max(-digest):  # every process comes to the same result
        raise DataContractError(
            "the processes of this training have read different data or settings; "
            "start it again while nothing else writes to the store"
        )
    with torch.no_grad():
        for tensor in (*modules.parameters(), *modules.buffers()):
            message = tensor.detach().clone(memory_format=torch.contiguous_format)
            dist.broadcast(message, 0)
            tensor.copy_(message)


def all_reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average every gradient over all processes, in one message.

    A weight without a gradient in every process stays without one.
    """
    if world_size() == 1:
        return
    trainable = [weight for weight in parameters if weight.requires_grad]
    flat = [weight.new_zeros(weight.numel()) if weight.grad is None else weight.grad.flatten() for weight in trainable]
    has_gradient = torch.tensor([float(weight.grad is not None) for weight in trainable], device=flat[0].device)
    sums = torch.cat([*(gradient.float() for gradient in flat), has_gradient])
    dist.all_reduce(sums)
    sums /= world_size()
    start = 0
    for weight, any_gradient in zip(trainable, sums[-len(trainable) :].tolist(), strict=True):
        if any_gradient:
            mean = sums[start : start + weight.numel()].view(weight.shape)
            weight.grad = torch.empty_like(weight).copy_(mean)
        start += weight.numel()


def local_shard(x: Tensor, order: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return this process's rows of a tensor that is the same in every process.

    Args:
        x: (n, ...), the same in every process.
        order: (n,) a permutation of the rows; its first `sizes[0]` entries are the rows of process 0, and so on.
        sizes: number of rows of each process.

    Returns:
        (sizes[rank], ...). The gradient of `x` is the sum over the processes.
    """
    out: Tensor = _LocalShard.apply(x, order, tuple(sizes))
    return out


def all_gather(x: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
    """Return the rows of all processes, with gradients; every process must use them identically.

    Args:
        x: (m, ...), this process's rows.
        sizes: number of rows of each process; default: m for each.

    Returns:
        (n, ...), the rows of process 0 first; `x` itself with one process.
    """
    if world_size() == 1:
        return x
    out: Tensor = _AllGather.apply(x, tuple(sizes) if sizes is not None else (len(x),) * world_size())
    return out


def sync_batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalise a batch by the mean and variance over all processes' rows (Ioffe & Szegedy 2015).

    `torch.nn.SyncBatchNorm` does the same, but only on CUDA. Compiled code must call this function through
    `torch.compiler.disable`; it is not a decorator here because it loads the compiler, which takes seconds.

    Args:
        x: (b, C, ...).
        weight: (C,).
        bias: (C,).
        eps: added to the variance.

    Returns:
        (b, C, ...), mean (C,), variance (C,), values per channel in all processes (1,).
    """
    out: tuple[Tensor, Tensor, Tensor, Tensor] = _SyncBatchNorm.apply(x, weight, bias, eps)
    return out


def _all_reduce_sum(x: Tensor) -> Tensor:
    """Sum the tensors of all processes in place and return the sum."""
    dist.all_reduce(x)
    return x


def _gather_rows(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the rows of all processes; padded for sending, since all messages must have one size."""
    padded = x.new_zeros(max(sizes), *x.shape[1:])
    padded[: len(x)] = x
    message = padded.view(torch.uint8) if padded.dtype == torch.bool else padded
    messages = [torch.empty_like(message) for _ in sizes]
    dist.all_gather(messages, message.contiguous())
    return torch.cat([shard.view(padded.dtype)[:rows] for shard, rows in zip(messages, sizes, strict=True)])


class _AllGather(torch.autograd.Function):
    """Gather rows; scales the gradient by the world size, as `all_reduce_gradients` divides by it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: tuple[int, ...]) -> Tensor:
        ctx.start, ctx.rows = sum(sizes[: rank()]), len(x)
        return _gather_rows(x, sizes)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return grad_output[ctx.start : ctx.start + ctx.rows] * world_size(), None


class _LocalShard(torch.autograd.Function):
    """Take local rows. Gathers the gradient of all processes and divides out the factor of `all_gather`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, sizes: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(order)
        ctx.sizes = sizes
        start = sum(sizes[: rank()])
        return x.index_select(0, order[start : start + sizes[rank()]])

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        (order,) = ctx.saved_tensors
        return _gather_rows(grad_output, ctx.sizes).index_select(0, order.argsort()) / world_size(), None, None


class _SyncBatchNorm(torch.autograd.Function):
    """Autograd function of `sync_batch_norm`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalise the rows.

        Args:
            ctx: autograd context.
            x: (b, C, ...).
            weight: (C,).
            bias: (C,).
            eps: added to the variance.

        Returns:
            (b, C, ...), mean (C,), variance (C,), values per channel in all processes (1,).
        """
        centered = x.float()
        dims, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
        count = centered.new_full((1,), centered.numel() / centered.shape[1])
        sums = _all_reduce_sum(torch.cat([centered.sum(dims), count]))
        counts = sums[-1:]
        mean = sums[:-1] / counts
        centered = centered - mean.view(shape)
        variance = _all_reduce_sum(centered.square().sum(dims)) / counts
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, scale, counts)
        ctx.mark_non_differentiable(mean, variance, counts)
        out = centered * (scale * weight).view(shape) + bias.view(shape)
        return out.to(x.dtype), mean, variance, counts

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale, counts = ctx.saved_tensors
        dims, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
        grad = grad_output.float()
        normalised = (x.float() - mean.view(shape)) * scale.view(shape)
        local_sums = torch.stack([grad.sum(dims), (grad * normalised).sum(dims)])
        means = _all_reduce_sum(local_sums.clone()) / counts
        inner = grad - means[0].view(shape) - normalised * means[1].view(shape)
        grad_x = inner * (scale * weight).view(shape)
        return grad_x.to(x.dtype), local_sums[1].to(weight.dtype), local_sums[0].to(weight.dtype), None
