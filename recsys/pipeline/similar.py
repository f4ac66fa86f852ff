"""Looking for products: one query answered, or a file of them.

In: an open project and what to look for. Out: a Report, a frame, or a file of answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.errors import UsageError
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.pipeline.similar_writer import ResultWriter
from recsys.vectors.index.flat import BRUTE_FORCE_QUERIES, FlatIndex
from recsys.vectors.search.bm25 import open_bm25
from recsys.vectors.search.engine import SearchEngine, SearchOptions
from recsys.vectors.search.query import Query

if TYPE_CHECKING:
    import polars as pl

    from recsys.config import SearchSettings
    from recsys.data.catalogue import Catalogue
    from recsys.vectors.index.build import VectorIndex
    from recsys.vectors.search.bm25 import Bm25Index

SCAN_LIMIT = 1 << 25
"""Numbers of a table up to which one query looks at all of them. In a larger one the first few do, which is quicker
than loading an index to look at a part; who asks on gets the index."""


def find_similar(
    project: Project, query: Query, *, k: int = 10, where: str | None = None, output: Path | None = None
) -> CommandResult:
    """Products like a product, a text, a picture, or a mix; see `recsys.vectors.search`."""
    if output is None:
        frame = search_one(project, query, k=k, where=where)
        return CommandResult(
            "similar", counts={"found": frame.height}, tables=[Table.from_frame("similar products", frame)]
        )
    with ResultWriter(output) as answers:
        frame = search_one(project, query, k=k, where=where)
        answers.write(frame)
    return CommandResult("similar", counts={"found": frame.height}, artifacts={"answers": output})


def search_one(
    project: Project, query: Query, *, k: int = 10, where: str | None = None, search: SearchSettings | None = None
) -> pl.DataFrame:
    """The same as a frame: product_id, score, title."""
    asked = search or project.settings.search
    project.query_count += 1
    many = project.query_count > BRUTE_FORCE_QUERIES and project.embeddings.vectors.size > SCAN_LIMIT
    (found,) = get_search_engine(project, asked, whole=where is not None, many=many).search([query], k, where=[where])
    if isinstance(found, UsageError):
        raise found
    return found


def parse_query(*, weights: Sequence[str] = (), **named: Any) -> Query:
    """The query of a command line: weights as `text=2` or, one for each, `product=2,1`."""
    held: dict[str, float | list[float]] = {}
    for one in weights:
        name, equals, value = one.partition("=")
        try:
            numbers = [float(number) for number in value.split(",")]
        except ValueError:
            numbers = []
        if not equals or not numbers:
            raise UsageError(f"--weight {one}: write a kind and a number, such as text=2, or one each: product=2,1")
        held[name] = numbers if len(numbers) > 1 else numbers[0]
    return Query(**named, weights=held)


def get_search_engine(project: Project, search: SearchSettings, *, whole: bool, many: bool = False) -> SearchEngine:
    """What answers queries; kept for the next one while catalogue and vectors stay the same.

    Args:
        project: the project.
        search: how to look.
        whole: whether all columns of the products are needed, as for a condition.
        many: whether there are enough queries to load an index for.
    """
    way = SearchOptions(
        mode=search.mode,
        variants=search.variants,
        depth=search.depth,
        fusion=search.fusion,
    )
    catalogue = _catalogue(project, whole=whole or way.mode != "vector")
    key = (way, many)
    held = project.search_engines.get(key)
    if held is None or held.catalogue is not catalogue or held.table is not project.embeddings:
        held = SearchEngine(
            catalogue,
            project.embeddings,
            index=_index(project, many=many),
            model_loader=lambda: project.model,
            lexical_loader=lambda: load_bm25(project),
            images=project.settings.images,
            way=way,
        )
        project.search_engines[key] = held
    return held


def load_bm25(project: Project) -> Bm25Index:
    """The index of words, loaded when it is the one of today's texts, else built."""
    return open_bm25(project.catalogue, project.index_folder)


def override_search_settings(project: Project, *, mode: str | None, variants: bool | None) -> SearchSettings:
    """The settings with what a call says of its own.

    Raises:
        UsageError: there is no such mode.
    """
    from typing import get_args

    from recsys.errors import suggestion
    from recsys.vectors.search.engine import Mode

    search = project.settings.search
    if mode is not None and mode not in get_args(Mode):
        known = get_args(Mode)
        raise UsageError(f"unknown search '{mode}'{suggestion(mode, known)}; there are {', '.join(known)}")
    changed = {"mode": mode, "variants": variants}
    return search.model_copy(update={name: value for name, value in changed.items() if value is not None})


def _catalogue(project: Project, *, whole: bool) -> Catalogue:
    """The products as far as they are needed; the log of events is not read for them."""
    loaded = {"dataset", "_products_alone"} & project.__dict__.keys()
    return project.catalogue if whole or loaded else project.product_titles


def _index(project: Project, *, many: bool) -> VectorIndex:
    if not many and project.embeddings.vectors.size <= SCAN_LIMIT:
        return FlatIndex(project.embeddings.vectors)
    from recsys.pipeline import index

    return index.open_current_index(project, queries=None if many else 1).index
