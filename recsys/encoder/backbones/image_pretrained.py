"""Pretrained picture towers: networks of torchvision, with weights or as bare architectures, and of transformers.

In: the name of one, or the state of a saved one. Out: a tower that brings pictures to the size and the mean and spread
of the pixels the network was trained with.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.error import URLError

import torch
from torch import Tensor, fx, nn
from torchvision import models
from torchvision.models.feature_extraction import NodePathTracer
from transformers import AutoImageProcessor
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from recsys.config import EncoderSettings
from recsys.encoder.backbones import hub as pretrained
from recsys.encoder.backbones import lora as adapters
from recsys.encoder.backbones.image_tower import TowerOutput, resize
from recsys.encoder.backbones.inference_copy import InferenceCopy
from recsys.errors import ConfigError, ModelFolderError, suggestion

_PIXELS: Final = 2**21
"""Pixels seen at a time outside training."""
_RIGID: Final = (models.VisionTransformer, models.SwinTransformer, models.MaxVit)
"""Architectures that read pictures of one size only."""


class PretrainedImage(nn.Module):
    """A network that has a map of the picture; one without pretrained weights (`bare`) is trained as a whole."""

    def __init__(self, backbone: nn.Module, state: dict[str, Any], settings: EncoderSettings) -> None:
        super().__init__()
        self.channels: int = state["channels"]
        self.bare: bool = state["bare"]
        self.learns = self.bare or settings.tuning != "frozen"
        self._state = state
        self._swift = InferenceCopy(settings.precision)
        self.backbone = backbone
        if self.bare:
            adapters.disable_dropout(backbone)
        else:
            how = {"rank": settings.adapter_rank, "pace": settings.tuning_pace}
            adapters.configure_trainable(backbone, settings.tuning, setting="[encoder] image", **how)  # type: ignore[arg-type]
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(state[name]).view(3, 1, 1), persistent=False)

    def state(self) -> dict[str, Any]:
        return self._state

    def train(self, mode: bool = True) -> PretrainedImage:
        """As for every module, but pretrained weights stay in evaluation mode: no dropout, and norms as they came."""
        super().train(mode)
        if not self.bare:
            self.backbone.eval()
        return self

    def forward(self, pixels: Tensor) -> TowerOutput:
        side = self._state["size"] or pixels.shape[2]
        if self.learns and torch.is_grad_enabled():
            return self._see(self.backbone, pixels, side)
        with torch.no_grad(), self._swift.autocast(pixels.device):
            backbone = self._swift.of(self.backbone, pixels.device)
            parts = [self._see(backbone, some, side) for some in torch.split(pixels, max(1, _PIXELS // side**2))]
        maps, wholes = zip(*parts, strict=True)
        return torch.cat(maps).float(), None if wholes[0] is None else torch.cat(wholes).float()

    def _see(self, backbone: nn.Module, pixels: Tensor, side: int) -> TowerOutput:
        x = (resize(pixels, side) - self.mean) / self.std  # type: ignore[operator]
        if self._state["kind"] == "torchvision":
            return _laid_out(backbone(x), side // self._state["patch"] if self._state["patch"] else 0)
        seen = backbone(pixel_values=x)
        whole = getattr(seen, "pooler_output", None)
        grid, first = _laid_out(seen.last_hidden_state, self._state["grid"])
        whole = whole.flatten(1) if whole is not None else first
        return grid, whole if whole is not None and whole.shape[1] == grid.shape[1] else None


def _laid_out(states: Tensor, grid: int) -> TowerOutput:
    """A sequence of patches as a map, and the first token if there are others than patches."""
    if states.ndim == 4:
        return states, None
    others = states.shape[1] - grid**2
    patches = states[:, others:].transpose(1, 2).reshape(len(states), -1, grid, grid)
    return patches, states[:, 0] if others else None


def load_image_backbone(settings: EncoderSettings) -> PretrainedImage:
    """The tower of `settings.image`, a network of torchvision or transformers.

    Raises:
        ConfigError: there is none of that name, or its weights cannot be had.
        ModelFolderError: weights are missing or of another shape.
    """
    name = settings.image
    if name.partition(".")[0].endswith("_Weights"):
        return _of_weights(name, settings)
    known = models.list_models(module=models)
    if name in known:
        return _architecture(name, settings)
    source, near = pretrained.PretrainedSource(name, "[encoder] image"), suggestion(name, known)
    if near and "/" not in name and not source.local:
        raise ConfigError(f"{source.setting}: torchvision has no such network{near}")
    return _of_transformers(source, settings)


def rebuild_image_backbone(state: dict[str, Any], settings: EncoderSettings) -> PretrainedImage:
    """The tower as `state()` gave it; its weights are not set yet.

    Raises:
        ModelFolderError: the installed libraries have no such network.
    """
    if state["kind"] == "transformers":
        return PretrainedImage(pretrained.build_from_config(state["config"]), state, settings)
    try:
        network = models.get_model(state["name"], weights=None)
    except ValueError as error:
        raise ModelFolderError(f"torchvision has no network '{state['name']}'; run `recsys train`") from error
    return PretrainedImage(_cut(network, state["node"]), state, settings)


def _of_weights(name: str, settings: EncoderSettings) -> PretrainedImage:
    setting = f'[encoder] image = "{name}"'
    try:
        weights = models.get_weight(name)
    except (ValueError, AttributeError, KeyError) as error:
        known = [str(one) for network in models.list_models(module=models) for one in models.get_model_weights(network)]
        raise ConfigError(f"{setting}: torchvision has no such weights{suggestion(name, known)}") from error
    network = next(n for n in models.list_models(module=models) if weights in list(models.get_model_weights(n)))
    try:
        held = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, URLError, RuntimeError) as error:
        raise ConfigError(
            f"{setting}: the weights could not be had from {weights.url} ({error}); check the network, or put the file "
            f"into {torch.hub.get_dir()}/checkpoints"
        ) from error
    made = models.get_model(network, weights=None)
    made.load_state_dict(held)
    given = weights.transforms()
    state = {"bare": False, "size": given.crop_size[0], "mean": list(given.mean), "std": list(given.std)}
    return _torchvision(network, made, state, settings)


def _architecture(network: str, settings: EncoderSettings) -> PretrainedImage:
    made = models.get_model(network, weights=None)
    given = models.get_model_weights(network).DEFAULT.transforms()
    size = given.crop_size[0] if isinstance(made, _RIGID) else 0
    state = {"bare": True, "size": size, "mean": list(given.mean), "std": list(given.std)}
    return _torchvision(network, made, state, settings)


def _torchvision(network: str, made: nn.Module, state: dict[str, Any], settings: EncoderSettings) -> PretrainedImage:
    """A network of torchvision without its head, ended after its last map (or the last states of its patches)."""
    size = state["size"] or models.get_model_weights(network).DEFAULT.transforms().crop_size[0]
    rows = isinstance(made, models.VisionTransformer)
    node, channels = _last(made, size, rows=rows)
    state = {
        **state,
        "kind": "torchvision",
        "name": network,
        "node": node,
        "channels": channels,
        "patch": made.patch_size if isinstance(made, models.VisionTransformer) else 0,
    }
    return PretrainedImage(_cut(made, node), state, settings)


def _of_transformers(source: pretrained.PretrainedSource, settings: EncoderSettings) -> PretrainedImage:
    """The picture side of a model of transformers (SigLIP, CLIP, DINO, ViT, ConvNeXt ...)."""
    config: Any = source.config()
    config = getattr(config, "vision_config", config)
    if getattr(config, "num_channels", 3) != 3 or not hasattr(config, "num_channels"):
        raise ConfigError(f"{source.setting}: '{config.model_type}' reads no coloured pictures; name one like SigLIP")
    if type(config) not in MODEL_MAPPING:
        raise ConfigError(f"{source.setting}: transformers has no picture model of type '{config.model_type}'")
    try:
        with pretrained.silence_transformers():
            given: Any = AutoImageProcessor.from_pretrained(source.name, **source.how)  # type: ignore[no-untyped-call]
    except pretrained.TROUBLE as error:
        raise source.trouble(error) from error
    backbone = source.model(config)
    size = _size(given, config)
    state: dict[str, Any] = {
        "kind": "transformers",
        "config": pretrained.state_of(config),
        "bare": False,
        "size": size,
        "mean": list(given.image_mean if given.do_normalize else (0.0, 0.0, 0.0)),
        "std": list(given.image_std if given.do_normalize else (1.0, 1.0, 1.0)),
    }
    try:
        with torch.no_grad():
            seen = backbone.eval()(pixel_values=torch.zeros(1, 3, size, size)).last_hidden_state
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise ConfigError(f"{source.setting}: cannot see a picture of {size} pixels a side ({error})") from error
    state["channels"] = seen.shape[1] if seen.ndim == 4 else seen.shape[2]
    state["grid"] = 0 if seen.ndim == 4 else _grid(seen.shape[1], size, config)
    return PretrainedImage(backbone, state, settings)


def _size(given: Any, config: Any) -> int:
    """Side in pixels the model was trained with, as its processor says."""
    for said in (given.crop_size if getattr(given, "do_center_crop", False) else None, given.size):
        for key in ("height", "shortest_edge"):
            side = said.get(key) if isinstance(said, dict) else getattr(said, key, None)
            if side:
                return int(side)
    return int(config.image_size)


def _grid(tokens: int, size: int, config: Any) -> int:
    """Patches along a side: those of the first layer, or of later ones that have merged them."""
    side = size // int(getattr(config, "patch_size", 16))
    while side > 1 and side * side > tokens:
        side //= 2
    return side


class _Shapes(fx.Interpreter):
    """Notes the shape of everything a network makes of a picture."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.shapes: list[tuple[str, torch.Size]] = []

    def run_node(self, n: fx.Node) -> Any:
        out = super().run_node(n)
        if isinstance(out, Tensor):
            self.shapes.append((n.name, out.shape))
        return out


