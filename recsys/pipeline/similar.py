"""Looking for products: one query answered, or a file of them.

In: a Bench and what to look for. Out: a Report, a frame, or a file of answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.errors import UsageError
from recsys.pipeline.project import Bench
from recsys.pipeline.result import Report, Table
from recsys.pipeline.similar_writer import Answers
from recsys.vectors.index.flat import FEW_QUERIES, FlatIndex
from recsys.vectors.search.bm25 import open_lexical
from recsys.vectors.search.engine import Finder, Way
from recsys.vectors.search.query import Query

if TYPE_CHECKING:
    import polars as pl

    from recsys.config import SearchSettings
    from recsys.data.catalogue import Catalogue
    from recsys.vectors.index.build import VectorIndex
    from recsys.vectors.search.bm25 import Lexical

SCANNED = 1 << 25
"""Numbers of a table up to which one query looks at all of them. In a larger one the first few do, which is quicker
than loading an index to look at a part; who asks on gets the index."""


def similar(bench: Bench, query: Query, *, k: int = 10, where: str | None = None, output: Path | None = None) -> Report:
    """Products like a product, a text, a picture, or a mix; see `recsys.vectors.search`."""
    if output is None:
        frame = neighbours_of(bench, query, k=k, where=where)
        return Report("similar", counts={"found": frame.height}, tables=[Table.of("similar products", frame)])
    with Answers(output) as answers:
        frame = neighbours_of(bench, query, k=k, where=where)
        answers.write(frame)
    return Report("similar", counts={"found": frame.height}, artifacts={"answers": output})


def neighbours_of(
    bench: Bench, query: Query, *, k: int = 10, where: str | None = None, search: SearchSettings | None = None
) -> pl.DataFrame:
    """The same as a frame: product_id, score, title."""
    asked = search or bench.settings.search
    bench.queries += 1
    many = bench.queries > FEW_QUERIES and bench.table.vectors.size > SCANNED
    (found,) = finder(bench, asked, whole=where is not None, many=many).answers([query], k, where=[where])
    if isinstance(found, UsageError):
        raise found
    return found


def asked(*, weights: Sequence[str] = (), **named: Any) -> Query:
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


def finder(bench: Bench, search: SearchSettings, *, whole: bool, many: bool = False) -> Finder:
    """What answers queries; kept for the next one while catalogue and vectors stay the same.

    Args:
        bench: the project.
        search: how to look.
        whole: whether all columns of the products are needed, as for a condition.
        many: whether there are enough queries to load an index for.
    """
    way = Way(
        mode=search.mode,
        variants=search.variants,
        depth=search.depth,
        fusion=search.fusion,
    )
    catalogue = _catalogue(bench, whole=whole or way.mode != "vector")
    key = (way, many)
    held = bench.finders.get(key)
    if held is None or held.catalogue is not catalogue or held.table is not bench.table:
        held = Finder(
            catalogue,
            bench.table,
            index=_index(bench, many=many),
            model_loader=lambda: bench.model,
            lexical_loader=lambda: lexical(bench),
            images=bench.settings.images,
            way=way,
        )
        bench.finders[key] = held
    return held


def lexical(bench: Bench) -> Lexical:
    """The index of words, loaded when it is the one of today's texts, else built."""
    return open_lexical(bench.catalogue, bench.indexes)


def chosen(bench: Bench, *, mode: str | None, variants: bool | None) -> SearchSettings:
    """The settings with what a call says of its own.

    Raises:
        UsageError: there is no such mode.
    """
    from typing import get_args

    from recsys.errors import suggestion
    from recsys.vectors.search.engine import Mode

    search = bench.settings.search
    if mode is not None and mode not in get_args(Mode):
        known = get_args(Mode)
        raise UsageError(f"unknown search '{mode}'{suggestion(mode, known)}; there are {', '.join(known)}")
    changed = {"mode": mode, "variants": variants}
    return search.model_copy(update={name: value for name, value in changed.items() if value is not None})


def _catalogue(bench: Bench, *, whole: bool) -> Catalogue:
    """The products as far as they are needed; the log of events is not read for them."""
    loaded = {"dataset", "_products_alone"} & bench.__dict__.keys()
    return bench.catalogue if whole or loaded else bench.named_products


def _index(bench: Bench, *, many: bool) -> VectorIndex:
    if not many and bench.table.vectors.size <= SCANNED:
        return FlatIndex(bench.table.vectors)
    from recsys.pipeline import index

    return index.indexed(bench, queries=None if many else 1).index
