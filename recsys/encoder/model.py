"""A trained model: products and users to vectors, for everybody to the right of this room.

In: catalogue rows, texts, pictures, histories. Out: float32 numpy arrays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save as to_bytes
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
    """The product encoder, and the user encoder once it is trained.

    Attributes:
        product: the product encoder.
        user: the user encoder or None.
        settings: sizes and inputs.
        metrics: smoothed losses at the end of the training.
        folder: where it was loaded from.
    """

    def __init__(
        self,
        *,
        product: ProductEncoder,
        user: UserEncoder | None,
        settings: EncoderSettings,
        metrics: dict[str, float] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.product = product.eval()
        self.user = user.eval() if user is not None else None
        self.settings = settings
        self.metrics = dict(metrics or {})
        self.folder = folder

    @property
    def dim(self) -> int:
        """d, the length of all vectors."""
        return self.settings.dim

    @property
    def columns(self) -> list[str]:
        """Columns of the catalogue that determine a product's vector, for content hashes."""
        return self.product.columns

    def weights(self) -> bytes:
        """All weights as the bytes of a safetensors file."""
        return to_bytes(_tensors(product=self.product, user=self.user))

    @cached_property
    def version(self) -> str:
        """First 12 hexadecimal digits of the sha256 of the weights' file."""
        return hashlib.sha256(self.weights()).hexdigest()[:12]

    @cached_property
    def content_version(self) -> str:
        """The same for what product vectors come from: it stays when only the user encoder is trained anew."""
        return hashlib.sha256(to_bytes(_tensors(product=self.product))).hexdigest()[:12]

    def encode(
        self,
        catalogue: Catalogue,
        rows: npt.NDArray[np.integer],
        *,
        modalities: Sequence[str] | None = None,
        hide: Sequence[str] = (),
        batch: int = 512,
    ) -> FloatArray:
        """Vectors of products.

        Args:
            catalogue: the products, of this or another shop.
            rows: (m,) rows to encode.
            modalities: some of text, image, attributes; None = all. What a product lacks is left out.
            hide: columns that the vectors must not know; what a product has there changes nothing.
            batch: products at a time.

        Returns:
            (m, d) float32 of unit length.

        Raises:
            UsageError: a modality or a column to hide is unknown, or no modality is left.
        """
        chosen = tuple(modalities) if modalities is not None else MODALITIES
        for name in chosen:
            if name not in MODALITIES:
                raise UsageError(
                    f"unknown modality '{name}'; there are {', '.join(MODALITIES)}{suggestion(name, MODALITIES)}"
                )
        if not chosen:
            raise UsageError(f"no modality is left to encode by; there are {', '.join(MODALITIES)}")
        for name in hide:
            if name not in catalogue.frame.columns:
                raise UsageError(f"the catalogue has no column '{name}' to hide")
        out = np.zeros((len(rows), self.dim), np.float32)
        for at in range(0, len(rows), batch):
            some = np.asarray(rows[at : at + batch], np.int64)
            x = self.product.read(catalogue, some, pictures="image" in chosen, hide=hide)
            with torch.inference_mode():
                out[at : at + batch] = self.product(x, chosen, hide=hide).vector.numpy()
        return out

    def encode_text(self, texts: Sequence[str], *, batch: int = 512) -> FloatArray:
        """Vectors of texts as a customer types them: (q, d) float32 of unit length."""
        out = np.zeros((len(texts), self.dim), np.float32)
        for at in range(0, len(texts), batch):
            some = list(texts[at : at + batch])
            words = [self.product.words.token_ids(tokenize(text)) for text in some]
            x: Inputs = {**self.product.text.padded(self.product.text.ids(some)), **self.product.words.padded(words)}
            with torch.inference_mode():
                view = self.product.fuse({"text": self.product.text(x)}, self.product.written(x))
                out[at : at + batch] = view.vector.numpy()
        return out

    def encode_images(self, pixels: npt.NDArray[np.uint8], *, batch: int = 512) -> FloatArray:
        """Vectors of pictures (q, 3, S, S) uint8: (q, d) float32 of unit length."""
        out = np.zeros((len(pixels), self.dim), np.float32)
        for at in range(0, len(pixels), batch):
            some = torch.from_numpy(np.ascontiguousarray(pixels[at : at + batch]))
            with torch.inference_mode():
                x: Inputs = {"pixels": some, "has": torch.ones(len(some), dtype=torch.bool)}
                view = self.product.fuse({"image": self.product.image(x)}, self.product.predict_words(x))
                out[at : at + batch] = view.vector.numpy()
        return out

    def item_vectors(self, content: FloatArray, ids: IdMap, *, batch: int = 8192) -> FloatArray:
        """Ranking vectors of products, for inner products with `user_vectors`.

        Args:
            content: (n, d) product vectors by this model.
            ids: their n product ids; a product bought in training has a residual of its own, a cold one has none.
            batch: products at a time.

        Returns:
            (n, d) float32, not of unit length.
        """
        user = self._user()
        numbers, held = user.numbers(ids), torch.from_numpy(np.array(content, dtype=np.float32))
        with torch.inference_mode():
            parts = [user.ranking(held[at : at + batch], numbers[at : at + batch]) for at in range(0, len(held), batch)]
        return torch.cat(parts).numpy() if parts else np.zeros((0, self.dim), np.float32)

    def user_vectors(self, histories: Histories, items: FloatArray, *, now: int, batch: int = 1024) -> FloatArray:
        """Vectors of users; the inner product with a row of `items` is how likely that is the next purchase.

        Args:
            histories: (b, t) events; of more than `settings.history` the newest count.
            items: (n, d) ranking vectors of all products.
            now: UTC seconds of the moment the list is for; before a user's last event = right after it.
            batch: users at a time.

        Returns:
            (b, d) float32; zeros for a user without events.
        """
        user = self._user()
        last = slice(-self.settings.history, None)
        table = torch.from_numpy(np.ascontiguousarray(items, dtype=np.float32))
        out = np.zeros((len(histories), self.dim), np.float32)
        for at in range(0, len(histories), batch):
            some = slice(at, at + batch)
            rows = torch.from_numpy(np.ascontiguousarray(histories.items[some, last]))
            times = torch.from_numpy(np.ascontiguousarray(histories.times[some, last]))
            kinds = torch.from_numpy(histories.event_types[some, last].astype(np.int64))
            real = rows >= 0
            with torch.inference_mode():
                vectors = user(
                    table[rows.clamp(min=0)] * real[..., None],
                    times=times,
                    kinds=kinds,
                    real=real,
                    until=torch.full_like(times, now),
                )[:, -1]
                out[some] = (vectors * real[:, -1:]).numpy()
        return out

    def _user(self) -> UserEncoder:
        if self.user is None:
            raise UsageError("the model has no user encoder; train it with events first")
        return self.user


def _tensors(**parts: nn.Module | None) -> dict[str, Tensor]:
    """Weights of some parts by name, in the order of their names."""
    named = [
        (f"{part}.{name}", value.detach().cpu().contiguous())
        for part, module in parts.items()
        if module is not None
        for name, value in module.state_dict().items()
    ]
    return dict(sorted(named))
