"""Blocks of queries shared among threads, with float32 products that are float32.

In: queries to do and what to do with a block of them. Out: what each block gives back, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

from recsys.types import IntArray


def run_in_threads(
    work: Callable[[IntArray], IntArray], todo: IntArray, *, height: int, device: torch.device
) -> IntArray:
    """Do `todo` in blocks of at most `height`; what the blocks give back, joined.

    On a processor each thread takes blocks of its own, from the product to the list: nobody waits for anybody, and the
    rough scores stay in the cache of the core that made them.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    height = max(1, min(height, -(-len(todo) // threads)))
    parts = [todo[start : start + height] for start in range(0, len(todo), height)]
    with _plain():
        if threads == 1 or len(parts) <= 1:
            return np.concatenate([todo[:0], *map(work, parts)])
        try:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                return np.concatenate([todo[:0], *pool.map(work, parts)])
        finally:
            torch.set_num_threads(threads)


@contextmanager
def _plain() -> Iterator[None]:
    """Float32 products in float32, whatever is set: TF32 and its like round more than the bound says."""
    matmul = torch.backends.cuda.matmul
    before, reduced = torch.get_float32_matmul_precision(), matmul.allow_bf16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    matmul.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        matmul.allow_bf16_reduced_precision_reduction = reduced
