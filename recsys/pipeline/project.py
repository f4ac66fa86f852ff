"""An open project: store, images, dataset and models, each loaded lazily on first use.

In: settings and a stage timer. Out: the parts, or an error that names the command which creates the missing one.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Self

from recsys.config import FILE_NAME, Settings
from recsys.errors import ModelFolderError, NotFoundError
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

_LIST_SECTIONS = ("data", "encoder", "embeddings", "ranker", "recommend", "rules", "privacy")
_MODEL_SECTIONS = ("data", "images", "encoder", "objectives", "training", "ranker")
_EXCLUDED_SETTINGS = {
    "training": {"device", "checkpoint_minutes", "label_epochs", "label_learning_rate"},
    "objectives": {"labels", "teacher"},
    "data": {"max_bad_fraction", "decimal"},
    "recommend": {"engine", "workers", "incremental", "full_days"},
}
"""Settings that do not enter a hash: they change where or how carefully work is done, not its result, or belong to
training recipes that a default training does not read."""
_DATA_PARTS = ("dataset", "_catalogue_only", "product_titles", "images")
_MODEL_PARTS = ("model", "ranker", "embeddings")


class Project:
    """One open project. Close it, or use it in a `with` block, to release the store's lease.

    Args:
        settings: all sections; each package gets its own.
        progress: receives stages and progress; silent by default.
        writes: whether this command writes to the store (and so takes its lease).
        is_part: whether this process writes one part of a run with other processes (and so shares the lease with them).
        creates_database: whether a missing SQLite file is created; otherwise it is an error.
    """

    def __init__(
        self,
        settings: Settings,
        progress: StageTimer | None = None,
        *,
        writes: bool = True,
        is_part: bool = False,
        creates_database: bool = False,
    ) -> None:
        self.settings = settings
        self._creates_database = creates_database
        self.progress = progress or StageTimer()
        self.embeddings_are_current = False  # the embeddings match the loaded catalogue and model
        self.writes, self.is_part = writes, is_part
        self.search_engines: dict[tuple[Hashable, ...], SearchEngine] = {}  # reused by later queries
        self.query_count = 0  # single queries answered so far

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store and release its lease."""
        if self.is_loaded("store"):
            store = self.store
            self._unload("store")
            store.close()

    def is_loaded(self, part: str) -> bool:
        """Return whether a part, such as "dataset" or "model", is loaded; asking does not load it.

        Args:
            part: name of a lazily loaded attribute; "catalogue" counts as loaded with or without the events.
        """
        names = ("dataset", "_catalogue_only") if part == "catalogue" else (part,)
        return any(name in vars(self) for name in names)

    def _unload(self, *parts: str) -> None:
        for part in parts:
            vars(self).pop(part, None)

    def reload(self) -> None:
        """Drop the parts read from the store or from model folders, because these have changed."""
        self._unload(*_DATA_PARTS)
        self.reload_models()

    def reload_models(self) -> None:
        """Drop models, embeddings and search engines."""
        self.embeddings_are_current = False
        self.search_engines.clear()
        self._unload(*_MODEL_PARTS)

    @contextmanager
    def writable(self) -> Iterator[Project]:
        """Open the same project for one command that writes, then drop the parts it may have changed."""
        try:
            with Project(self.settings, self.progress) as project:
                yield project
        finally:
            self.reload()

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
        """Folder of the clusters and the map, for consumers that display them."""
        return self.settings.artifacts / "clusters"

    @cached_property
    def store(self) -> Store:
        """The SQL store."""
        from recsys.store.store import Store

        if not self._creates_database:
            require_database(self.settings)
        return Store.open(self.settings.database_url, lease=self.writes, shared=self.is_part)

    @cached_property
    def images(self) -> ImageStore:
        """The cache of decoded images."""
        from recsys.data.image_store import ImageStore

        return ImageStore(self.settings.artifacts / "pictures", self.settings.images)

    @cached_property
    def dataset(self) -> Dataset:
        """Catalogue and interactions of the store."""
        from recsys.data.dataset import load

        with self.progress.stage("load data"):
            dataset = load(self.store.engine, self.settings.data, image_store=self.images)
        if self.is_loaded("_catalogue_only"):
            self._unload("_catalogue_only")
            self.embeddings_are_current = False  # they match products read earlier, which may have changed since
        return dataset

    @property
    def catalogue(self) -> Catalogue:
        """The products of the store; the events are not read for them."""
        return self.dataset.catalogue if self.is_loaded("dataset") else self._catalogue_only

    @cached_property
    def _catalogue_only(self) -> Catalogue:
        from recsys.data.dataset import load_catalogue

        with self.progress.stage("load data"):
            return load_catalogue(self.store.engine, self.settings.data, image_store=self.images)

    @cached_property
    def product_titles(self) -> Catalogue:
        """The products with title and variant group only, which is all that a search by product needs."""
        from recsys.data import schema
        from recsys.data.dataset import load_catalogue

        columns = (schema.TITLE, schema.GROUP_ID)
        with self.progress.stage("load data"):
            return load_catalogue(self.store.engine, self.settings.data, image_store=self.images, columns=columns)

    @cached_property
    def model(self) -> Model:
        """The latest encoder.

        Raises:
            ModelFolderError: no encoder is trained, or its folder is damaged.
        """
        from recsys.artifacts.model_folder import current_version
        from recsys.encoder.serialization import load

        return load(current_version(self.models_folder, "encoder"))

    @property
    def lazy_product_encoder(self) -> ProductEncoderProtocol:
        """The latest encoder for `embed`: identified by its folder, loaded only when a product must be encoded.

        Raises:
            ModelFolderError: no encoder is trained, or its folder is damaged.
        """
        from recsys.artifacts.model_folder import current_version
        from recsys.encoder.lazy_model import open_lazy

        if self.is_loaded("model"):
            return self.model
        return open_lazy(current_version(self.models_folder, "encoder"), lambda: self.model) or self.model

    @cached_property
    def ranker(self) -> LinearRanker | BoostedTreesRanker:
        """The latest ranker."""
        from recsys.artifacts.model_folder import current_version
        from recsys.recommend.ranking.checkpoint import load_ranker

        return load_ranker(current_version(self.models_folder, "ranker"))

    @cached_property
    def embeddings(self) -> EmbeddingTable:
        """The embedding table written by the last `embed`."""
        from recsys.vectors.embeddings.table import EmbeddingTable

        return EmbeddingTable.load(self.embeddings_folder)

    def current_embeddings(self) -> EmbeddingTable:
        """Return the embeddings after checking that they match the current catalogue and model.

        Raises:
            ModelFolderError: the catalogue, the model or [embeddings] storage changed since `embed` ran.
        """
        if self.embeddings_are_current:
            return self.embeddings
        stale = len(self.embeddings.stale_rows(self.dataset.catalogue, self.model))
        if stale or self.embeddings.ids.texts != self.dataset.catalogue.ids.texts:
            raise ModelFolderError(f"the embeddings are not up to date ({stale} products changed); run 'recsys embed'")
        storage = self.settings.embeddings.storage
        if self.embeddings.storage != storage:
            raise ModelFolderError(
                f"the embeddings are stored as {self.embeddings.storage}, [embeddings] storage = {storage}; "
                "run 'recsys embed'"
            )
        self.embeddings_are_current = True
        return self.embeddings

    @property
    def model_version(self) -> str:
        """Versions of the encoder and the ranker in use, for the run ledger."""
        from recsys.artifacts.model_folder import current_version

        encoder, ranker = (current_version(self.models_folder, kind) for kind in ("encoder", "ranker"))
        return f"{encoder.name}+{ranker.name}"

    def stage_table(self) -> Table:
        """Return seconds and peak memory of each finished stage."""
        rows = [(name, seconds, self.progress.peak_mb[name]) for name, seconds in self.progress.seconds.items()]
        return Table("stages", ("stage", "seconds", "peak_mb"), rows)

    def recommendation_settings_hash(self) -> str:
        """Return a hash of the settings that determine the recommendations."""
        return _hash_settings(self.settings, _LIST_SECTIONS)

    def model_settings_hash(self) -> str:
        """Return a hash of the settings that determine a trained model."""
        return _hash_settings(self.settings, _MODEL_SECTIONS)


