"""How much of a pretrained backbone learns: nothing, small adapters beside its layers, or everything.

In: a backbone with its weights. Out: the same, made ready; with adapters its layers have small ones beside them.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from recsys.errors import ConfigError

Tuning = Literal["frozen", "adapters", "tuned"]


class LoRALayer(nn.Module):
    """A layer that stays as it is plus the product of two thin ones that learn (LoRA, Hu et al. 2021).

    The second starts at zero, so that at first nothing is changed.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int) -> None:
        super().__init__()
        self.layer = layer
        self.down: nn.Linear | nn.Conv2d
        self.up: nn.Linear | nn.Conv2d
        if isinstance(layer, nn.Linear):
            self.down = nn.Linear(layer.in_features, rank, bias=False)
            self.up = nn.Linear(rank, layer.out_features, bias=False)
        else:
            self.down = nn.Conv2d(
                layer.in_channels,
                rank,
                _pair(layer.kernel_size),
                stride=_pair(layer.stride),
                padding=layer.padding if isinstance(layer.padding, str) else _pair(layer.padding),
                dilation=_pair(layer.dilation),
                bias=False,
            )
            self.up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer says and what has been learnt to say otherwise."""
        out: Tensor = self.layer(x) + self.up(self.down(x))
        return out

    def merged(self) -> nn.Module:
        """One layer that says the same: the weights are added up."""
        layer = self.layer
        with torch.no_grad():
            change = torch.einsum("or,r...->o...", self.up.weight.flatten(1), self.down.weight)
            weight = nn.Parameter(layer.weight + change, requires_grad=False)
        out = layer.__class__.__new__(layer.__class__)
        out.__dict__.update(layer.__dict__)
        out._parameters = {**layer._parameters, "weight": weight}
        return out


def configure_trainable(backbone: nn.Module, tuning: Tuning, *, rank: int, pace: float, setting: str) -> None:
    """Decide which weights of a pretrained backbone learn.

    Args:
        backbone: changed in place.
        tuning: frozen = none, adapters = small matrices beside each layer, tuned = all.
        rank: width of the adapters.
        pace: learning rate of tuned weights as a share of that of others (the loop reads it off the weights).
        setting: the setting that names the backbone, for messages.

    Raises:
        ConfigError: there is no layer an adapter fits beside.
    """
    backbone.requires_grad_(tuning == "tuned")
    if tuning == "tuned":
        for weight in backbone.parameters():
            weight.pace = pace  # type: ignore[attr-defined]
    elif tuning == "adapters":
        places = _places(backbone)
        if not places:
            raise ConfigError(
                f"{setting}: adapters fit beside linear layers and convolutions, but it has none; "
                'set [encoder] tuning = "frozen" or "tuned"'
            )
        for outer, name, layer in places:
            setattr(outer, name, LoRALayer(layer, rank))


def merge_lora(backbone: nn.Module) -> None:
    """Put a single layer in the place of each with an adapter."""
    for outer in list(backbone.modules()):
        for name, inner in list(outer.named_children()):
            if isinstance(inner, LoRALayer):
                setattr(outer, name, inner.merged())


def disable_dropout(backbone: nn.Module) -> None:
    """Take all chance out of a backbone: its dropout would draw from no generator of ours."""
    for module in backbone.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0


def _places(backbone: nn.Module) -> list[tuple[nn.Module, str, nn.Linear | nn.Conv2d]]:
    """Layers an adapter fits beside: the linear ones, or in a network of convolutions those.

    What torch's own attention holds is left out: it reads the weights of its layers instead of calling them.
    """
    found: dict[bool, list[tuple[nn.Module, str, nn.Linear | nn.Conv2d]]] = {True: [], False: []}
    for outer in backbone.modules():
        if isinstance(outer, nn.MultiheadAttention):
            continue
        for name, layer in outer.named_children():
            if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
                found[isinstance(layer, nn.Linear)].append((outer, name, layer))
    return found[True] or found[False]


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    return sizes[0], sizes[1]
