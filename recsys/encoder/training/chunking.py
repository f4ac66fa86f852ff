"""Run the expensive, row-wise parts of the product encoder in chunks, split across processes.

These parts treat every row by itself, so their rows can be split freely. Chunks run under `torch.utils.checkpoint`: the
activations of a chunk are recomputed when its gradient is needed, so only one chunk's activations are alive at a time,
while the losses still contrast all products of the batch (gradient caching, Gao et al. 2021).
In: a product encoder in training. Out: the same encoder, whose expensive parts run in chunks inside a `with` block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recsys.encoder.training import distributed

_ROW_WISE: Final = (
    ("", "fuse"),
    ("text", "forward"),
    ("text", "hidden_states"),
    ("image", "forward"),
    ("attributes", "forward"),
)
"""Submodule and method; everything else runs on the full batch in every process, which is correct but not faster."""
_COMPILED: Final = {("", "fuse"), ("text", "forward"), ("image", "forward")}
_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d)
_Arguments = dict[int | str, Any]
"""Arguments of a call: positional ones by index, keyword ones by name."""


@contextmanager
def chunked_forward(model: nn.Module, *, chunk_size: int, compiled: bool) -> Iterator[None]:
    """Run the expensive parts of a product encoder in chunks inside the block.

    Args:
        model: the product encoder.
        chunk_size: rows whose activations are in memory at once, in each process; 0 = all. Batch normalisation then
            uses the statistics of a chunk's images ("ghost batches", Hoffer et al. 2017), over all processes.
        compiled: compile the towers and the fusion with `torch.compile`.
    """
    call, patched = _ChunkedCall(chunk_size, compiled=compiled), list[tuple[nn.Module, str]]()
    chunked = bool(chunk_size) or distributed.world_size() > 1
    for name, method in _ROW_WISE if chunked or compiled else ():
        owner = getattr(model, name, None) if name else model
        function = getattr(owner, method, None)
        if owner is not None and function is not None:
            if compiled and (name, method) in _COMPILED:
                function = torch.compile(function, dynamic=True)
            setattr(owner, method, partial(call, function, owner) if chunked else function)
            patched.append((owner, method))
    for module in model.modules() if chunked else ():
        if isinstance(module, _NORMS):
            module.forward = partial(call.batch_norm, module, module.forward)  # type: ignore[method-assign]
            patched.append((module, "forward"))
    try:
        yield
    finally:
        for owner, method in patched:
            delattr(owner, method)  # uncovers the method of the class


class _ChunkedCall:
    """Runs a function in chunks; a function called by another one inside a chunk runs unchanged.

    Attributes:
        chunk_size: rows at a time, 0 = all.
        in_chunk: a chunk is running; its rows are this process's alone.
        recomputing: the chunk runs a second time, for its gradient.
    """

    def __init__(self, chunk_size: int, *, compiled: bool = False) -> None:
        self.chunk_size = chunk_size
        self.in_chunk = self.recomputing = False
        # Collective operations cannot be traced. `disable` loads the compiler (seconds), so only compiled code gets it.
        sync = distributed.sync_batch_norm
        self._sync_batch_norm = torch.compiler.disable(sync) if compiled else sync  # type: ignore[no-untyped-call]

    def __call__(self, function: Callable[..., Any], owner: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Return `function(*args, **kwargs)` for all rows, the first axis of every tensor in the arguments."""
        arguments: _Arguments = dict(enumerate(args))
        for name, value in kwargs.items():
            arguments[name] = value
        plan = None if self.in_chunk or not torch.is_grad_enabled() else self._plan_chunks(arguments)
        if plan is None:
            return function(*args, **kwargs)
        order, chunks = plan
        arguments, seeds = _replace_generator(arguments, owner, sum(map(len, chunks)))
        sizes = [sum(process_chunks) for process_chunks in chunks]
        local_chunks, first = chunks[distributed.rank()], distributed.rank() * len(chunks[0])
        arguments = _map_tensors(
            arguments,
            lambda x: distributed.local_shard(x, order, sizes) if len(chunks) > 1 else x.index_select(0, order),
        )
        outputs, start = [], 0
        for i, rows in enumerate(local_chunks):
            chunk = _map_tensors(arguments, lambda x, cell=slice(start, start + rows): x[cell])  # type: ignore[misc]
            seed = seeds[first + i] if seeds else None
            outputs.append(self._run_chunk(function, chunk, seed=seed, single=len(local_chunks) == 1))
            start += rows
        inverse = order.argsort()
        return _concatenate(outputs, lambda x: distributed.all_gather(x, sizes).index_select(0, inverse))

    def _plan_chunks(self, arguments: _Arguments) -> tuple[Tensor, list[list[int]]] | None:
        """Return the row order, and the chunk sizes of each process; None = everything in one chunk.

        Rows are dealt round-robin, those with an image first, so that every chunk gets as many images as any other.
        """
        rows, device = _first_shape(arguments)
        processes = distributed.world_size()
        chunks = -(-rows // (processes * self.chunk_size)) if self.chunk_size else 1
        chunks = min(chunks, rows // processes)
        order = torch.arange(rows, device=device)
        first = arguments.get(0)
        if isinstance(first, Mapping) and "has" in first:
            chunks = min(chunks, int(first["has"].sum()) // processes)
            order = first["has"].logical_not().to(torch.uint8).argsort(stable=True)
        if chunks * processes < 2:
            return None
        dealt = [order[i :: chunks * processes] for i in range(chunks * processes)]
        sizes = [[len(dealt[process * chunks + i]) for i in range(chunks)] for process in range(processes)]
        return torch.cat(dealt), sizes

    def _run_chunk(self, function: Callable[..., Any], arguments: _Arguments, *, seed: int | None, single: bool) -> Any:
        def run() -> Any:
            generator: _Arguments = {} if seed is None else {"g": torch.Generator().manual_seed(seed)}
            self.in_chunk = True
            try:
                return _call(function, {**arguments, **generator})
            finally:
                self.in_chunk = False

        if single:
            return run()
        return checkpoint(run, use_reentrant=False, context_fn=lambda: (nullcontext(), self._mark_recomputation()))

    @contextmanager
    def _mark_recomputation(self) -> Iterator[None]:
        self.recomputing = True
        try:
            yield
        finally:
            self.recomputing = False

    def batch_norm(self, module: Any, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Normalise a chunk over all processes; update running statistics once, not on recomputation."""
        if not (module.training and self.in_chunk):
            return forward(x)
        if distributed.world_size() == 1:
            if not self.recomputing:
                return forward(x)
            unused = module.running_mean.clone(), module.running_var.clone()
            return F.batch_norm(x, *unused, module.weight, module.bias, training=True, eps=module.eps)
        out, mean, variance, count = self._sync_batch_norm(x, module.weight, module.bias, module.eps)
        if not self.recomputing:
            with torch.no_grad():
                module.num_batches_tracked += 1
                module.running_mean.lerp_(mean, module.momentum)
                module.running_var.lerp_(variance * count / (count - 1).clamp(min=1), module.momentum)
        normalised: Tensor = out
        return normalised


def _call(function: Callable[..., Any], arguments: _Arguments) -> Any:
    return function(
        *(value for name, value in arguments.items() if isinstance(name, int)),
        **{name: value for name, value in arguments.items() if isinstance(name, str)},
    )


def _replace_generator(arguments: _Arguments, owner: nn.Module, n_chunks: int) -> tuple[_Arguments, list[int] | None]:
    """Remove the generator: draw the random numbers for all rows here, or else return one seed per chunk.

    An owner with a method `with_augmentation(x, g)` adds its random numbers to its input, rows first; then chunking
    does not change the result.
    """
    names = [name for name, value in arguments.items() if isinstance(value, torch.Generator)]
    if not names:
        return arguments, None
    g = arguments[names[0]]
    remaining = {name: value for name, value in arguments.items() if name not in names}
    if (sample := getattr(owner, "with_augmentation", None)) is not None:
        return {**remaining, 0: sample(remaining[0], g)}, None
    return remaining, torch.randint(2**62, (n_chunks,), generator=g).tolist()


def _map_tensors(structure: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to every tensor of nested dictionaries and dataclasses; return the same structure."""
    if isinstance(structure, Tensor):
        return function(structure)
    if isinstance(structure, Mapping):
        return {name: _map_tensors(value, function) for name, value in structure.items()}
    if dataclasses.is_dataclass(structure) and not isinstance(structure, type):
        names = [field.name for field in dataclasses.fields(structure)]
        return dataclasses.replace(
            structure, **{name: _map_tensors(getattr(structure, name), function) for name in names}
        )
    return structure


def _first_shape(structure: Any) -> tuple[int, torch.device]:
    """Return rows and device of the first tensor in the structure."""
    tensors: list[Tensor] = []

    def collect(x: Tensor) -> Tensor:
        tensors.append(x)
        return x

    _map_tensors(structure, collect)
    return len(tensors[0]), tensors[0].device


def _concatenate(outputs: Sequence[Any], finish: Callable[[Tensor], Tensor]) -> Any:
    """Merge structures of the same form: concatenate their tensors along the rows, then apply `finish`."""
    first = outputs[0]
    if isinstance(first, Tensor):
        if first.ndim == 3:  # tokens: a chunk may have fewer of them than the longest of the batch
            longest = distributed.all_reduce_max(max(output.shape[1] for output in outputs))
            outputs = [F.pad(output, (0, 0, 0, longest - output.shape[1])) for output in outputs]
        return finish(torch.cat(tuple(outputs)))
    if isinstance(first, Mapping):
        return {name: _concatenate([output[name] for output in outputs], finish) for name in first}
    names = [field.name for field in dataclasses.fields(first)]
    return dataclasses.replace(
        first, **{name: _concatenate([getattr(output, name) for output in outputs], finish) for name in names}
    )
