"""Device selection, mixed precision and deterministic kernels.

In: settings. Out: a device and context managers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import torch.utils.deterministic

from recsys.errors import ConfigError
from recsys.execution import torchrun

_DETERMINISTIC: Any = torch.utils.deterministic
"""The module, typed Any: it has a settable property that type checkers do not see."""


def select_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Select the device; under torchrun each process of a machine gets a device of its own.

    Raises:
        ConfigError: cuda is requested but not available, or there are fewer devices than processes.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError('[training] device = "cuda", but no CUDA device is available; set it to "auto" or "cpu"')
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if not torchrun.is_torchrun():
        return torch.device("cuda")
    if torchrun.local_rank() >= torch.cuda.device_count():
        raise ConfigError(
            f"{torchrun.local_rank() + 1} processes or more on a machine with {torch.cuda.device_count()} CUDA "
            'devices; start torchrun with a smaller --nproc-per-node, or set [training] device = "cpu"'
        )
    return torch.device("cuda", torchrun.local_rank())


def supports_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bf16 numbers in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    return " avx512_bf16" in flags or " amx_bf16" in flags


def autocast(device: torch.device, precision: Literal["auto", "fp32", "bf16"]) -> AbstractContextManager[None]:
    """Return a context with bf16 matrix products, for `auto` only if the hardware supports them."""
    enabled = precision == "bf16" or (precision == "auto" and supports_bf16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seed torch's generator and use only deterministic kernels; the previous state is restored after."""
    # The debug mode is used because `use_deterministic_algorithms` also loads the compiler, which takes seconds.
    debug_mode, fill_memory = torch.get_deterministic_debug_mode(), _DETERMINISTIC.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        torch.set_deterministic_debug_mode("warn" if torch.cuda.is_available() else "error")
        _DETERMINISTIC.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(debug_mode)
            _DETERMINISTIC.fill_uninitialized_memory = fill_memory
