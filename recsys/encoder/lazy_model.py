"""A model known by its manifest and loaded only when products must be encoded. Does not import torch.

In: a model folder and a function that loads the model. Out: the lazy model, or None if the manifest lacks the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.artifacts.model_folder import read_manifest, read_verified_files
from recsys.errors import ModelFolderError
from recsys.types import FloatArray, IntArray

if TYPE_CHECKING:
    from recsys.data.catalogue import Catalogue
    from recsys.encoder.model import Model


class LazyModel:
    """A model known by its manifest, which suffices to determine the stale products.

    Attributes:
        content_version: version of the weights that product vectors are computed with.
        columns: catalogue columns that determine a product's vector.
    """

    def __init__(self, content_version: str, columns: Sequence[str], load: Callable[[], Model]) -> None:
        self.content_version, self.columns = content_version, tuple(columns)
        self._load = load

    def encode(self, catalogue: Catalogue, rows: IntArray) -> FloatArray:
        """Load the model and encode products: (m, d) float32 of unit length.

        Raises:
            ModelFolderError: the weights do not match the manifest.
        """
        model = self._load()
        if (model.content_version, tuple(model.columns)) != (self.content_version, self.columns):
            raise ModelFolderError(
                f"{model.folder}: the manifest names version {self.content_version}, but the weights are version "
                f"{model.content_version} or read other columns; run `recsys train`"
            )
        return model.encode(catalogue, rows)


def open_lazy(folder: Path, load: Callable[[], Model]) -> LazyModel | None:
    """Open the model of a version's folder by its manifest, after verifying every file.

    Args:
        folder: of one version.
        load: loads the model itself when it is needed.

    Returns:
        None if the manifest does not list the columns (the first versions did not write them).

    Raises:
        ModelFolderError: a file is missing or altered.
    """
    read_verified_files(folder)
    manifest = read_manifest(folder)
    version, columns = manifest.get("content_version"), manifest.get("columns")
    if not isinstance(version, str) or not isinstance(columns, list) or not all(isinstance(c, str) for c in columns):
        return None
    return LazyModel(version, columns, load)
