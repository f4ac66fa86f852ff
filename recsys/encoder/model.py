"""A trained model: encodes products, texts, images and users as vectors.

In: catalogue rows, texts, images, histories. Out: float32 numpy arrays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from recsys.config import EncoderSettings
from recsys.data.catalogue import Catalogue
from recsys.data.id_map import IdMap
from recsys.data.interactions import Histories
from recsys.data.tokenize import tokenize
from recsys.encoder.modalities import Inputs
from recsys.encoder.product_encoder import MODALITIES, ProductEncoder
from recsys.encoder.user_encoder import UserEncoder
from recsys.errors import UsageError, suggestion
from recsys.types import FloatArray


class Model:
    """The product encoder and, once it is trained, the user encoder.

    Attributes:
        product_encoder: the product encoder.
        user_encoder: the user encoder, or None if it is not trained.
        settings: sizes and inputs of the encoders.
        metrics: smoothed losses at the end of the training.
        folder: the model folder it was loaded from, or None.
    """

    def __init__(
        self,
        *,
        product_encoder: ProductEncoder,
        user_encoder: UserEncoder | None,
        settings: EncoderSettings,
        metrics: dict[str, float] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.product_encoder = product_encoder.eval()
        self.user_encoder = user_encoder.eval() if user_encoder is not None else None
        self.settings = settings
        self.metrics = dict(metrics or {})
        self.folder = folder

    @property
    def dim(self) -> int:
        """d, the length of all vectors."""
        return self.settings.dim

    @property
    def columns(self) -> list[str]:
        """Catalogue columns that determine a product's vector; content hashes are computed from them."""
        return self.product_encoder.columns

    def serialize_weights(self) -> bytes:
        """Serialise all weights as the bytes of a safetensors file."""
        return to_safetensors(_named_tensors(product=self.product_encoder, user=self.user_encoder))

    @cached_property
    def version(self) -> str:
        """First 12 hexadecimal digits of the sha256 of the weights file."""
        return hashlib.sha256(self.serialize_weights()).hexdigest()[:12]

    @cached_property
    def content_version(self) -> str:
        """Version of the product encoder alone: unchanged when only the user encoder is retrained."""
        return hashlib.sha256(to_safetensors(_named_tensors(product=self.product_encoder))).hexdigest()[:12]

    def encode(
        self,
        catalogue: Catalogue,
        rows: npt.NDArray[np.integer],
        *,
        modalities: Sequence[str] | None = None,
        hide: Sequence[str] = (),
        batch_size: int = 512,
    ) -> FloatArray:
        """Encode products as vectors.

        Args:
            catalogue: the products, of this or another shop.
            rows: (m,) rows to encode.
            modalities: subset of text, image, attributes; None = all. A modality that a product lacks is skipped.
            hide: columns to ignore; the vectors do not depend on their values.
            batch_size: products per forward pass.

        Returns:
            (m, d) float32 of unit length.

        Raises:
            UsageError: a modality or a hidden column does not exist, or `modalities` is empty.
        """
        selected = tuple(modalities) if modalities is not None else MODALITIES
        for name in selected:
            if name not in MODALITIES:
                raise UsageError(
                    f"unknown modality '{name}'; there are {', '.join(MODALITIES)}{suggestion(name, MODALITIES)}"
                )
        if not selected:
            raise UsageError(f"no modality given to encode by; there are {', '.join(MODALITIES)}")
        for name in hide:
            if name not in catalogue.frame.columns:
                raise UsageError(f"the catalogue has no column '{name}' to hide")
        vectors = np.zeros((len(rows), self.dim), np.float32)
        for start in range(0, len(rows), batch_size):
            batch_rows = np.asarray(rows[start : start + batch_size], np.int64)
            x = self.product_encoder.read(catalogue, batch_rows, load_images="image" in selected, hide=hide)
            with torch.inference_mode():
                vectors[start : start + batch_size] = self.product_encoder(x, selected, hide=hide).vector.numpy()
        return vectors

    def encode_text(self, texts: Sequence[str], *, batch_size: int = 512) -> FloatArray:
        """Encode texts as customers type them: (q, d) float32 of unit length."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for start in range(0, len(texts), batch_size):
            batch_texts = list(texts[start : start + batch_size])
            words = [self.product_encoder.words.token_ids(tokenize(text)) for text in batch_texts]
            x: Inputs = {
                **self.product_encoder.text.pad(self.product_encoder.text.token_ids(batch_texts)),
                **self.product_encoder.words.pad(words),
            }
            with torch.inference_mode():
                view = self.product_encoder.fuse(
                    {"text": self.product_encoder.text(x)}, self.product_encoder.encode_words(x)
                )
                vectors[start : start + batch_size] = view.vector.numpy()
        return vectors

    def encode_images(self, pixels: npt.NDArray[np.uint8], *, batch_size: int = 512) -> FloatArray:
        """Encode images, (q, 3, S, S) uint8, as vectors: (q, d) float32 of unit length."""
        vectors = np.zeros((len(pixels), self.dim), np.float32)
        for start in range(0, len(pixels), batch_size):
            batch_pixels = torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch_size]))
            with torch.inference_mode():
                x: Inputs = {"pixels": batch_pixels, "has": torch.ones(len(batch_pixels), dtype=torch.bool)}
                view = self.product_encoder.fuse(
                    {"image": self.product_encoder.image(x)}, self.product_encoder.predict_words(x)
                )
                vectors[start : start + batch_size] = view.vector.numpy()
        return vectors

    def item_vectors(self, content: FloatArray, ids: IdMap, *, batch_size: int = 8192) -> FloatArray:
        """Compute the ranking vectors of products, for inner products with `user_vectors`.

        Args:
            content: (n, d) product vectors of this model.
            ids: their n product ids; products bought in training add a learned residual, cold products do not.
            batch_size: products per forward pass.

        Returns:
            (n, d) float32, not of unit length.
        """
        user_encoder = self._require_user_encoder()
        numbers, vectors = user_encoder.residual_rows(ids), torch.from_numpy(np.array(content, dtype=np.float32))
        with torch.inference_mode():
            parts = [
                user_encoder.ranking(vectors[start : start + batch_size], numbers[start : start + batch_size])
                for start in range(0, len(vectors), batch_size)
            ]
        return torch.cat(parts).numpy() if parts else np.zeros((0, self.dim), np.float32)

    def user_vectors(self, histories: Histories, items: FloatArray, *, now: int, batch_size: int = 1024) -> FloatArray:
        """Encode users; the inner product with a row of `items` scores it as the user's next purchase.

        Args:
            histories: (b, t) events; only the newest `settings.history` are used.
            items: (n, d) ranking vectors of all products.
            now: UTC seconds of the moment to recommend for; earlier than a user's last event = right after it.
            batch_size: users per forward pass.

        Returns:
            (b, d) float32; zeros for a user without events.
        """
        user_encoder = self._require_user_encoder()
        newest = slice(-self.settings.history, None)
        item_table = torch.from_numpy(np.ascontiguousarray(items, dtype=np.float32))
        out = np.zeros((len(histories), self.dim), np.float32)
        for start in range(0, len(histories), batch_size):
            users = slice(start, start + batch_size)
            rows = torch.from_numpy(np.ascontiguousarray(histories.items[users, newest]))
            times = torch.from_numpy(np.ascontiguousarray(histories.times[users, newest]))
            kinds = torch.from_numpy(histories.event_types[users, newest].astype(np.int64))
            real = rows >= 0
            with torch.inference_mode():
                vectors = user_encoder(
                    item_table[rows.clamp(min=0)] * real[..., None],
                    times=times,
                    kinds=kinds,
                    real=real,
                    until=torch.full_like(times, now),
                )[:, -1]
                out[users] = (vectors * real[:, -1:]).numpy()
        return out

    def _require_user_encoder(self) -> UserEncoder:
        if self.user_encoder is None:
            raise UsageError("the model has no user encoder; train it with events first")
        return self.user_encoder


def _named_tensors(**modules: nn.Module | None) -> dict[str, Tensor]:
    """Weights of the modules by `<module>.<weight>`, sorted by name."""
    tensors = [
        (f"{module_name}.{name}", value.detach().cpu().contiguous())
        for module_name, module in modules.items()
        if module is not None
        for name, value in module.state_dict().items()
    ]
    return dict(sorted(tensors))
