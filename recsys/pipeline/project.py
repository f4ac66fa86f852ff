"""What the verbs share: the store, the pictures, the data, the models; each opened once, when first asked for.

In: Settings and a Watch. Out: the parts, or one line that says which command makes the missing one.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Self

from recsys.config import Settings
from recsys.errors import ModelFolderError
from recsys.execution.progress import StageTimer
from recsys.pipeline.result import Table

if TYPE_CHECKING:
    from recsys.data.catalogue import Catalogue
    from recsys.data.dataset import Dataset
    from recsys.data.image_store import ImageStore
    from recsys.encoder.model import Model
    from recsys.recommend.ranking.boosted_trees import BoostedTreesRanker
    from recsys.recommend.ranking.linear import LinearRanker
    from recsys.store.store import Store
    from recsys.vectors.embeddings.table import EmbeddingTable, ProductEncoderProtocol
    from recsys.vectors.search.engine import SearchEngine

_LIST_SECTIONS = ("data", "encoder", "embeddings", "ranker", "recommend", "rules")
_MODEL_SECTIONS = ("data", "images", "encoder", "objectives", "training", "ranker")
_WHERE_ONLY = {
    "training": {"device", "checkpoint_minutes", "label_epochs", "label_learning_rate"},
    "objectives": {"labels", "teacher"},
    "data": {"max_bad_fraction", "decimal"},
    "recommend": {"engine", "workers", "incremental", "full_days"},
}
"""Settings that change where or how carefully work is done, not what comes out of it; and those of the further ways of
training, which an ordinary one does not read."""


class Project:
    """One project at work. Close it, or use it in a `with` block, to give the store's lease back.

    Args:
        settings: all sections; every room gets its own.
        watch: where stages and progress are told; silent when not given.
        writes: whether this command writes to the store (and so takes its lease).
        part: whether it writes its part of a run with other processes (and so shares the lease with them).
    """

    def __init__(
        self, settings: Settings, watch: StageTimer | None = None, *, writes: bool = True, part: bool = False
    ) -> None:
        self.settings = settings
        self.progress = watch or StageTimer()
        self.embeddings_are_current = False  # the embeddings have been brought up to date with what is loaded
        self.writes, self.is_part = writes, part
        self.search_engines: dict[
            tuple[Hashable, ...], SearchEngine
        ] = {}  # what has answered queries and may answer more
        self.query_count = 0  # answered one by one

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the store back."""
        store = self.__dict__.pop("store", None)
        if store is not None:
            store.close()

    def reload(self) -> None:
        """Forget what was loaded from the store or from model folders, because it has changed."""
        for name in ("dataset", "_products_alone", "named_products", "pictures"):
            self.__dict__.pop(name, None)
        self.reload_models()

    def reload_models(self) -> None:
        """Forget models and vectors."""
        self.embeddings_are_current = False
        self.search_engines.clear()
        for name in ("model", "blend", "table"):
            self.__dict__.pop(name, None)

    @property
    def models_folder(self) -> Path:
        """Folder of the model folders."""
        return self.settings.artifacts / "models"

    @property
    def embeddings_folder(self) -> Path:
        """Folder of the embedding table."""
        return self.settings.artifacts / "embeddings"

    @property
    def index_folder(self) -> Path:
        """Folder of the vector index."""
        return self.settings.artifacts / "index"

    @property
    def clusters_folder(self) -> Path:
        """Folder of the map and the groups for whoever shows them."""
        return self.settings.artifacts / "clusters"

    @cached_property
    def store(self) -> Store:
        """The SQL store."""
        from recsys.store.store import Store

        return Store.open(self.settings.database_url, lease=self.writes, shared=self.is_part)

    @cached_property
    def images(self) -> ImageStore:
        """The cache of decoded pictures."""
        from recsys.data.image_store import ImageStore

        return ImageStore(self.settings.artifacts / "pictures", self.settings.images)

    @cached_property
    def dataset(self) -> Dataset:
        """Catalogue and interactions as they stand in the store."""
        from recsys.data.dataset import load

        with self.progress.stage("load data"):
            loaded = load(self.store.engine, self.settings.data, pictures=self.images)
        if self.__dict__.pop("_products_alone", None) is not None:
            self.embeddings_are_current = (
                False  # with products that were read a moment earlier, which may have changed since
            )
        return loaded

    @property
    def catalogue(self) -> Catalogue:
        """The products as they stand in the store; what else is in it is not read for them."""
        return self.dataset.catalogue if "dataset" in self.__dict__ else self._products_alone

    @cached_property
    def _products_alone(self) -> Catalogue:
        from recsys.data.dataset import load_catalogue

        with self.progress.stage("load data"):
            return load_catalogue(self.store.engine, self.settings.data, pictures=self.images)

    @cached_property
    def product_titles(self) -> Catalogue:
        """The products with their names and variants and nothing else: all that neighbours of a product need."""
        from recsys.data import schema
        from recsys.data.dataset import load_catalogue

        columns = (schema.TITLE, schema.GROUP_ID)
        with self.progress.stage("load data"):
            return load_catalogue(self.store.engine, self.settings.data, pictures=self.images, columns=columns)

    @cached_property
    def model(self) -> Model:
        """The newest encoder.

        Raises:
            ModelFolderError: none was trained, or its folder is damaged.
        """
        from recsys.artifacts.model_folder import current_version
        from recsys.encoder.serialization import load

        return load(current_version(self.models_folder, "encoder"))

    @property
    def lazy_product_encoder(self) -> ProductEncoderProtocol:
        """The newest encoder as far as `embed` needs it: known by its folder, loaded when there is work for it.

        Raises:
            ModelFolderError: none was trained, or its folder is damaged.
        """
        from recsys.artifacts.model_folder import current_version
        from recsys.encoder.lazy_model import open_lazy

        if "model" in self.__dict__:
            return self.model
        return open_lazy(current_version(self.models_folder, "encoder"), lambda: self.model) or self.model

    @cached_property
    def ranker(self) -> LinearRanker | BoostedTreesRanker:
        """The newest ranker."""
        from recsys.artifacts.model_folder import current_version
        from recsys.recommend.ranking import checkpoint as rankers

        return rankers.load_ranker(current_version(self.models_folder, "ranker"))

    @cached_property
    def embeddings(self) -> EmbeddingTable:
        """The embeddings as `embed` left them."""
        from recsys.vectors.embeddings.table import EmbeddingTable

        return EmbeddingTable.load(self.embeddings_folder)

    def current_embeddings(self) -> EmbeddingTable:
        """The embeddings, when they are those of today's catalogue and the newest model.

        Raises:
            ModelFolderError: `embed` has not run since the catalogue or the model changed.
        """
        if self.embeddings_are_current:
            return self.embeddings
        stale = len(self.embeddings.stale_rows(self.dataset.catalogue, self.model))
        if stale or self.embeddings.ids.texts != self.dataset.catalogue.ids.texts:
            raise ModelFolderError(f"the embeddings are not up to date ({stale} products changed); run 'recsys embed'")
        asked = self.settings.embeddings.storage
        if self.embeddings.storage != asked:
            raise ModelFolderError(
                f"the embeddings are stored as {self.embeddings.storage}, [embeddings] storage = {asked}; run 'recsys embed'"
            )
        self.embeddings_are_current = True
        return self.embeddings

    @property
    def model_version(self) -> str:
        """Encoder and ranker in use, for the run ledger."""
        from recsys.artifacts.model_folder import current_version

        return f"{current_version(self.models_folder, 'encoder').name}+{current_version(self.models_folder, 'ranker').name}"

    def stage_table(self) -> Table:
        """Seconds and memory of each stage so far."""
        rows = [(name, seconds, self.progress.peak_mb[name]) for name, seconds in self.progress.seconds.items()]
        return Table("stages", ("stage", "seconds", "peak_mb"), rows)

    def recommendation_settings_hash(self) -> str:
        """Names the settings that decide what is in a list."""
        return _digest(self.settings, _LIST_SECTIONS)

    def model_settings_hash(self) -> str:
        """Names the settings that decide what a model learns."""
        return _digest(self.settings, _MODEL_SECTIONS)


def _digest(settings: Settings, sections: tuple[str, ...]) -> str:
    chosen = {name: getattr(settings, name).model_dump(mode="json", exclude=_WHERE_ONLY.get(name)) for name in sections}
    return blake2b(json.dumps(chosen, sort_keys=True).encode(), digest_size=6).hexdigest()


class ProjectWriter:
    """A Bench that holds the store's lease for one verb."""

    def __init__(self, outer: Project) -> None:
        self._outer = outer
        self._bench = Project(outer.settings, outer.progress)

    def __enter__(self) -> Project:
        return self._bench

    def __exit__(self, *_: object) -> None:
        self._bench.close()
        self._outer.reload()
