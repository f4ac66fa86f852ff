"""The dear parts of the product encoder treat every row by itself, so their rows can be cut: over processes, in chunks.

Chunks run under `torch.utils.checkpoint`: what a chunk holds for its gradient is made again when the gradient is asked
for, so that one chunk's activations are alive at a time while all products of the batch are told from each other (the
memory of cached gradients, Gao et al. 2021).
In: a product encoder in training. Out: the same encoder, whose dear parts are carried out in pieces inside a block.
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

_PARTS: Final = (("", "fuse"), ("text", "forward"), ("text", "hidden"), ("image", "forward"), ("attributes", "forward"))
"""Field and method; what is not listed is done for the whole batch by every process, which is right but not faster."""
_COMPILED: Final = {("", "fuse"), ("text", "forward"), ("image", "forward")}
_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d)
_Given = dict[int | str, Any]
"""What a function is called with: by place and by name."""


@contextmanager
def chunked_forward(model: nn.Module, *, chunk: int, compiled: bool) -> Iterator[None]:
    """Carry the dear parts of a product encoder out in pieces inside the block.

    Args:
        model: the product encoder.
        chunk: rows whose activations are held at once, in each process; 0 = all. Batch normalisation then goes by the
            pictures of a chunk ("ghost batches", Hoffer et al. 2017), those of all processes taken together.
        compiled: let `torch.compile` make kernels for the towers and the fusion.
    """
    pieces, changed = _ChunkedCall(chunk), list[tuple[nn.Module, str]]()
    cutting = bool(chunk) or distributed.world_size() > 1
    for field, method in _PARTS if cutting or compiled else ():
        owner = getattr(model, field, None) if field else model
        function = getattr(owner, method, None)
        if owner is not None and function is not None:
            if compiled and (field, method) in _COMPILED:
                function = torch.compile(function, dynamic=True)
            setattr(owner, method, partial(pieces, function, owner) if cutting else function)
            changed.append((owner, method))
    for module in model.modules() if cutting else ():
        if isinstance(module, _NORMS):
            module.forward = partial(pieces.normalised, module, module.forward)  # type: ignore[method-assign]
            changed.append((module, "forward"))
    try:
        yield
    finally:
        for owner, method in changed:
            delattr(owner, method)  # uncovers the method of the class


class _ChunkedCall:
    """Carries one function out in pieces; a function called by another inside a piece is simply called.

    Attributes:
        chunk: rows at a time, 0 = all.
        busy: a piece is being worked on; its rows are this process's alone.
        again: it is worked on a second time, for its gradient.
    """

    def __init__(self, chunk: int) -> None:
        self.chunk = chunk
        self.busy = self.again = False

    def __call__(self, function: Callable[..., Any], owner: nn.Module, *given: Any, **named: Any) -> Any:
        """`function(*given, **named)` for all rows; every tensor in there has the rows as first axis."""
        held: _Given = dict(enumerate(given))
        for name, value in named.items():
            held[name] = value
        plan = None if self.busy or not torch.is_grad_enabled() else self._plan(held)
        if plan is None:
            return function(*given, **named)
        order, cells = plan
        held, seeds = _without_chance(held, owner, sum(map(len, cells)))
        sizes, mine, first = [sum(own) for own in cells], cells[distributed.rank()], distributed.rank() * len(cells[0])
        held = _each(
            held, lambda x: distributed.local_shard(x, order, sizes) if len(cells) > 1 else x.index_select(0, order)
        )
        parts, start = [], 0
        for at, rows in enumerate(mine):
            piece = _each(held, lambda x, cell=slice(start, start + rows): x[cell])  # type: ignore[misc]
            parts.append(self._piece(function, piece, seed=seeds[first + at] if seeds else None, alone=len(mine) == 1))
            start += rows
        back = order.argsort()
        return _joined(parts, lambda x: distributed.all_gather(x, sizes).index_select(0, back))

    def _plan(self, given: _Given) -> tuple[Tensor, list[list[int]]] | None:
        """The order in which rows are dealt, and for each process the rows of its chunks; None = all in one piece.

        Rows are dealt in turn, those with a picture first: each piece gets as many as any other.
        """
        rows, device = _shape(given)
        processes = distributed.world_size()
        chunks = -(-rows // (processes * self.chunk)) if self.chunk else 1
        chunks = min(chunks, rows // processes)
        order = torch.arange(rows, device=device)
        first = given.get(0)
        if isinstance(first, Mapping) and "has" in first:
            chunks = min(chunks, int(first["has"].sum()) // processes)
            order = first["has"].logical_not().to(torch.uint8).argsort(stable=True)
        if chunks * processes < 2:
            return None
        dealt = [order[at :: chunks * processes] for at in range(chunks * processes)]
        cells = [[len(dealt[process * chunks + at]) for at in range(chunks)] for process in range(processes)]
        return torch.cat(dealt), cells

    def _piece(self, function: Callable[..., Any], given: _Given, *, seed: int | None, alone: bool) -> Any:
        def work() -> Any:
            chance: _Given = {} if seed is None else {"g": torch.Generator().manual_seed(seed)}
            self.busy = True
            try:
                return _called(function, {**given, **chance})
            finally:
                self.busy = False

        if alone:
            return work()
        return checkpoint(work, use_reentrant=False, context_fn=lambda: (nullcontext(), self._second()))

    @contextmanager
    def _second(self) -> Iterator[None]:
        self.again = True
        try:
            yield
        finally:
            self.again = False

    def normalised(self, module: Any, usual: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Batch normalisation of a piece: over the processes, and counted once however often it is worked on."""
        if not (module.training and self.busy):
            return usual(x)
        if distributed.world_size() == 1:
            if not self.again:
                return usual(x)
            unused = module.running_mean.clone(), module.running_var.clone()
            return F.batch_norm(x, *unused, module.weight, module.bias, training=True, eps=module.eps)
        out, mean, variance, count = distributed.sync_batch_norm(x, module.weight, module.bias, module.eps)
        if not self.again:
            with torch.no_grad():
                module.num_batches_tracked += 1
                module.running_mean.lerp_(mean, module.momentum)
                module.running_var.lerp_(variance * count / (count - 1).clamp(min=1), module.momentum)
        held: Tensor = out
        return held


