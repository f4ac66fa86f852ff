"""Model folders: written whole or not at all, read only when every file is the one that was written.

In: a `Model`. Out: `<folder>/<version>/` with weights, vocabularies, manifest and model card, and `<folder>/CURRENT`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Final

from safetensors.torch import load as of_bytes
from tokenizers import Tokenizer

from recsys.config import EncoderSettings
from recsys.data.ids import IdMap
from recsys.encoder.fields.image import ImageField
from recsys.encoder.fields.table import TableField
from recsys.encoder.fields.text import TextField
from recsys.encoder.fields.words import WordsField
from recsys.encoder.model import Model
from recsys.encoder.product import ProductEncoder
from recsys.encoder.user import UserEncoder
from recsys.errors import ModelFolderError

_FORMAT: Final = 1
_LIBRARIES: Final = ("torch", "safetensors", "tokenizers", "numpy", "polars")


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
        "data_fingerprint": data_fingerprint,
        "seed": seed,
        "libraries": {name: installed(name) for name in _LIBRARIES},
        "files": {name: {"sha256": _sha256(held), "size": len(held)} for name, held in files.items()},
    }
    target = folder / model.version
    folder.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
    try:
        for name, held in {**files, "manifest.json": _json(manifest)}.items():
            _write(part / name, held)
        part.chmod(0o755)
        _sync(part)
        if target.exists():
            # The same weights were saved before; a folder of that name that is damaged must not survive.
            shutil.rmtree(target)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _sync(folder)
    pointer = folder / f".CURRENT-{os.getpid()}"
    _write(pointer, model.version.encode() + b"\n")
    pointer.replace(folder / "CURRENT")
    _sync(folder)
    return target


def newest(models: Path, name: str) -> Path:
    """Folder of the current version of model `name` under `models`.

    Raises:
        ModelFolderError: there is none.
    """
    pointer = models / name / "CURRENT"
    if not pointer.is_file():
        raise ModelFolderError(f"{pointer.parent}: there is no trained model yet; run `recsys train`")
    version = pointer.read_text(encoding="utf-8").strip()
    folder = models / name / version
    if not version or Path(version).name != version or not folder.is_dir():
        raise ModelFolderError(f"{pointer}: names version '{version}', which is not there; run `recsys train`")
    return folder


def load(folder: Path) -> Model:
    """Read a version's folder after checking every file against its manifest.

    Raises:
        ModelFolderError: a file is missing, altered, or of another format.
    """
    files = _checked(folder)
    config = json.loads(files["config.json"])
    if config.get("format") != _FORMAT:
        raise ModelFolderError(f"{folder}: model format {config.get('format')} is not {_FORMAT}; run `recsys train`")
    settings = EncoderSettings.model_validate(config["encoder"])
    words = json.loads(files["words.json"])
    product = ProductEncoder(
        text=TextField(Tokenizer.from_buffer(files["tokenizer.json"]), config["text_columns"], settings),
        image=ImageField(settings),
        attributes=TableField.of_state(json.loads(files["attributes.json"]), settings.width),
        words=WordsField(words["words"], words["rarity"], settings.dim),
        names=config["named_columns"],
        settings=settings,
    )
    user = UserEncoder(IdMap(json.loads(files["products.json"])), settings) if config["has_user_encoder"] else None
    tensors = of_bytes(files["model.safetensors"])
    for name, part in (("product", product), ("user", user)):
        if part is not None:
            held = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
            try:
                part.load_state_dict(held)
            except RuntimeError as error:
                raise ModelFolderError(f"{folder}: the weights do not fit config.json; run `recsys train`") from error
    return Model(
        product=product, user=user, settings=settings, metrics=json.loads(files["metrics.json"]), folder=folder
    )


def _checked(folder: Path) -> Mapping[str, bytes]:
    """All files of a model folder, each of the size and sha256 the manifest says."""
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        named = {str(name): held for name, held in manifest["files"].items()}
        needed = {
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "words.json",
            "attributes.json",
            "products.json",
            "metrics.json",
        }
        if needed - named.keys() or any(Path(name).name != name for name in named):
            raise ModelFolderError(f"{path}: does not name the files of a model; run `recsys train`")
        files = {name: (folder / name).read_bytes() for name in named}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelFolderError(f"{folder}: not a complete model folder ({error}); run `recsys train`") from error
    for name, held in files.items():
        if len(held) != named[name]["size"] or _sha256(held) != named[name]["sha256"]:
            raise ModelFolderError(
                f"{folder / name}: altered since it was written; run `recsys train` or restore the folder"
            )
    return files


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


def _write(path: Path, held: bytes) -> None:
    with path.open("wb") as file:
        file.write(held)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
