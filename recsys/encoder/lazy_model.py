"""A model that is loaded only when there is something to encode; known by its manifest until then. No torch here.

In: a model folder and a function that loads the model. Out: the model, or None where the
manifest does not tell enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.artifacts.model_folder import read_manifest, read_verified
from recsys.errors import ModelFolderError
from recsys.types import FloatArray, IntArray

if TYPE_CHECKING:
    from recsys.data.catalogue import Catalogue
    from recsys.encoder.model import Model


class LazyModel:
    """A model known by its manifest: enough to tell which products are stale.

    Attributes:
        content_version: names the weights that product vectors come from.
        columns: of the catalogue, that determine a product's vector.
    """

    def __init__(self, content_version: str, columns: Sequence[str], load: Callable[[], Model]) -> None:
        self.content_version, self.columns = content_version, tuple(columns)
        self._load = load

    def encode(self, catalogue: Catalogue, rows: IntArray) -> FloatArray:
        """Load the model and encode products: (m, d) float32 of unit length.

        Raises:
            ModelFolderError: the weights are not those the manifest names.
        """
        model = self._load()
        if (model.content_version, tuple(model.columns)) != (self.content_version, self.columns):
            raise ModelFolderError(
                f"{model.folder}: the manifest speaks of version {self.content_version}, the weights are "
                f"{model.content_version} or look at other columns; run `recsys train`"
            )
        return model.encode(catalogue, rows)


def open_lazy(folder: Path, load: Callable[[], Model]) -> LazyModel | None:
    """The model of a version's folder, by its manifest, after every file is checked; `load` gives the model itself.

    Returns:
        None where the manifest does not tell the columns (as none did at first).

    Raises:
        ModelFolderError: a file is missing or altered.
    """
    read_verified(folder)
    manifest = read_manifest(folder)
    version, columns = manifest.get("content_version"), manifest.get("columns")
    if not isinstance(version, str) or not isinstance(columns, list) or not all(isinstance(c, str) for c in columns):
        return None
    return LazyModel(version, columns, load)
