"""The Python API: one typed method per command, returning polars frames.

In: a project folder or a database URL. Out: frames, vectors, results; the same error messages as the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from recsys.config import FILE_NAME, read
from recsys.data.id_map import to_ids
from recsys.errors import NotFoundError, UsageError
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult
from recsys.types import FloatArray

_K = TypeVar("_K", bound="int | None")

if TYPE_CHECKING:
    import polars as pl

    from recsys.vectors.search.query import OneOrMany, Weight


def _to_paths(values: Any, *, name: str) -> list[Path]:
    """Return one path or several as a list.

    Raises:
        UsageError: one is no path.
    """
    if isinstance(values, str | Path):
        return [Path(values)]
    if not isinstance(values, list | tuple | set) or not all(isinstance(value, str | Path) for value in values):
        raise UsageError(f"{name}: give paths, not {type(values).__name__}; frames go to products=, events= and users=")
    return [Path(value) for value in values]


def _positive(k: _K) -> _K:
    """Return the length of a list.

    Raises:
        UsageError: it is 0 or less.
    """
    if isinstance(k, int) and k < 1:
        raise UsageError(f"k is {k}; it must be 1 or more")
    return k


def open_shop(where: str | Path = ".", *, settings: Mapping[str, Any] | None = None) -> Shop:
    """Open a shop; `recsys.open` is this.

    Args:
        where: a project folder, or a database URL (its artifacts are then in the current folder).
        settings: overrides by dotted name, such as `{"recommend.k": 20}`; they precede file and environment.

    Raises:
        ConfigError: a setting is unknown or invalid.
        NotFoundError: there is no such project folder or database; nothing is created.
        DatabaseUnavailableError: the database does not answer.
    """
    if isinstance(where, str) and "://" in where:
        project = Project(read(Path(), flags={"database.url": where, **(settings or {})}).settings, writes=False)
    else:
        project = Project(read(Path(where), flags=settings).settings, writes=False)
        if not (Path(where) / FILE_NAME).is_file():
            raise NotFoundError(f"no {FILE_NAME} in {where}; create a project with 'recsys init {where}'")
    _ = project.store  # connects, so that a wrong address fails here and not later
    return Shop(project)


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
        """Create the project's folder, settings file and tables."""
        from recsys.pipeline.init import init_project

        return init_project(self._project.settings.project, database=self._project.settings.database_url)

    def ingest(
        self,
        paths: str | Path | Sequence[str | Path] = (),
        *,
        products: Any = None,
        events: Any = None,
        users: Any = None,
        images: str | Path | Sequence[str | Path] = (),
        preset: str | None = None,
        replace: str | Sequence[str] = (),
    ) -> CommandResult:
        """Read frames (polars, pandas, pyarrow) or files into the store.

        Args:
            paths: a file or folder, or several.
            products: a frame with the canonical product columns.
            events: a frame with the canonical event columns.
            users: a frame with the canonical user columns.
            images: folders or zips of images.
            preset: format of the files.
            replace: tables that the inputs replace, such as "events"; of the others, stored rows and columns are kept.

        Raises:
            DataContractError: too many rows are rejected.
            UsageError: a frame is given as a path, or a path as a frame.
        """
        from recsys.pipeline.ingest import IngestRequest, ingest

        frames = {"products": products, "events": events, "users": users}
        for name, frame in frames.items():
            if isinstance(frame, str | Path):
                raise UsageError(f"{name}: give a frame here; files are the first argument, ingest({str(frame)!r})")
        request = IngestRequest.from_options(
            _to_paths(paths, name="paths"),
            preset=preset,
            images=_to_paths(images, name="images"),
            frames={name: frame for name, frame in frames.items() if frame is not None},
            replace=to_ids(replace, name="replace"),
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
        start: str | Path | None = None,
        labels: str | Path | None = None,
        distill: str | Path | None = None,
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
                labels=None if labels is None else Path(labels),
                initial_model=None if start is None else str(start),
                distill=None if distill is None else str(distill),
            )
            return train(project, parts=(part,) if part else PARTS, resume=resume, recipe=recipe)

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
        product: OneOrMany = None,
        text: OneOrMany = None,
        image: OneOrMany = None,
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

        settings = override_search_settings(self._project, mode=search, variants=variants)
        if queries is not None:
            from recsys.pipeline.similar_batch import search_frame

            return search_frame(self._project, queries, k=_positive(k), search=settings)
        query = Query(product=product, text=text, image=image, minus=minus or {}, weights=weights or {})
        return search_one(self._project, query, k=_positive(k), where=where, search=settings)

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

        return audiences.find_audience(self._project, product, k=_positive(k))

    def recommend(self, users: str | Sequence[str] | None = None, *, k: int | None = None) -> pl.DataFrame:
        """Compute recommendations from the current data; users without history get the default list.

        Args:
            users: a user id, or several; None = all users.
            k: length of each list; None = [recommend] k.

        Returns:
            user_id, rank, product_id, score, reason, reason_product_id.
        """
        from recsys.pipeline.recommend import compute_recommendations

        ids = None if users is None else to_ids(users, name="users")
        return compute_recommendations(self._project, ids, k=_positive(k))

    def recommendations(self, users: str | Sequence[str] | None = None, *, k: int | None = None) -> pl.DataFrame:
        """Read the published recommendations from the store.

        Args:
            users: a user id, or several; None = all users.
            k: maximum length of each list; None = as published.

        Returns:
            user_id, rank, product_id, score, reason.
        """
        placement = self._project.settings.recommend.placement
        ids = None if users is None else to_ids(users, name="users")
        return self._project.store.recommendations(ids, placement=placement, k=_positive(k))

    def embed(self, frame: Any = None) -> FloatArray:
        """Encode products, stored or not: (n, d) float32 of unit length.

        Args:
            frame: canonical product columns (polars, pandas, pyarrow); None = all products of the store.

        Raises:
            UsageError: a column is neither a product column nor an attribute of the encoder.
        """
        from recsys.pipeline.embed import encode_frame

        return encode_frame(self._project, frame)

    def complete(self, attributes: str | Sequence[str] = (), *, min_confidence: float = 0.5) -> pl.DataFrame:
        """Predict missing categories, brands and attributes, and write them to `predicted_attributes`.

        Args:
            attributes: such as `["category", "colour"]`; empty = all that can be predicted.
            min_confidence: predictions of lower confidence are dropped.

        Returns:
            The rows written: product_id, attribute, value, confidence, model_version.

        Raises:
            ModelFolderError: there is no trained model.
            NotFoundError: there is no such attribute; the message names the nearest.
        """
        from recsys.pipeline.complete import predict_attributes

        with self._project.writable() as project:
            names = to_ids(attributes, name="attributes")
            return predict_attributes(project, names, min_confidence=min_confidence)[1]

    def forget(self, users: str | Sequence[str]) -> CommandResult:
        """Erase users permanently; their rows are excluded from later ingests."""
        from recsys.pipeline.forget import forget_users

        with self._project.writable() as project:
            return forget_users(project, to_ids(users, name="users"))

    def odd(self, *, k: int | None = None) -> pl.DataFrame:
        """Find the k products (or all) whose text, image and attributes disagree most, the most certain first.

        Returns:
            product_id, title, what (does not fit), sure (0 to 1), held, expected.
        """
        from recsys.pipeline.complete import inconsistent_products

        return inconsistent_products(self._project, k=_positive(k))[0]

    def evaluate(self) -> pl.DataFrame:
        """Hold out the last days and compare with baselines.

        Returns:
            system, slice, metric, value, low, high, users.
        """
        from recsys.pipeline.evaluate import evaluate_to_frame

        return evaluate_to_frame(self._project)

    def report(self, path: str | Path | None = None) -> CommandResult:
        """Write the HTML report (default: [report] path), and its numbers as JSON beside it."""
        from recsys.pipeline.report import write_report

        return write_report(self._project, None if path is None else Path(path))
