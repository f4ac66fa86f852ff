"""The `show_audience` command: the users most likely to want a product, for a campaign or a restock message.

In: an open project, a product id. Out: a frame of users, a result; nothing is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from recsys.errors import UsageError
from recsys.pipeline.project import Project
from recsys.pipeline.recommend import create_recommender
from recsys.pipeline.result import CommandResult, Table
from recsys.recommend import audience as audiences

if TYPE_CHECKING:
    import polars as pl


def show_audience(project: Project, product: str, *, k: int = 100) -> CommandResult:
    """Show the k users most likely to want a product; see `recsys.recommend.audience`."""
    frame = find_audience(project, product, k=k)
    counts = {"found": frame.height, "users": len(project.dataset.users)}
    return CommandResult("audience", counts=counts, tables=[Table.from_frame(f"audience of {product}", frame)])


def find_audience(project: Project, product: str, *, k: int = 100) -> pl.DataFrame:
    """Return the k users most likely to want a product.

    Args:
        project: the project.
        product: product id.
        k: number of users.

    Returns:
        user_id, rank, score, reason.

    Raises:
        NotFoundError: the product is unknown; the message names the nearest ids.
        UsageError: k is below 1.
    """
    if k < 1:
        raise UsageError(f"k is {k}; ask for at least 1 user")
    ids = project.dataset.catalogue.ids
    if product not in ids:
        raise ids.unknown("product", product)
    recommender = create_recommender(project)
    with project.progress.stage("audience") as progress:
        item = int(ids.rows([product])[0])
        users = project.dataset.users_to_score()
        return audiences.rank_audience(recommender, item, users=users, k=k, progress=progress)
