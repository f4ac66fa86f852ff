"""Who would want a product: the users most likely to, for a campaign or a restock message.

In: a Bench, a product id. Out: a frame of users, a Report; nothing is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from recsys.errors import UsageError
from recsys.pipeline.project import Project
from recsys.pipeline.recommend import build_recommender
from recsys.pipeline.result import CommandResult, Table
from recsys.recommend import audience as room

if TYPE_CHECKING:
    import polars as pl


def audience(bench: Project, product: str, *, k: int = 100) -> CommandResult:
    """The k users most likely to want a product, shown; see `recsys.recommend.audience`."""
    frame = audience_frame(bench, product, k=k)
    counts = {"found": frame.height, "users": len(bench.dataset.users)}
    return CommandResult("audience", counts=counts, tables=[Table.from_frame(f"audience of {product}", frame)])


def audience_frame(bench: Project, product: str, *, k: int = 100) -> pl.DataFrame:
    """The same as a frame: user_id, rank, score, reason.

    Raises:
        NotFoundError: the product is unknown; the message names the nearest ids.
        UsageError: k is below 1.
    """
    if k < 1:
        raise UsageError(f"k is {k}; ask for at least 1 user")
    ids = bench.dataset.catalogue.ids
    if product not in ids:
        raise ids.unknown("product", product)
    recommender = build_recommender(bench)
    with bench.progress.stage("audience") as progress:
        item = int(ids.rows([product])[0])
        return room.audience(recommender, item, users=bench.dataset.users_to_score(), k=k, progress=progress)
