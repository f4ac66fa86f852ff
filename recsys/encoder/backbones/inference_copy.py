"""A faster copy of a backbone for inference: adapters merged, matrices in bf16 if supported.

In: a backbone. Out: a copy that shares all other weights; it is rebuilt whenever a weight has changed.
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
    """Builds and caches the copy; not an nn.Module, so that the copy is not saved with the model."""

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        self._cached: tuple[tuple[object, ...], nn.Module] | None = None

    def uses_bf16(self, device: torch.device) -> bool:
        """Return whether the copy computes in bf16 on the device."""
        return self.precision == "bf16" or (self.precision == "auto" and supports_bf16(device))

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """Return the autocast context to run the copy in."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.uses_bf16(device))

    def get(self, backbone: nn.Module, device: torch.device) -> nn.Module:
        """Return the fast copy of a backbone, in evaluation mode.

        Matrices of linear layers are stored in bf16, which saves autocast the conversion in each call; norms and
        embeddings keep their precision.
        """
        halves = self.uses_bf16(device)
        key = (halves, device.type, *((id(weight), weight._version) for weight in backbone.parameters()))
        if self._cached is None or self._cached[0] != key:
            self._cached = key, _build_copy(backbone, halves=halves, device=device)
        return self._cached[1]


def _build_copy(backbone: nn.Module, *, halves: bool, device: torch.device) -> nn.Module:
    shared: dict[int, object] = {id(tensor): tensor for tensor in (*backbone.parameters(), *backbone.buffers())}
    with torch.inference_mode(mode=False), torch.no_grad():
        out: nn.Module = copy.deepcopy(backbone, shared)  # copies the modules, shares the weights
        merge_lora(out)
        if halves:
            for layer in out.modules():
                if isinstance(layer, nn.Linear):
                    layer.weight = nn.Parameter(layer.weight.detach().bfloat16(), requires_grad=False)
    if halves and device.type == "cpu" and hasattr(out, "set_attn_implementation"):
        # On CPUs plain matrix products beat the fused bf16 kernel of torch for sequences this short.
        out.set_attn_implementation("eager")  # type: ignore[operator]
    return out.eval()
