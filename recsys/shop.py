"""The Python face: one method per verb of the command line, typed, polars out.

In: a project folder or a database URL. Out: frames, vectors, reports; errors with the message of the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from recsys.config import read
from recsys.pipeline.project import Project, ProjectWriter
from recsys.pipeline.result import CommandResult
from recsys.types import FloatArray

if TYPE_CHECKING:
    import polars as pl

    from recsys.vectors.search.query import OneOrMany, Weight


def open_shop(where: str | Path = ".", *, settings: Mapping[str, Any] | None = None) -> Shop:
    """Open a shop; `recsys.open` is this.

    Args:
        where: a project folder, or a database URL (its artifacts then stand in the current folder).
        settings: overrides by dotted name, such as `{"recommend.k": 20}`; they go before file and environment.

    Raises:
        ConfigError: a setting is unknown or does not fit.
    """
    if isinstance(where, str) and "://" in where:
        return Shop(Project(read(Path(), flags={"database.url": where, **(settings or {})}).settings, writes=False))
    return Shop(Project(read(Path(where), flags=settings).settings, writes=False))


class Shop:
    """An opened shop. Data and models are loaded when first needed and kept; `refresh` forgets them."""

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
        """Load data and models again at the next call, because another process changed them."""
        self._project.reload()

    def init(self) -> CommandResult:
        """Make the project's folder, settings file and tables."""
        from recsys.pipeline.init import init_project

        return init_project(self._project.settings.project, database=self._project.settings.database_url)

    def ingest(
        self,
        paths: Sequence[str | Path] = (),
        *,
        products: Any = None,
        events: Any = None,
        users: Any = None,
        images: str | Path | Sequence[str | Path] = (),
        preset: str | None = None,
    ) -> CommandResult:
        """Read frames (polars, pandas, pyarrow) or files into the store.

        Args:
            paths: files or folders.
            products: a frame with the canonical product columns.
            events: a frame with the canonical event columns.
            users: a frame with the canonical user columns.
            images: folders or zips of pictures.
            preset: shape of the files.

        Raises:
            DataContractError: too many rows cannot be used.
        """
        from recsys.pipeline import ingest as intake

        frames = {"products": products, "events": events, "users": users}
        pictures = [images] if isinstance(images, str | Path) else list(images)
        wanted = intake.IngestRequest.of(
            [Path(path) for path in paths],
            preset=preset,
            images=[Path(path) for path in pictures],
            frames={name: frame for name, frame in frames.items() if frame is not None},
        )
        with self._writing() as project:
            return intake.ingest(project, wanted)

    def check(self) -> CommandResult:
        """Say what the store holds and what each part of the model would get."""
        from recsys.pipeline import check

        return check.check_data(self._project)

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
            resume: go on from the last checkpoint.
            start: a model folder to start from, or "current"; the option `--from`.
            labels: a file of labels of some products to learn.
            distill: a model folder to be like, or "current".
        """
        from recsys.pipeline import train as training
        from recsys.pipeline.train_recipe import TrainingRecipe

        with self._writing() as project:
            way = TrainingRecipe(
                project,
                labels=None if labels is None else Path(labels),
                initial_model=None if start is None else str(start),
                distill=None if distill is None else str(distill),
            )
            return training.train(project, parts=(part,) if part else training.PARTS, resume=resume, way=way)

    def run(self) -> CommandResult:
        """The nightly chain; see the command `run`."""
        from recsys.pipeline import run as night

        with self._writing() as project:
            return night.run_nightly(project)

    def publish(self, run_id: str | None = None, *, force: bool = False) -> CommandResult:
        """Make a finished run the one consumers read."""
        from recsys.pipeline import runs as ledger

        with self._writing() as project:
            return ledger.publish(project, run_id, force=force)

    def rollback(self) -> CommandResult:
        """Let consumers read the run before again."""
        from recsys.pipeline import runs as ledger

        with self._writing() as project:
            return ledger.rollback(project)

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
        """Products like a product, a text, a picture, or a mix of them.

        Args:
            product: a product id, or several.
            text: any text, or several.
            image: path of a picture, or several.
            minus: what they shall not be like, such as `{"text": "red"}`.
            weights: how much each kind counts in a mix, such as `{"text": 2, "not_text": 0.5}`; 1 unless named.
            k: how many.
            where: only products with, such as `price < 80 and brand in ('Aro', 'Bex')`.
            search: how to take a text: "vector", "lexical" or "hybrid"; as `[search] mode` says when not given.
            variants: show every variant of a product instead of the best; as `[search] variants` says when not given.
            queries: many at once instead: a file, or a frame with query_id, product, text, image, where, not_text ...

        Returns:
            product_id, score, title; best first. With `queries` also query_id and rank.

        Raises:
            NotFoundError: a product is unknown; the message names the nearest ids.
            UsageError: nothing was asked for, or `where` cannot be read.
        """
        from recsys.pipeline import similar as finding
        from recsys.vectors.search.query import Query

        way = finding.override_search_settings(self._project, mode=search, variants=variants)
        if queries is not None:
            from recsys.pipeline import similar_batch as batch

            return batch.search_frame(self._project, queries, k=k, search=way)
        query = Query(product=product, text=text, image=image, minus=minus or {}, weights=weights or {})
        return finding.search_one(self._project, query, k=k, where=where, search=way)

    def audience(self, *, product: str, k: int = 100) -> pl.DataFrame:
        """The users most likely to want a product, computed now.

        Args:
            product: a product id.
            k: how many.

        Returns:
            user_id, rank, score, reason; the score is the product's share among what each user would be offered, and
            below 0 for users whom no source offers it.

        Raises:
            NotFoundError: the product is unknown; the message names the nearest ids.
        """
        from recsys.pipeline import audience

        return audience.audience_frame(self._project, product, k=k)

    def recommend(self, users: Sequence[str] | None = None, *, k: int | None = None) -> pl.DataFrame:
        """Lists computed now, from the data as it stands; users without history get everybody's list.

        Returns:
            user_id, rank, product_id, score, reason, reason_product_id.
        """
        from recsys.pipeline import recommend as lists

        return lists.compute_recommendations(self._project, users, k=k)

    def recommendations(self, users: Sequence[str] | None = None, *, k: int | None = None) -> pl.DataFrame:
        """The published lists, read from the store.

        Returns:
            user_id, rank, product_id, score, reason.
        """
        placement = self._project.settings.recommend.placement
        return self._project.store.recommendations(None if users is None else list(users), placement=placement, k=k)

    def embed(self, frame: Any = None) -> FloatArray:
        """Vectors of any products, stored or not: (n, d) float32 of unit length.

        Args:
            frame: canonical product columns (polars, pandas, pyarrow); all products of the store when not given.
        """
        from recsys.pipeline import embed as space

        return space.encode_frame(self._project, frame)

    def complete(self, attributes: Sequence[str] = (), *, min_confidence: float = 0.5) -> pl.DataFrame:
        """Guess missing categories, brands and attributes, and write the guesses to `predicted_attributes`.

        Args:
            attributes: such as `["category", "colour"]`; all that can be guessed when none is named.
            min_confidence: guesses less sure are left out.

        Returns:
            What was written: product_id, attribute, value, confidence, model_version.

        Raises:
            ModelFolderError: there is no trained model.
            NotFoundError: there is no such attribute; the message names the nearest.
        """
        from recsys.pipeline import complete as gaps

        with self._writing() as project:
            return gaps.predict_attributes(project, attributes, min_confidence=min_confidence)[1]

    def forget(self, users: Sequence[str]) -> CommandResult:
        """Erase users everywhere, for good; their rows are left out of later ingests."""
        from recsys.pipeline import forget as forgetting

        with self._writing() as project:
            return forgetting.forget_users(project, users)

    def odd(self, *, k: int | None = None) -> pl.DataFrame:
        """The k products (or all) whose text, picture and attributes disagree most, the surest first.

        They come as product_id, title, what (does not fit), sure (0 to 1), held, expected.
        """
        from recsys.pipeline import complete as gaps

        return gaps.inconsistent_products(self._project, k=k)[0]

    def evaluate(self) -> pl.DataFrame:
        """Hold back the last days and compare with baselines: system, slice, metric, value, low, high, users."""
        from recsys.pipeline import evaluate as judgement

        return judgement.evaluate_frame(self._project)

    def report(self, path: str | Path | None = None) -> CommandResult:
        """Write the page that shows what the recommender does (default: [report] path), and its numbers beside it."""
        from recsys.pipeline.report import write_report

        return write_report(self._project, None if path is None else Path(path))

    def _writing(self) -> ProjectWriter:
        return ProjectWriter(self._project)
