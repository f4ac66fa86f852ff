"""What the machine can do: device, number format, repeatable arithmetic.

In: settings. Out: context managers and a device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import torch.utils.deterministic

from recsys.errors import ConfigError
from recsys.execution import torchrun as crew

_FILL: Any = torch.utils.deterministic
"""A module with a settable property, which type checkers do not see."""


def select_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to work on; of the processes torchrun has started on a machine each has one of its own.

    Raises:
        ConfigError: cuda is asked for and not there, or there are fewer devices than processes.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError('[training] device = "cuda", but no CUDA device is available; set it to "auto" or "cpu"')
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if not crew.is_torchrun():
        return torch.device("cuda")
    if crew.local_rank() >= torch.cuda.device_count():
        raise ConfigError(
            f"{crew.local_rank() + 1} processes or more on a machine with {torch.cuda.device_count()} CUDA devices; start "
            'torchrun with a smaller --nproc-per-node, or set [training] device = "cpu"'
        )
    return torch.device("cuda", crew.local_rank())


def supports_bf16(device: torch.device) -> bool:
    """Does the device multiply bf16 numbers in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    return " avx512_bf16" in flags or " amx_bf16" in flags


def autocast(device: torch.device, precision: Literal["auto", "fp32", "bf16"]) -> AbstractContextManager[None]:
    """bf16 products inside, where asked for or where the processor has them."""
    enabled = precision == "bf16" or (precision == "auto" and supports_bf16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Start weights from `seed`, only deterministic kernels inside; torch's own generator is left as it was."""
    # The debug mode is the plain switch: `use_deterministic_algorithms` also loads the compiler, which takes seconds.
    before, filled = torch.get_deterministic_debug_mode(), _FILL.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        torch.set_deterministic_debug_mode("warn" if torch.cuda.is_available() else "error")
        _FILL.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(before)
            _FILL.fill_uninitialized_memory = filled