def _traced(network: nn.Module) -> tuple[nn.Module, fx.Graph]:
    tracer = NodePathTracer()
    graph = tracer.trace(network.eval())
    return tracer.root, graph


def _last(network: nn.Module, size: int, *, rows: bool) -> tuple[str, int]:
    """Name and channels of the last map a network makes; with `rows` of the last states of its patches."""
    seen = _Shapes(fx.GraphModule(*_traced(network)))
    with torch.no_grad():
        seen.run(torch.zeros(1, 3, size, size))
    if rows:
        return [(name, shape[2]) for name, shape in seen.shapes if len(shape) == 3 and shape[1] > 1][-1]
    return [(name, shape[1]) for name, shape in seen.shapes if len(shape) == 4 and shape[2] == shape[3] > 1][-1]


def _cut(network: nn.Module, node: str) -> nn.Module:
    """A network that ends with a node; what came behind is gone, weights and all."""
    root, graph = _traced(network)
    by_name = {one.name: one for one in graph.nodes}
    for one in [one for one in graph.nodes if one.op == "output"]:
        graph.erase_node(one)
    graph.output(by_name[node])
    for one in reversed(list(graph.nodes)):
        if one.op not in ("placeholder", "output") and not one.users:
            graph.erase_node(one)
    out = fx.GraphModule(root, graph)
    out.delete_all_unused_submodules()
    return out
