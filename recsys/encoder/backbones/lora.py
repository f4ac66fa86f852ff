"""Select which weights of a pretrained backbone are trained: none, LoRA adapters, or all.

In: a backbone with its weights. Out: the same backbone, changed in place; with adapters its layers are `LoRALayer`s.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from recsys.errors import ConfigError

Tuning = Literal["frozen", "adapters", "tuned"]


class LoRALayer(nn.Module):
    """A frozen layer plus the product of two trainable low-rank layers (LoRA, Hu et al. 2021).

    The second low-rank layer starts at zero, so that the output is unchanged at first.
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
                _as_pair(layer.kernel_size),
                stride=_as_pair(layer.stride),
                padding=layer.padding if isinstance(layer.padding, str) else _as_pair(layer.padding),
                dilation=_as_pair(layer.dilation),
                bias=False,
            )
            self.up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Add the low-rank update to the output of the frozen layer."""
        out: Tensor = self.layer(x) + self.up(self.down(x))
        return out

    def merge(self) -> nn.Module:
        """Return a single equivalent layer: the low-rank update is added to the weights."""
        layer = self.layer
        with torch.no_grad():
            update = torch.einsum("or,r...->o...", self.up.weight.flatten(1), self.down.weight)
            weight = nn.Parameter(layer.weight + update, requires_grad=False)
        out = layer.__class__.__new__(layer.__class__)
        out.__dict__.update(layer.__dict__)
        out._parameters = {**layer._parameters, "weight": weight}
        return out


def configure_trainable(
    backbone: nn.Module, tuning: Tuning, *, rank: int, learning_rate_scale: float, setting: str
) -> None:
    """Configure which weights of a pretrained backbone are trained.

    Args:
        backbone: changed in place.
        tuning: frozen = none, adapters = LoRA matrices beside each layer, tuned = all.
        rank: rank of the adapters.
        learning_rate_scale: learning rate of tuned weights relative to others; the training loop reads it from them.
        setting: name of the setting that selects the backbone, for error messages.

    Raises:
        ConfigError: the backbone has no layer that supports an adapter.
    """
    backbone.requires_grad_(tuning == "tuned")
    if tuning == "tuned":
        for weight in backbone.parameters():
            weight.pace = learning_rate_scale  # type: ignore[attr-defined]
    elif tuning == "adapters":
        layers = _adaptable_layers(backbone)
        if not layers:
            raise ConfigError(
                f"{setting}: adapters need linear layers or convolutions, but the model has none; "
                'set [encoder] tuning = "frozen" or "tuned"'
            )
        for parent, name, layer in layers:
            setattr(parent, name, LoRALayer(layer, rank))


def merge_lora(backbone: nn.Module) -> None:
    """Replace each layer that has an adapter by a single merged layer, in place."""
    for parent in list(backbone.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoRALayer):
                setattr(parent, name, child.merge())


def disable_dropout(backbone: nn.Module) -> None:
    """Disable the dropout of a backbone: it would draw from the global generator."""
    for module in backbone.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0


def _adaptable_layers(backbone: nn.Module) -> list[tuple[nn.Module, str, nn.Linear | nn.Conv2d]]:
    """Layers that support an adapter, (parent, name, layer): linear, or if there are none, convolutions.

    Layers inside `nn.MultiheadAttention` are skipped: it reads the weights of its layers instead of calling them.
    """
    layers: dict[bool, list[tuple[nn.Module, str, nn.Linear | nn.Conv2d]]] = {True: [], False: []}
    for parent in backbone.modules():
        if isinstance(parent, nn.MultiheadAttention):
            continue
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
                layers[isinstance(layer, nn.Linear)].append((parent, name, layer))
    return layers[True] or layers[False]


def _as_pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    return sizes[0], sizes[1]
