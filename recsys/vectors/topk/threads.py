"""Run blocks of queries in threads, with float32 products in full float32 precision.

In: query numbers and a function of a block of them. Out: the concatenated results of the blocks, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

from recsys.types import IntArray


def run_in_threads(
    work: Callable[[IntArray], IntArray], queries: IntArray, *, max_block: int, device: torch.device
) -> IntArray:
    """Apply `work` to blocks of at most `max_block` queries; returns the concatenated results.

    On a CPU each thread takes whole blocks, from the product to the result: no thread waits for another, and the
    approximate scores stay in the cache of the core that computed them.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    max_block = max(1, min(max_block, -(-len(queries) // threads)))
    parts = [queries[start : start + max_block] for start in range(0, len(queries), max_block)]
    with _full_precision():
        if threads == 1 or len(parts) <= 1:
            return np.concatenate([queries[:0], *map(work, parts)])
        try:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                return np.concatenate([queries[:0], *pool.map(work, parts)])
        finally:
            torch.set_num_threads(threads)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Compute float32 products in float32, whatever the settings.

    TF32 and the like round more than the error bound allows.
    """
    matmul = torch.backends.cuda.matmul
    precision, reduced_precision = torch.get_float32_matmul_precision(), matmul.allow_bf16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    matmul.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        matmul.allow_bf16_reduced_precision_reduction = reduced_precision