def _called(function: Callable[..., Any], given: _Given) -> Any:
    return function(
        *(value for name, value in given.items() if isinstance(name, int)),
        **{name: value for name, value in given.items() if isinstance(name, str)},
    )


def _without_chance(given: _Given, owner: nn.Module, pieces: int) -> tuple[_Given, list[int] | None]:
    """The same without a generator: what was to be drawn is drawn here for all rows, or else a seed for each piece.

    An owner with a method `drawn(x, g)` puts what it draws into its input, rows first; then cutting changes nothing.
    """
    names = [name for name, value in given.items() if isinstance(value, torch.Generator)]
    if not names:
        return given, None
    g = given[names[0]]
    left = {name: value for name, value in given.items() if name not in names}
    if (draw := getattr(owner, "drawn", None)) is not None:
        return {**left, 0: draw(left[0], g)}, None
    return left, torch.randint(2**62, (pieces,), generator=g).tolist()


def _each(held: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure of dictionaries and dataclasses with every tensor changed."""
    if isinstance(held, Tensor):
        return change(held)
    if isinstance(held, Mapping):
        return {name: _each(value, change) for name, value in held.items()}
    if dataclasses.is_dataclass(held) and not isinstance(held, type):
        names = [field.name for field in dataclasses.fields(held)]
        return dataclasses.replace(held, **{name: _each(getattr(held, name), change) for name in names})
    return held


def _shape(held: Any) -> tuple[int, torch.device]:
    """Rows and device of the first tensor in there."""
    found: list[Tensor] = []

    def note(x: Tensor) -> Tensor:
        found.append(x)
        return x

    _each(held, note)
    return len(found[0]), found[0].device


def _joined(parts: Sequence[Any], finish: Callable[[Tensor], Tensor]) -> Any:
    """Structures of the same form as one, the tensors one below the other and then finished."""
    first = parts[0]
    if isinstance(first, Tensor):
        if first.ndim == 3:  # tokens: a piece may have fewer of them than the longest of the batch
            longest = distributed.all_reduce_max(max(part.shape[1] for part in parts))
            parts = [F.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts]
        return finish(torch.cat(tuple(parts)))
    if isinstance(first, Mapping):
        return {name: _joined([part[name] for part in parts], finish) for name in first}
    names = [field.name for field in dataclasses.fields(first)]
    return dataclasses.replace(
        first, **{name: _joined([getattr(part, name) for part in parts], finish) for name in names}
    )
