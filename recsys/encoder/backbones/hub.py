"""Models of the transformers library: fetched whole or refused, and built anew from their configuration alone.

In: a folder or hub name, or a configuration. Out: a model in fp32. Weights come from safetensors files only, and no
code that lies beside them is ever run.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers.initialization import no_init_weights
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.utils import logging as their_log
from transformers.utils.hub import cached_file

from recsys.errors import ConfigError, ModelFolderError

_HUB: Final = re.compile(r"[\w.-]+(/[\w.-]+)?")
_SHOWN: Final = 4
TROUBLE: Final = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)
"""What the library raises when a model is not there or not whole."""


class PretrainedSource:
    """Where a pretrained model comes from: a folder, never asking the network, or a name on the hub."""

    def __init__(self, name: str, setting: str) -> None:
        folder = Path(name).expanduser()
        self.local = folder.is_dir()
        self.setting = f'{setting} = "{name}"'
        if not self.local and (not _HUB.fullmatch(name) or name.startswith(".")):
            raise ConfigError(f"{self.setting}: there is no such folder ({folder.absolute()})")
        self.name = str(folder) if self.local else name
        self.how: dict[str, Any] = {"local_files_only": self.local, "trust_remote_code": False}

    def trouble(self, error: Exception) -> ConfigError:
        """The error to raise when something could not be read."""
        said = " ".join(str(error).split())[:300]
        if self.local:
            return ConfigError(f"{self.setting}: the folder holds no model that can be used ({said})")
        return ConfigError(
            f"{self.setting}: no such folder, and the model could not be had from the hub ({said}); "
            "check the name and the network, or download it and name its folder"
        )

    def config(self) -> Any:
        """The model's configuration."""
        try:
            with silence_transformers():
                return transformers.AutoConfig.from_pretrained(self.name, **self.how)
        except TROUBLE as error:
            raise self.trouble(error) from error

    def model(self, config: Any) -> nn.Module:
        """The model of a configuration with the weights of this source, in fp32.

        Raises:
            ConfigError: the library knows no such model, or there are no safetensors weights.
            ModelFolderError: weights are missing or of another shape.
        """
        if type(config) not in MODEL_MAPPING:
            raise ConfigError(f"{self.setting}: transformers has no model of type '{config.model_type}'")
        made: Any = MODEL_MAPPING[type(config)]
        try:
            with silence_transformers():
                model, report = made.from_pretrained(
                    self.name,
                    config=config,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                    use_safetensors=True,
                    dtype=torch.float32,
                    **self.how,
                    **_bare(made),
                )
        except TROUBLE as error:
            raise self.trouble(error) from error
        wrong = [f"lack {name}" for name in sorted(report["missing_keys"])]
        wrong += [
            f"hold {name} as {tuple(has)} instead of {tuple(wants)}" for name, has, wants in report["mismatched_keys"]
        ]
        if wrong:
            more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            raise ModelFolderError(
                f"{self.setting}: its weights {', '.join(wrong[:_SHOWN])}{more}; get the whole model again"
            )
        held: nn.Module = model
        return held

    def file(self, name: str) -> dict[str, Any]:
        """A JSON file beside the model, empty if there is none."""
        try:
            with silence_transformers():
                found = cached_file(
                    self.name,
                    name,
                    local_files_only=self.local,
                    _raise_exceptions_for_missing_entries=False,
                )
            held: dict[str, Any] = json.loads(Path(found).read_bytes()) if found else {}
        except TROUBLE as error:
            raise self.trouble(error) from error
        return held


def state_of(config: Any) -> dict[str, Any]:
    """A configuration fit for JSON, without the place it came from and without code to fetch."""
    held: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in held.items() if key not in ("_name_or_path", "auto_map")}


def build_from_config(state: dict[str, Any]) -> nn.Module:
    """The model of a configuration; its weights are not set yet.

    Raises:
        ModelFolderError: the installed library knows no such model.
    """
    try:
        config: Any = CONFIG_MAPPING[state["model_type"]].from_dict({**state, "dtype": "float32"})
        made: Any = MODEL_MAPPING[type(config)]
        with silence_transformers(), no_init_weights():
            model: nn.Module = made._from_config(config, **_bare(made))
    except TROUBLE as error:
        raise ModelFolderError(
            f"the backbone of type '{state.get('model_type')}' cannot be built by transformers "
            f"{transformers.__version__} ({error}); install the version of manifest.json or run `recsys train`"
        ) from error
    return model


def _bare(made: Any) -> dict[str, Any]:
    """Leave out the layer behind the first token where the model lets one: it is often untrained, and not used here."""
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(made.__init__).parameters else {}


@contextlib.contextmanager
def silence_transformers() -> Iterator[None]:
    """Without the library's reports and progress bars."""
    before, bars = their_log.get_verbosity(), their_log.is_progress_bar_enabled()
    their_log.set_verbosity(logging.ERROR)
    their_log.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        their_log.set_verbosity(before)
        if bars:
            their_log.enable_progress_bar()  # type: ignore[no-untyped-call]
