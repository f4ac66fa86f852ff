"""Model folders: written whole or not at all, read only when every file is the one that was written.

In: a `Model`. Out: `<folder>/<version>/` with weights, vocabularies, manifest and model card, and `<folder>/CURRENT`.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from safetensors.torch import load as of_bytes
from tokenizers import Tokenizer
from torch import Tensor

from recsys.artifacts.model_folder import MANIFEST, read_verified, write_version
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

_FORMAT: Final = 4
_NEEDED: Final = frozenset(
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
_SHOWN: Final = 4
_LIBRARIES: Final = ("torch", "safetensors", "tokenizers", "torchvision", "transformers", "numpy", "polars")


def save(model: Model, folder: Path, *, data_fingerprint: str = "", seed: int | None = None) -> Path:
    """Write a model to `folder/<version>` and point `folder/CURRENT` at it.

    Args:
        model: what to write.
        folder: `artifacts/models/<name>`.
        data_fingerprint: of the data it was trained on, for the manifest.
        seed: it was trained with, for the manifest.

    Returns:
        The version's folder.
    """
    product = model.product
    config = {
        "format": _FORMAT,
        "encoder": model.settings.model_dump(mode="json"),
        "text_columns": product.text.columns,
        "named_columns": product.names,
        "has_user_encoder": model.user is not None,
    }
    words = {"words": product.words.words, "rarity": product.words.rarity}
    files = {
        "config.json": _json(config),
        "model.safetensors": model.weights(),
        "tokenizer.json": product.text.tokenizer.to_str(pretty=True).encode(),
        "backbones.json": _json({"text": product.text.tower.state(), "image": product.image.tower.state()}),
        "words.json": _json(words),
        "attributes.json": _json(product.attributes.state()),
        "products.json": _json(list(model.user.ids.texts) if model.user is not None else []),
        "metrics.json": _json(model.metrics),
        "README.md": _card(model).encode(),
    }
    manifest = {
        "format": _FORMAT,
        "version": model.version,
        "content_version": model.content_version,
        "columns": model.columns,
        "data_fingerprint": data_fingerprint,
        "seed": seed,
        "libraries": {name: installed(name) for name in _LIBRARIES},
        "files": {name: {"sha256": _sha256(held), "size": len(held)} for name, held in files.items()},
    }
    try:
        return write_version(folder, model.version, {**files, MANIFEST: _json(manifest)})
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise TemporaryError(
            f"{folder}: the disk is full, so the model was not saved and the last one stays; "
            "free some space and repeat the command"
        ) from error


def load(folder: Path) -> Model:
    """Read a version's folder after checking every file against its manifest.

    Raises:
        ModelFolderError: a file is missing, altered, or of another format.
    """
    files = read_verified(folder, _NEEDED)
    config = json.loads(files["config.json"])
    if config.get("format") != _FORMAT:
        raise ModelFolderError(f"{folder}: model format {config.get('format')} is not {_FORMAT}; run `recsys train`")
    settings = _settings(folder, config)
    words = json.loads(files["words.json"])
    backbones = json.loads(files["backbones.json"])
    product = ProductEncoder(
        text=TextEncoder.of_state(
            backbones["text"], Tokenizer.from_buffer(files["tokenizer.json"]), config["text_columns"], settings
        ),
        image=ImageEncoder(settings, backbones["image"]),
        attributes=AttributeEncoder.of_state(json.loads(files["attributes.json"]), settings.width),
        words=BagOfWordsEncoder(words["words"], words["rarity"], settings.dim),
        names=config["named_columns"],
        settings=settings,
    )
    user = UserEncoder(IdMap(json.loads(files["products.json"])), settings) if config["has_user_encoder"] else None
    tensors = of_bytes(files["model.safetensors"])
    for name, part in (("product", product), ("user", user)):
        if part is not None:
            held = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
            if wrong := _differing(part.state_dict(), held):
                more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
                raise ModelFolderError(
                    f"{folder}: the weights of the {name} encoder do not fit config.json: "
                    f"{', '.join(wrong[:_SHOWN])}{more}; run `recsys train`"
                )
            part.load_state_dict(held)
    return Model(
        product=product, user=user, settings=settings, metrics=json.loads(files["metrics.json"]), folder=folder
    )


def _settings(folder: Path, config: Mapping[str, Any]) -> EncoderSettings:
    """The sizes a model was trained with.

    Raises:
        ModelFolderError: they are no settings of this version.
    """
    try:
        return EncoderSettings.model_validate(config["encoder"])
    except ValidationError as error:
        wrong = ", ".join(".".join(map(str, one["loc"])) or one["msg"] for one in error.errors())
        raise ModelFolderError(
            f"{folder / 'config.json'}: made by another version, whose settings are not known here ({wrong}); "
            "run `recsys train`"
        ) from error


def _differing(wanted: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> list[str]:
    """What is missing, too much or of another shape, by name."""
    out = [f"{name} is missing" for name in wanted if name not in held]
    out += [f"{name} is not known" for name in held if name not in wanted]
    return out + [
        f"{name} is {tuple(held[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in held and held[name].shape != wanted[name].shape
    ]


def _card(model: Model) -> str:
    product, settings = model.product, model.settings
    size = sum(p.numel() for p in product.parameters())
    user = f"{sum(p.numel() for p in model.user.parameters()):,} weights" if model.user is not None else "not trained"
    losses = "\n".join(f"| {name} | {value:.4f} |" for name, value in model.metrics.items()) or "| - | - |"
    return (
        f"# Model {model.version}\n\n"
        "Self-supervised vectors of products and users, made by recsys from one shop's own data.\n\n"
        f"- Vectors: {settings.dim} numbers, unit length; any subset of text, picture and attributes.\n"
        f"- Text columns: {', '.join(product.text.columns) or 'none'}; "
        f"{product.text.tokenizer.get_vocab_size():,} tokens, "
        f"{len(product.words.words):,} exact words.\n"
        f"- Towers: text {settings.text}, pictures {settings.image}; pretrained weights {settings.tuning}.\n"
        f"- Attributes: {', '.join(product.attributes.columns) or 'none'}.\n"
        f"- Product encoder: {size:,} weights. User encoder: {user}.\n"
        "- Made for: finding similar products, grouping, recommending in the shop it was trained on.\n"
        "- Not made for: another shop without training anew, judging people.\n\n"
        f"| at the end of training | value |\n|---|---|\n{losses}\n"
    )


def _json(held: object) -> bytes:
    return json.dumps(held, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"


def _sha256(held: bytes) -> str:
    return hashlib.sha256(held).hexdigest()
