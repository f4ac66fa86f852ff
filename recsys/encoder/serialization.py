"""Save models to folders atomically, and load them after verifying every file against the manifest.

In: a `Model`. Out: `<folder>/<version>/` with weights, vocabularies, manifest and model card, and `<folder>/CURRENT`.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from safetensors.torch import load as load_tensors
from tokenizers import Tokenizer
from torch import Tensor

from recsys.artifacts.model_folder import MANIFEST, read_verified_files, write_version
from recsys.config import EncoderSettings
from recsys.data.id_map import IdMap
from recsys.encoder.modalities.attributes import AttributeEncoder
from recsys.encoder.modalities.bag_of_words import BagOfWordsEncoder
from recsys.encoder.modalities.image import ImageEncoder
from recsys.encoder.modalities.text import TextEncoder
from recsys.encoder.model import Model
from recsys.encoder.product_encoder import ProductEncoder
from recsys.encoder.user_encoder import UserEncoder
from recsys.errors import ModelFolderError, TemporaryError

_FORMAT_VERSION: Final = 5
_REQUIRED_FILES: Final = frozenset(
    {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "words.json",
        "attributes.json",
        "backbones.json",
        "products.json",
        "metrics.json",
    }
)
_MAX_LISTED: Final = 4
_LIBRARIES: Final = ("torch", "safetensors", "tokenizers", "torchvision", "transformers", "numpy", "polars")


def save(model: Model, folder: Path, *, data_fingerprint: str = "", seed: int | None = None) -> Path:
    """Write a model to `folder/<version>` and point `folder/CURRENT` at it.

    Args:
        model: the model.
        folder: `artifacts/models/<name>`.
        data_fingerprint: fingerprint of the training data, for the manifest.
        seed: seed of the training, for the manifest.

    Returns:
        The version's folder.

    Raises:
        TemporaryError: the disk is full.
    """
    product = model.product_encoder
    config = {
        "format": _FORMAT_VERSION,
        "encoder": model.settings.model_dump(mode="json"),
        "text_columns": product.text.columns,
        "named_columns": product.keyword_columns,
        "has_user_encoder": model.user_encoder is not None,
    }
    words = {"words": product.words.vocabulary, "rarity": product.words.idf}
    files = {
        "config.json": _to_json(config),
        "model.safetensors": model.serialize_weights(),
        "tokenizer.json": product.text.tokenizer.to_str(pretty=True).encode(),
        "backbones.json": _to_json({"text": product.text.tower.state(), "image": product.image.tower.state()}),
        "words.json": _to_json(words),
        "attributes.json": _to_json(product.attributes.state()),
        "products.json": _to_json(list(model.user_encoder.ids.texts) if model.user_encoder is not None else []),
        "metrics.json": _to_json(model.metrics),
        "README.md": _model_card(model).encode(),
    }
    manifest = {
        "format": _FORMAT_VERSION,
        "version": model.version,
        "content_version": model.content_version,
        "columns": model.columns,
        "data_fingerprint": data_fingerprint,
        "seed": seed,
        "libraries": {name: library_version(name) for name in _LIBRARIES},
        "files": {name: {"sha256": _sha256(content), "size": len(content)} for name, content in files.items()},
    }
    try:
        return write_version(folder, model.version, {**files, MANIFEST: _to_json(manifest)})
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise TemporaryError(
            f"{folder}: the disk is full, so the model was not saved and the last one stays; "
            "free some space and repeat the command"
        ) from error


def load(folder: Path) -> Model:
    """Load the model of a version's folder after verifying every file against its manifest.

    Raises:
        ModelFolderError: a file is missing, altered, or of another format; settings or weights do not match.
    """
    files = read_verified_files(folder, _REQUIRED_FILES)
    config = json.loads(files["config.json"])
    if config.get("format") != _FORMAT_VERSION:
        raise ModelFolderError(
            f"{folder}: model format {config.get('format')} is not {_FORMAT_VERSION}; run `recsys train`"
        )
    settings = _parse_settings(folder, config)
    words = json.loads(files["words.json"])
    backbones = json.loads(files["backbones.json"])
    product = ProductEncoder(
        text=TextEncoder.from_state(
            backbones["text"], Tokenizer.from_buffer(files["tokenizer.json"]), config["text_columns"], settings
        ),
        image=ImageEncoder(settings, backbones["image"]),
        attributes=AttributeEncoder.from_state(json.loads(files["attributes.json"]), settings.width),
        words=BagOfWordsEncoder(words["words"], words["rarity"], settings.dim),
        keyword_columns=config["named_columns"],
        settings=settings,
    )
    user = UserEncoder(IdMap(json.loads(files["products.json"])), settings) if config["has_user_encoder"] else None
    tensors = load_tensors(files["model.safetensors"])
    for name, encoder in (("product", product), ("user", user)):
        if encoder is not None:
            weights = {
                key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")
            }
            if mismatches := _list_mismatches(encoder.state_dict(), weights):
                more = f" and {len(mismatches) - _MAX_LISTED} more" if len(mismatches) > _MAX_LISTED else ""
                raise ModelFolderError(
                    f"{folder}: the weights of the {name} encoder do not match config.json: "
                    f"{', '.join(mismatches[:_MAX_LISTED])}{more}; run `recsys train`"
                )
            encoder.load_state_dict(weights)
    return Model(
        product_encoder=product,
        user_encoder=user,
        settings=settings,
        metrics=json.loads(files["metrics.json"]),
        folder=folder,
    )


def _parse_settings(folder: Path, config: Mapping[str, Any]) -> EncoderSettings:
    """Parse the encoder settings a model was trained with.

    Raises:
        ModelFolderError: this version of recsys does not know the settings.
    """
    try:
        return EncoderSettings.model_validate(config["encoder"])
    except ValidationError as error:
        unknown = ", ".join(".".join(map(str, item["loc"])) or item["msg"] for item in error.errors())
        raise ModelFolderError(
            f"{folder / 'config.json'}: written by another version of recsys with unknown settings ({unknown}); "
            "run `recsys train`"
        ) from error


def _list_mismatches(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """Describe the weights that are missing, unknown or of another shape."""
    mismatches = [f"{name} is missing" for name in expected if name not in weights]
    mismatches += [f"{name} is not known" for name in weights if name not in expected]
    return mismatches + [
        f"{name} is {tuple(weights[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in weights and weights[name].shape != expected[name].shape
    ]


def _model_card(model: Model) -> str:
    product, settings = model.product_encoder, model.settings
    n_weights = sum(p.numel() for p in product.parameters())
    user = (
        f"{sum(p.numel() for p in model.user_encoder.parameters()):,} weights"
        if model.user_encoder is not None
        else "not trained"
    )
    losses = "\n".join(f"| {name} | {value:.4f} |" for name, value in model.metrics.items()) or "| - | - |"
    return (
        f"# Model {model.version}\n\n"
        "Self-supervised vectors of products and users, made by recsys from one shop's own data.\n\n"
        f"- Vectors: {settings.dim} numbers, unit length; any subset of text, picture and attributes.\n"
        f"- Text columns: {', '.join(product.text.columns) or 'none'}; "
        f"{product.text.tokenizer.get_vocab_size():,} tokens, "
        f"{len(product.words.vocabulary):,} exact words.\n"
        f"- Towers: text {settings.text}, pictures {settings.image}; pretrained weights {settings.tuning}.\n"
        f"- Attributes: {', '.join(product.attributes.columns) or 'none'}.\n"
        f"- Product encoder: {n_weights:,} weights. User encoder: {user}.\n"
        "- Made for: finding similar products, grouping, recommending in the shop it was trained on.\n"
        "- Not made for: another shop without new training, judging people.\n\n"
        f"| at the end of training | value |\n|---|---|\n{losses}\n"
    )


def _to_json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