def require_project(folder: Path, *, database_is_named: bool) -> None:
    """Check that a folder is a project, before anything is read or created.

    Args:
        folder: the project folder.
        database_is_named: whether a flag or the environment names a database; then the folder needs no settings file.

    Raises:
        NotFoundError: there is no such folder, or no settings file in it and no database is named.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise NotFoundError(f"project folder {folder.absolute()} {what}; create a project with 'recsys init DIR'")
    if not (folder / FILE_NAME).exists() and not database_is_named:
        raise NotFoundError(
            f"no {FILE_NAME} in {folder.absolute()}; create a project with 'recsys init DIR', "
            "or name its folder with -C, or a database with --database"
        )


def require_database(settings: Settings) -> None:
    """Check that the file of a SQLite store exists; opening it would create it.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: the URL cannot be read.
    """
    from recsys.db.engine import parse_url, sqlite_file

    file = sqlite_file(parse_url(settings.database_url))
    if file is not None and not file.is_file():
        raise NotFoundError(f"database {file} does not exist; check the path, or create it with 'recsys init'")


def _hash_settings(settings: Settings, sections: tuple[str, ...]) -> str:
    values = {
        name: getattr(settings, name).model_dump(mode="json", exclude=_EXCLUDED_SETTINGS.get(name)) for name in sections
    }
    return blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=6).hexdigest()
