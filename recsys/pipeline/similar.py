"""The `similar` command: searches products by product, text, image or a mix; one query, or a file of them.

In: an open project and a query. Out: a result, a frame, or a file of answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from recsys.errors import UsageError, suggestion
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.pipeline.similar_writer import ResultWriter
from recsys.vectors.index.flat import BRUTE_FORCE_QUERIES, FlatIndex
from recsys.vectors.search.bm25 import open_bm25
from recsys.vectors.search.engine import Mode, SearchEngine, SearchOptions
from recsys.vectors.search.query import Query

if TYPE_CHECKING:
    import polars as pl

    from recsys.config import SearchSettings
    from recsys.data.catalogue import Catalogue
    from recsys.vectors.index.build import VectorIndex
    from recsys.vectors.search.bm25 import Bm25Index

SCAN_LIMIT = 1 << 25
"""Numbers in a table up to which a single query scans all of them. In a larger table the first few queries do too,
which is faster than loading an index to read a part of it; later queries use the index."""


def find_similar(
    project: Project, query: Query, *, k: int = 10, where: str | None = None, output: Path | None = None
) -> CommandResult:
    """Find products like a product, a text, an image, or a mix; see `recsys.vectors.search`.

    Args:
        project: the project.
        query: the query.
        k: number of products.
        where: condition that the products must meet.
        output: file for the answers; None = they are in the result.
    """
    if output is None:
        frame = search_one(project, query, k=k, where=where)
        return CommandResult(
            "similar", counts={"found": frame.height}, tables=[Table.from_frame("similar products", frame)]
        )
    with ResultWriter(output) as writer:
        frame = search_one(project, query, k=k, where=where)
        writer.write(frame)
    return CommandResult("similar", counts={"found": frame.height}, artifacts={"answers": output})


def search_one(
    project: Project, query: Query, *, k: int = 10, where: str | None = None, search: SearchSettings | None = None
) -> pl.DataFrame:
    """Answer one query.

    Returns:
        product_id, score, title; best first.

    Raises:
        UsageError: the query cannot be answered.
    """
    project.query_count += 1
    use_index = project.query_count > BRUTE_FORCE_QUERIES and project.embeddings.vectors.size > SCAN_LIMIT
    engine = get_search_engine(
        project, search or project.settings.search, all_columns=where is not None, use_index=use_index
    )
    (answer,) = engine.search([query], k, where=[where])
    if isinstance(answer, UsageError):
        raise answer
    return answer


def parse_query(*, weights: Sequence[str] = (), **parts: Any) -> Query:
    """Build the query of a command line; weights are `text=2` or, one per value, `product=2,1`.

    Raises:
        UsageError: a weight cannot be parsed.
    """
    parsed: dict[str, float | list[float]] = {}
    for option in weights:
        name, equals, value = option.partition("=")
        try:
            numbers = [float(number) for number in value.split(",")]
        except ValueError:
            numbers = []
        if not equals or not numbers:
            raise UsageError(f"--weight {option}: write a kind and a number, such as text=2, or one each: product=2,1")
        parsed[name] = numbers if len(numbers) > 1 else numbers[0]
    return Query(**parts, weights=parsed)


def get_search_engine(
    project: Project, search: SearchSettings, *, all_columns: bool, use_index: bool = False
) -> SearchEngine:
    """Return the search engine for these settings; it is reused while catalogue and embeddings stay the same.

    Args:
        project: the project.
        search: search settings.
        all_columns: whether all columns of the products are needed, as for a condition.
        use_index: whether there are enough queries to load an index.
    """
    options = SearchOptions(mode=search.mode, variants=search.variants, depth=search.depth, fusion=search.fusion)
    catalogue = _load_catalogue(project, all_columns=all_columns or options.mode != "vector")
    key = (options, use_index)
    engine = project.search_engines.get(key)
    if engine is None or engine.catalogue is not catalogue or engine.table is not project.embeddings:
        engine = SearchEngine(
            catalogue,
            project.embeddings,
            index=_load_index(project, use_index=use_index),
            model_loader=lambda: project.model,
            lexical_loader=lambda: load_bm25(project),
            images=project.settings.images,
            options=options,
        )
        project.search_engines[key] = engine
    return engine


def load_bm25(project: Project) -> Bm25Index:
    """Load the BM25 index if it matches the current texts, else build it."""
    return open_bm25(project.catalogue, project.index_folder)


def override_search_settings(project: Project, *, mode: str | None, variants: bool | None) -> SearchSettings:
    """Return the search settings with the values that are not None replaced.

    Raises:
        UsageError: there is no such mode.
    """
    search, modes = project.settings.search, get_args(Mode)
    if mode is not None and mode not in modes:
        raise UsageError(f"unknown search '{mode}'{suggestion(mode, modes)}; there are {', '.join(modes)}")
    overrides = {"mode": mode, "variants": variants}
    return search.model_copy(update={name: value for name, value in overrides.items() if value is not None})


def _load_catalogue(project: Project, *, all_columns: bool) -> Catalogue:
    """Return the products with as many columns as needed; the events are not read for them."""
    return project.catalogue if all_columns or project.is_loaded("catalogue") else project.product_titles


def _load_index(project: Project, *, use_index: bool) -> VectorIndex:
    if not use_index and project.embeddings.vectors.size <= SCAN_LIMIT:
        return FlatIndex(project.embeddings.vectors)
    from recsys.pipeline.index import open_current_index

    return open_current_index(project, queries=None if use_index else 1).index
