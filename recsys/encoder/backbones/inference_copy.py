"""A second, faster form of a backbone for encoding: adapters merged in, matrices as bf16 where the processor has it.

In: a backbone. Out: a copy that shares all other weights; made anew whenever a weight has changed.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import nn

from recsys.encoder.backbones.lora import merge_lora
from recsys.encoder.device import supports_bf16

Precision = Literal["auto", "fp32", "bf16"]


class InferenceCopy:
    """Holds the copy; not a module, so that the copy is no part of what is saved."""

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        self._made: tuple[tuple[object, ...], nn.Module] | None = None

    def halves(self, device: torch.device) -> bool:
        """Does it multiply bf16 numbers there."""
        return self.precision == "bf16" or (self.precision == "auto" and supports_bf16(device))

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """The number format for what the copy does."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.halves(device))

    def of(self, backbone: nn.Module, device: torch.device) -> nn.Module:
        """The fast copy of a backbone, in evaluation mode.

        Matrices of linear layers are kept as bf16, which autocast would make of them each time; norms and embeddings
        stay as they are.
        """
        halves = self.halves(device)
        key = (halves, device.type, *((id(weight), weight._version) for weight in backbone.parameters()))
        if self._made is None or self._made[0] != key:
            self._made = key, _copy(backbone, halves=halves, device=device)
        return self._made[1]


def _copy(backbone: nn.Module, *, halves: bool, device: torch.device) -> nn.Module:
    shared: dict[int, object] = {id(held): held for held in (*backbone.parameters(), *backbone.buffers())}
    with torch.inference_mode(mode=False), torch.no_grad():
        out: nn.Module = copy.deepcopy(backbone, shared)  # modules anew, weights the same
        merge_lora(out)
        if halves:
            for layer in out.modules():
                if isinstance(layer, nn.Linear):
                    layer.weight = nn.Parameter(layer.weight.detach().bfloat16(), requires_grad=False)
    if halves and device.type == "cpu" and hasattr(out, "set_attn_implementation"):
        # On processors plain products beat torch's fused bf16 kernel for sequences this short.
        out.set_attn_implementation("eager")  # type: ignore[operator]
    return out.eval()
