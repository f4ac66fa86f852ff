"""Image towers from torchvision, pretrained or as an untrained architecture, and from transformers.

In: the name of a network, or the state of a saved one. Out: a tower that resizes and normalises images to the size,
mean and standard deviation the network was trained with.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Final
from urllib.error import URLError

import torch
from torch import Tensor, fx, nn
from torchvision import models
from torchvision.models.feature_extraction import NodePathTracer
from transformers import AutoImageProcessor
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from recsys.config import EncoderSettings
from recsys.encoder.backbones import hub, lora
from recsys.encoder.backbones.image_tower import TowerOutput, resize
from recsys.encoder.backbones.inference_copy import InferenceCopy
from recsys.errors import ConfigError, ModelFolderError, suggestion

_MAX_PIXELS: Final = 2**21
"""Pixels per forward pass outside training."""
_FIXED_SIZE: Final = (models.VisionTransformer, models.SwinTransformer, models.MaxVit)
"""Architectures that accept images of one size only."""


class PretrainedImage(nn.Module):
    """A network with a feature map of the image; without pretrained weights (`from_scratch`) all of it is trained."""

    def __init__(self, backbone: nn.Module, state: dict[str, Any], settings: EncoderSettings) -> None:
        super().__init__()
        self.channels: int = state["channels"]
        self.from_scratch: bool = state["bare"]
        self.is_trainable = self.from_scratch or settings.tuning != "frozen"
        self._state = state
        self._inference_copy = InferenceCopy(settings.precision)
        self.backbone = backbone
        if self.from_scratch:
            lora.disable_dropout(backbone)
        else:
            lora.configure_trainable(
                backbone,
                settings.tuning,
                rank=settings.adapter_rank,
                learning_rate_scale=settings.tuning_pace,
                setting="[encoder] image",
            )
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(state[name]).view(3, 1, 1), persistent=False)

    def state(self) -> dict[str, Any]:
        """Return the architecture without the weights as a JSON-compatible dict."""
        return self._state

    def train(self, mode: bool = True) -> PretrainedImage:
        """Set the mode; a pretrained backbone stays in evaluation mode: no dropout, and fixed norm statistics."""
        super().train(mode)
        if not self.from_scratch:
            self.backbone.eval()
        return self

    def forward(self, pixels: Tensor) -> TowerOutput:
        """Compute the feature map of images, and a vector of the whole image if the network has one.

        On the CPU a network is trained in fp32: the bf16 gradient of a depthwise convolution is sometimes infinite
        there (in about one of 15 short trainings of `mobilenet_v3_small`, torch 2.15).
        """
        side = self._state["size"] or pixels.shape[2]
        if self.is_trainable and torch.is_grad_enabled():
            with nullcontext() if pixels.is_cuda else torch.autocast(pixels.device.type, enabled=False):
                return self._compute(self.backbone, pixels, side)
        with torch.no_grad(), self._inference_copy.autocast(pixels.device):
            backbone = self._inference_copy.get(self.backbone, pixels.device)
            parts = [
                self._compute(backbone, chunk, side) for chunk in torch.split(pixels, max(1, _MAX_PIXELS // side**2))
            ]
        maps, vectors = zip(*parts, strict=True)
        return torch.cat(maps).float(), None if vectors[0] is None else torch.cat(vectors).float()

    def _compute(self, backbone: nn.Module, pixels: Tensor, side: int) -> TowerOutput:
        x = (resize(pixels, side) - self.mean) / self.std  # type: ignore[operator]
        if self._state["kind"] == "torchvision":
            return _to_feature_map(backbone(x), side // self._state["patch"] if self._state["patch"] else 0)
        output = backbone(pixel_values=x)
        vector = getattr(output, "pooler_output", None)
        feature_map, first = _to_feature_map(output.last_hidden_state, self._state["grid"])
        vector = vector.flatten(1) if vector is not None else first
        return feature_map, vector if vector is not None and vector.shape[1] == feature_map.shape[1] else None


def _to_feature_map(states: Tensor, grid: int) -> TowerOutput:
    """Convert a sequence of patch states to a feature map; also return the first token if it is no patch."""
    if states.ndim == 4:
        return states, None
    n_extra = states.shape[1] - grid**2
    patches = states[:, n_extra:].transpose(1, 2).reshape(len(states), -1, grid, grid)
    return patches, states[:, 0] if n_extra else None


def load_image_backbone(settings: EncoderSettings) -> PretrainedImage:
    """Load the tower of `settings.image`, a network of torchvision or transformers.

    Raises:
        ConfigError: no network has that name, or its weights cannot be downloaded or read.
        ModelFolderError: weights are missing or of another shape.
    """
    name = settings.image
    if name.partition(".")[0].endswith("_Weights"):
        return _load_torchvision_weights(name, settings)
    architectures = models.list_models(module=models)
    if name in architectures:
        return _create_untrained(name, settings)
    source, hint = hub.PretrainedSource(name, "[encoder] image"), suggestion(name, architectures)
    if hint and "/" not in name and not source.is_local:
        raise ConfigError(f"{source.setting}: torchvision has no such network{hint}")
    return _load_transformers(source, settings)


def rebuild_image_backbone(state: dict[str, Any], settings: EncoderSettings) -> PretrainedImage:
    """Rebuild the tower from its `state()`; its weights are not set yet.

    Raises:
        ModelFolderError: the installed libraries have no such network.
    """
    if state["kind"] == "transformers":
        return PretrainedImage(hub.build_from_config(state["config"]), state, settings)
    try:
        network = models.get_model(state["name"], weights=None)
    except ValueError as error:
        raise ModelFolderError(f"torchvision has no network '{state['name']}'; run `recsys train`") from error
    return PretrainedImage(_truncate(network, state["node"]), state, settings)


def _load_torchvision_weights(name: str, settings: EncoderSettings) -> PretrainedImage:
    setting = f'[encoder] image = "{name}"'
    try:
        weights = models.get_weight(name)
    except (ValueError, AttributeError, KeyError) as error:
        names = [str(w) for network in models.list_models(module=models) for w in models.get_model_weights(network)]
        raise ConfigError(f"{setting}: torchvision has no such weights{suggestion(name, names)}") from error
    network = next(n for n in models.list_models(module=models) if weights in list(models.get_model_weights(n)))
    try:
        state_dict = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, URLError, RuntimeError) as error:
        raise ConfigError(
            f"{setting}: the weights could not be downloaded from {weights.url} ({error}); check the network, or put "
            f"the file into {torch.hub.get_dir()}/checkpoints"
        ) from error
    model = models.get_model(network, weights=None)
    model.load_state_dict(state_dict)
    transforms = weights.transforms()
    state = {"bare": False, "size": transforms.crop_size[0], "mean": list(transforms.mean), "std": list(transforms.std)}
    return _wrap_torchvision(network, model, state, settings)


def _create_untrained(network: str, settings: EncoderSettings) -> PretrainedImage:
    model = models.get_model(network, weights=None)
    transforms = models.get_model_weights(network).DEFAULT.transforms()
    size = transforms.crop_size[0] if isinstance(model, _FIXED_SIZE) else 0
    state = {"bare": True, "size": size, "mean": list(transforms.mean), "std": list(transforms.std)}
    return _wrap_torchvision(network, model, state, settings)


def _wrap_torchvision(
    network: str, model: nn.Module, state: dict[str, Any], settings: EncoderSettings
) -> PretrainedImage:
    """Remove the head of a torchvision network: it ends at its last feature map or the last patch states."""
    size = state["size"] or models.get_model_weights(network).DEFAULT.transforms().crop_size[0]
    has_patch_tokens = isinstance(model, models.VisionTransformer)
    node, channels = _find_last_map(model, size, has_patch_tokens=has_patch_tokens)
    state = {
        **state,
        "kind": "torchvision",
        "name": network,
        "node": node,
        "channels": channels,
        "patch": model.patch_size if isinstance(model, models.VisionTransformer) else 0,
    }
    return PretrainedImage(_truncate(model, node), state, settings)


def _load_transformers(source: hub.PretrainedSource, settings: EncoderSettings) -> PretrainedImage:
    """Load the image part of a transformers model (SigLIP, CLIP, DINO, ViT, ConvNeXt ...)."""
    config: Any = source.load_config()
    config = getattr(config, "vision_config", config)
    if getattr(config, "num_channels", 3) != 3 or not hasattr(config, "num_channels"):
        raise ConfigError(f"{source.setting}: '{config.model_type}' does not read RGB images; set a model like SigLIP")
    if type(config) not in MODEL_MAPPING:
        raise ConfigError(f"{source.setting}: transformers has no image model of type '{config.model_type}'")
    try:
        with hub.silence_transformers():
            processor: Any = AutoImageProcessor.from_pretrained(source.name, **source.load_options)  # type: ignore[no-untyped-call]
    except hub.LOAD_ERRORS as error:
        raise source.load_error(error) from error
    backbone = source.load_model(config)
    size = _image_size(processor, config)
    state: dict[str, Any] = {
        "kind": "transformers",
        "config": hub.config_to_dict(config),
        "bare": False,
        "size": size,
        "mean": list(processor.image_mean if processor.do_normalize else (0.0, 0.0, 0.0)),
        "std": list(processor.image_std if processor.do_normalize else (1.0, 1.0, 1.0)),
    }
    try:
        with torch.no_grad():
            states = backbone.eval()(pixel_values=torch.zeros(1, 3, size, size)).last_hidden_state
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise ConfigError(f"{source.setting}: cannot process an image of {size} x {size} pixels ({error})") from error
    state["channels"] = states.shape[1] if states.ndim == 4 else states.shape[2]
    state["grid"] = 0 if states.ndim == 4 else _grid_side(states.shape[1], size, config)
    return PretrainedImage(backbone, state, settings)


def _image_size(processor: Any, config: Any) -> int:
    """Side in pixels of the images the model was trained with, from its processor or configuration."""
    for size in (processor.crop_size if getattr(processor, "do_center_crop", False) else None, processor.size):
        for key in ("height", "shortest_edge"):
            side = size.get(key) if isinstance(size, dict) else getattr(size, key, None)
            if side:
                return int(side)
    return int(config.image_size)


def _grid_side(tokens: int, size: int, config: Any) -> int:
    """Number of patches along a side, after any merging of patches in later layers."""
    side = size // int(getattr(config, "patch_size", 16))
    while side > 1 and side * side > tokens:
        side //= 2
    return side


class _ShapeRecorder(fx.Interpreter):
    """Runs a network and records the shape of each intermediate result."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.shapes: list[tuple[str, torch.Size]] = []

    def run_node(self, n: fx.Node) -> Any:
        """Run a node and record the shape of its result."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes.append((n.name, result.shape))
        return result


def _trace(network: nn.Module) -> tuple[nn.Module, fx.Graph]:
    tracer = NodePathTracer()
    graph = tracer.trace(network.eval())
    return tracer.root, graph


def _find_last_map(network: nn.Module, size: int, *, has_patch_tokens: bool) -> tuple[str, int]:
    """Name and channels of the last feature map, or with `has_patch_tokens` of the last patch states."""
    recorder = _ShapeRecorder(fx.GraphModule(*_trace(network)))
    with torch.no_grad():
        recorder.run(torch.zeros(1, 3, size, size))
    if has_patch_tokens:
        return [(name, shape[2]) for name, shape in recorder.shapes if len(shape) == 3 and shape[1] > 1][-1]
    return [(name, shape[1]) for name, shape in recorder.shapes if len(shape) == 4 and shape[2] == shape[3] > 1][-1]


def _truncate(network: nn.Module, node: str) -> nn.Module:
    """Return a network that ends at a node; later layers and their weights are removed."""
    root, graph = _trace(network)
    by_name = {n.name: n for n in graph.nodes}
    for output in [n for n in graph.nodes if n.op == "output"]:
        graph.erase_node(output)
    graph.output(by_name[node])
    for n in reversed(list(graph.nodes)):
        if n.op not in ("placeholder", "output") and not n.users:
            graph.erase_node(n)
    truncated = fx.GraphModule(root, graph)
    truncated.delete_all_unused_submodules()
    return truncated
