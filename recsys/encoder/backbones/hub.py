"""Load transformers models completely or not at all, and rebuild them from their configuration.

In: a folder or hub name, or a configuration. Out: a model in fp32. Weights are read from safetensors files only, and
code shipped with a model is never run.
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
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import cached_file

from recsys.errors import ConfigError, ModelFolderError

_HUB_NAME: Final = re.compile(r"[\w.-]+(/[\w.-]+)?")
_MAX_LISTED: Final = 4
LOAD_ERRORS: Final = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)
"""Exceptions that transformers raises when a model is missing or incomplete."""


class PretrainedSource:
    """Source of a pretrained model: a local folder, read without the network, or a name on the hub."""

    def __init__(self, name: str, setting: str) -> None:
        """Resolve a folder or hub name given by a setting.

        Raises:
            ConfigError: the folder does not exist, and the name cannot be a hub name.
        """
        folder = Path(name).expanduser()
        self.is_local = folder.is_dir()
        self.setting = f'{setting} = "{name}"'
        if not self.is_local and (not _HUB_NAME.fullmatch(name) or name.startswith(".")):
            raise ConfigError(f"{self.setting}: there is no such folder ({folder.absolute()})")
        self.name = str(folder) if self.is_local else name
        self.load_options: dict[str, Any] = {"local_files_only": self.is_local, "trust_remote_code": False}

    def load_error(self, error: Exception) -> ConfigError:
        """Return the error to raise when the model could not be read."""
        message = " ".join(str(error).split())[:300]
        if self.is_local:
            return ConfigError(f"{self.setting}: the folder contains no usable model ({message})")
        return ConfigError(
            f"{self.setting}: no such folder, and the model could not be downloaded from the hub ({message}); "
            "check the name and the network, or download it and name its folder"
        )

    def load_config(self) -> Any:
        """Load the model's configuration.

        Raises:
            ConfigError: it is missing or cannot be read.
        """
        try:
            with silence_transformers():
                return transformers.AutoConfig.from_pretrained(self.name, **self.load_options)
        except LOAD_ERRORS as error:
            raise self.load_error(error) from error

    def load_model(self, config: Any) -> nn.Module:
        """Load the model of a configuration with the weights of this source, in fp32.

        Raises:
            ConfigError: transformers has no such model, or there are no safetensors weights.
            ModelFolderError: weights are missing or of another shape.
        """
        if type(config) not in MODEL_MAPPING:
            raise ConfigError(f"{self.setting}: transformers has no model of type '{config.model_type}'")
        model_class: Any = MODEL_MAPPING[type(config)]
        try:
            with silence_transformers():
                model, report = model_class.from_pretrained(
                    self.name,
                    config=config,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                    use_safetensors=True,
                    dtype=torch.float32,
                    **self.load_options,
                    **_without_pooling_layer(model_class),
                )
        except LOAD_ERRORS as error:
            raise self.load_error(error) from error
        mismatches = [f"lack {name}" for name in sorted(report["missing_keys"])]
        mismatches += [
            f"hold {name} as {tuple(actual)} instead of {tuple(expected)}"
            for name, actual, expected in report["mismatched_keys"]
        ]
        if mismatches:
            more = f" and {len(mismatches) - _MAX_LISTED} more" if len(mismatches) > _MAX_LISTED else ""
            raise ModelFolderError(
                f"{self.setting}: its weights {', '.join(mismatches[:_MAX_LISTED])}{more}; "
                "download the complete model again"
            )
        loaded: nn.Module = model
        return loaded

    def load_json(self, name: str) -> dict[str, Any]:
        """Load a JSON file of the model, empty if there is none.

        Raises:
            ConfigError: the file cannot be read.
        """
        try:
            with silence_transformers():
                path = cached_file(
                    self.name,
                    name,
                    local_files_only=self.is_local,
                    _raise_exceptions_for_missing_entries=False,
                )
            content: dict[str, Any] = json.loads(Path(path).read_bytes()) if path else {}
        except LOAD_ERRORS as error:
            raise self.load_error(error) from error
        return content


def config_to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as a JSON-compatible dict without its source path and code references."""
    state: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in state.items() if key not in ("_name_or_path", "auto_map")}


def build_from_config(state: dict[str, Any]) -> nn.Module:
    """Build the model of a configuration; its weights are not set yet.

    Raises:
        ModelFolderError: the installed transformers has no such model.
    """
    try:
        config: Any = CONFIG_MAPPING[state["model_type"]].from_dict({**state, "dtype": "float32"})
        model_class: Any = MODEL_MAPPING[type(config)]
        with silence_transformers(), no_init_weights():
            model: nn.Module = model_class._from_config(config, **_without_pooling_layer(model_class))
    except LOAD_ERRORS as error:
        raise ModelFolderError(
            f"the backbone of type '{state.get('model_type')}' cannot be built by transformers "
            f"{transformers.__version__} ({error}); install the version named in manifest.json or run `recsys train`"
        ) from error
    return model


def _without_pooling_layer(model_class: Any) -> dict[str, Any]:
    """Arguments that omit the pooling layer if possible: it is often untrained, and not used here."""
    return (
        {"add_pooling_layer": False}
        if "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
        else {}
    )


@contextlib.contextmanager
def silence_transformers() -> Iterator[None]:
    """Disable the reports and progress bars of transformers inside the block."""
    verbosity, had_bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
