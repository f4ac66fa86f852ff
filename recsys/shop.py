"""The Python API: one typed method per command, returning polars frames.

In: a project folder or a database URL. Out: frames, vectors, results; the same error messages as the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from recsys.arguments import (
    AnyPath,
    Paths,
    Texts,
    optional_count,
    path_list,
    positive_count,
    require_frame,
    require_mapping,
    single_path,
    single_text,
    text_list,
)
from recsys.config import read
from recsys.errors import UsageError
from recsys.pipeline.project import Project, require_database, require_project
from recsys.pipeline.result import CommandResult
from recsys.types import FloatArray

if TYPE_CHECKING:
    import polars as pl

    from recsys.vectors.search.query import OneOrMany, Weight


def open_shop(where: str | Path = ".", *, settings: Mapping[str, Any] | None = None) -> Shop:
    """Open a shop; `recsys.open` is this. Nothing is created: `recsys.init` or the command `init` makes a project.

    Args:
        where: a project folder, or a database URL (its artifacts are then in the current folder).
        settings: overrides by dotted name, such as `{"recommend.k": 20}`; they precede file and environment.

    Raises:
        NotFoundError: there is no such folder, it is no project, or the SQLite file does not exist.
        ConfigError: a setting is unknown or invalid.
    """
    require_mapping(settings, "settings", example='{"recommend.k": 20}')
    flags = dict(settings or {})
    if isinstance(where, str) and "://" in where:
        folder, flags = Path(), {"database.url": where, **flags}
    else:
        folder = single_path(where, "open") or Path()
    layered = read(folder, flags=flags)
    require_project(folder, database_is_named=layered.origins["database.url"] in {"flag", "environment"})
    require_database(layered.settings)
    return Shop(Project(layered.settings, writes=False))


def init_shop(folder: str | Path, *, database: str | None = None) -> CommandResult:
    """Create a project folder with its settings file and tables; `recsys.init` is this.

    Args:
        folder: the project folder; an existing project is upgraded, never overwritten.
        database: URL of the store; SQLite in the folder by default.
    """
    from recsys.pipeline.init import init_project

    return init_project(single_path(folder, "folder") or Path(), database=database)


class Shop:
    """An open shop. Data and models are loaded on first use and cached; `refresh` drops them."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._project.close()

    def refresh(self) -> None:
        """Drop data and models, so that the next call loads what another process has changed."""
        self._project.reload()

    def init(self) -> CommandResult:
        """Create or upgrade the project's settings file and tables; `recsys.init` makes a new project."""
        from recsys.pipeline.init import init_project

        return init_project(self._project.settings.project, database=self._project.settings.database_url)

    def ingest(
        self,
        paths: Paths = (),
        *,
        products: Any = None,
        events: Any = None,
        users: Any = None,
        images: Paths = (),
        preset: str | None = None,
        replace: Texts = (),
    ) -> CommandResult:
        """Read frames (polars, pandas, pyarrow) or files into the store.

        Args:
            paths: a file or folder, or several.
            products: a frame with the canonical product columns.
            events: a frame with the canonical event columns.
            users: a frame with the canonical user columns.
            images: a folder or zip of images, or several.
            preset: format of the files.
            replace: tables that the inputs replace, such as "events"; of the others, stored rows and columns are kept.

        Raises:
            DataContractError: too many rows are rejected.
            UsageError: a frame is given as a path, or a path as a frame.
        """
        from recsys.pipeline.ingest import IngestRequest, ingest

        frames = {"products": products, "events": events, "users": users}
        for name, frame in frames.items():
            require_frame(frame, name, remedy="give files as paths: shop.ingest('products.csv')")
        files = path_list(paths, "paths", if_frame="give frames as products=, events=, users=")
        if files and any(frame is not None for frame in frames.values()):
            raise UsageError("paths: give files or frames in one call, not both")
        request = IngestRequest.from_options(
            files,
            preset=preset,
            images=path_list(images, "images", if_frame="give folders or zips of images"),
            frames={name: frame for name, frame in frames.items() if frame is not None},
            replace=text_list(replace, "replace"),
        )
        with self._project.writable() as project:
            return ingest(project, request)

    def check(self) -> CommandResult:
        """Check the stored data: counts, missing values, and the input of each part of the model."""
        from recsys.pipeline.check import check_data

        return check_data(self._project)

    def train(
        self,
        part: str | None = None,
        *,
        resume: bool = False,
        start: AnyPath | None = None,
        labels: AnyPath | None = None,
        distill: AnyPath | None = None,
    ) -> CommandResult:
        """Train the encoder, the ranker, or both.

        Args:
            part: "encoder" or "ranker"; both when it is not given.
            resume: resume from the last checkpoint.
            start: a model folder to start from, or "current"; the option `--from`.
            labels: a file of labels of some products to learn from.
            distill: folder of a teacher model, or "current".
        """
        from recsys.pipeline.train import PARTS, train
        from recsys.pipeline.train_recipe import TrainingRecipe

        with self._project.writable() as project:
            recipe = TrainingRecipe(
                project,
                labels=single_path(labels, "labels"),
                initial_model=_model_name(start, "start"),
                distill=_model_name(distill, "distill"),
            )
            parts = PARTS if part is None else (single_text(part, "part", what="part"),)
            return train(project, parts=parts, resume=resume, recipe=recipe)

    def run(self) -> CommandResult:
        """Run all steps of the nightly run; see the command `run`."""
        from recsys.pipeline.run import run_nightly

        with self._project.writable() as project:
            return run_nightly(project)

    def publish(self, run_id: str | None = None, *, force: bool = False) -> CommandResult:
        """Publish a finished run, so that consumers read it."""
        from recsys.pipeline import runs

        with self._project.writable() as project:
            return runs.publish(project, run_id, force=force)

    def rollback(self) -> CommandResult:
        """Publish the previous run again."""
        from recsys.pipeline import runs

        with self._project.writable() as project:
            return runs.rollback(project)

    def similar(
        self,
        *,
        product: Texts | None = None,
        text: Texts | None = None,
        image: Paths | None = None,
        minus: Mapping[str, OneOrMany] | None = None,
        weights: Mapping[str, Weight] | None = None,
        k: int = 10,
        where: str | None = None,
        search: str | None = None,
        variants: bool | None = None,
        queries: Any = None,
    ) -> pl.DataFrame:
        """Find products like a product, a text, an image, or a mix of them.

        Args:
            product: a product id, or several.
            text: any text, or several.
            image: path of an image, or several.
            minus: what the products must not be like, such as `{"text": "red"}`.
            weights: weight of each kind in a mix, such as `{"text": 2, "not_text": 0.5}`; 1 by default.
            k: number of products.
            where: condition, such as `price < 80 and brand in ('Aro', 'Bex')`.
            search: "vector", "lexical" or "hybrid"; None = [search] mode.
            variants: return every variant of a product instead of the best; None = [search] variants.
            queries: several queries: a file, or a frame with query_id, product, text, image, where, not_text ...

        Returns:
            product_id, score, title; best first. With `queries` also query_id and rank.

        Raises:
            NotFoundError: a product is unknown; the message names the nearest ids.
            UsageError: the query is empty, or `where` cannot be parsed.
        """
        from recsys.pipeline.similar import override_search_settings, search_one
        from recsys.vectors.search.query import Query

        k = positive_count(k)
        condition = None if where is None else single_text(where, "where", what="condition")
        if search is not None:
            single_text(search, "search", what="mode")
        settings = override_search_settings(self._project, mode=search, variants=variants)
        if queries is not None:
            from recsys.pipeline.similar_batch import search_frame

            return search_frame(self._project, queries, k=k, search=settings)
        query = Query(
            product=product,
            text=text,
            image=image,
            minus={} if minus is None else minus,
            weights={} if weights is None else weights,
        )
        return search_one(self._project, query, k=k, where=condition, search=settings)

    def audience(self, *, product: str, k: int = 100) -> pl.DataFrame:
        """Compute the users most likely to want a product.

        Args:
            product: a product id.
            k: number of users.

        Returns:
            user_id, rank, score, reason; the score is the product's share of the user's candidates, and below 0
            for users to whom no candidate source offers it.

        Raises:
            NotFoundError: the product is unknown; the message names the nearest ids.
        """
        from recsys.pipeline import audience as audiences

        product = single_text(product, "product")
        return audiences.find_audience(self._project, product, k=positive_count(k))

    def recommend(self, users: Texts | None = None, *, k: int | None = None) -> pl.DataFrame:
        """Compute recommendations from the current data; users without history get the default list.

        Args:
            users: a user id, or several (a list, or a column of polars, pandas, numpy or pyarrow); None = all users.
            k: length of each list; None = [recommend] k.

        Returns:
            user_id, rank, product_id, score, reason, reason_product_id.
        """
        from recsys.pipeline.recommend import compute_recommendations

        ids = None if users is None else text_list(users, "users")
        return compute_recommendations(self._project, ids, k=optional_count(k))

    def recommendations(self, users: Texts | None = None, *, k: int | None = None) -> pl.DataFrame:
        """Read the published recommendations from the store.

        Args:
            users: a user id, or several (a list, or a column of polars, pandas, numpy or pyarrow); None = all users.
            k: maximum length of each list; None = as published.

        Returns:
            user_id, rank, product_id, score, reason.
        """
        placement = self._project.settings.recommend.placement
        ids = None if users is None else text_list(users, "users")
        return self._project.store.recommendations(ids, placement=placement, k=optional_count(k))

    def embed(self, frame: Any = None) -> FloatArray:
        """Encode products, stored or not: (n, d) float32 of unit length.

        Args:
            frame: product columns and attributes that the encoder knows (polars, pandas, pyarrow); None = all products
                of the store.

        Raises:
            UsageError: the encoder does not know a column; the message names the nearest ones.
        """
        from recsys.pipeline.embed import encode_frame

        require_frame(frame, "frame", remedy="read it first, such as with polars.read_csv")

        return encode_frame(self._project, frame)

    def complete(self, attributes: Texts = (), *, min_confidence: float = 0.5) -> pl.DataFrame:
        """Predict missing categories, brands and attributes, and write them to `predicted_attributes`.

        Args:
            attributes: an attribute, or several such as `["category", "colour"]`; empty = all that can be predicted.
            min_confidence: predictions of lower confidence are dropped.

        Returns:
            The rows written: product_id, attribute, value, confidence, model_version.

        Raises:
            ModelFolderError: there is no trained model.
            NotFoundError: there is no such attribute; the message names the nearest.
        """
        from recsys.pipeline.complete import predict_attributes

        names = text_list(attributes, "attributes", what="name")
        with self._project.writable() as project:
            return predict_attributes(project, names, min_confidence=min_confidence)[1]

    def forget(self, users: Texts) -> CommandResult:
        """Erase users permanently; their rows are excluded from later ingests.

        Args:
            users: a user id, or several (a list, or a column of polars, pandas, numpy or pyarrow).
        """
        from recsys.pipeline.forget import forget_users

        ids = text_list(users, "users")
        with self._project.writable() as project:
            return forget_users(project, ids)

    def odd(self, *, k: int | None = None) -> pl.DataFrame:
        """Find the k products (or all) whose text, image and attributes disagree most, the most certain first.

        Returns:
            product_id, title, what (does not fit), sure (0 to 1), held, expected.
        """
        from recsys.pipeline.complete import inconsistent_products

        return inconsistent_products(self._project, k=optional_count(k))[0]

    def evaluate(self) -> pl.DataFrame:
        """Hold out the last days and compare with baselines.

        Returns:
            system, slice, metric, value, low, high, users.
        """
        from recsys.pipeline.evaluate import evaluate_to_frame

        return evaluate_to_frame(self._project)

    def report(self, path: AnyPath | None = None) -> CommandResult:
        """Write the HTML report (default: [report] path), and its numbers as JSON beside it."""
        from recsys.pipeline.report import write_report

        return write_report(self._project, single_path(path, "path"))


def _model_name(value: AnyPath | None, name: str) -> str | None:
    path = single_path(value, name)
    return None if path is None else str(value)
