"""What must hold of a finished run before consumers may read it.

In: a run's rows, as SQL sees them. Out: the guards that refuse, each with its figures.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from recsys.config import PublishSettings
from recsys.data.schema import DEFAULT_USER

# Each of the first two goes through a run's rows once: of twenty million rows every pass takes its time.
_LISTS = """SELECT COUNT(*) AS lists, SUM(n) AS held, SUM(wrong) AS wrong, SUM(n - scored) AS unscored,
  SUM(CASE WHEN user_id = :nobody THEN 1 ELSE 0 END) AS defaults FROM (
  SELECT user_id, COUNT(*) AS n, COUNT(CASE WHEN score BETWEEN -1e300 AND 1e300 THEN 1 END) AS scored,
    CASE WHEN MIN("rank") <> 1 OR MAX("rank") <> COUNT(*) OR COUNT(DISTINCT product_id) <> COUNT(*)
      THEN 1 ELSE 0 END AS wrong
  FROM recommendations_all
  WHERE run_id = :run AND placement = (SELECT placement FROM runs WHERE run_id = :run) GROUP BY user_id) AS each_list"""
_PRODUCTS = """SELECT COUNT(*) AS shown, SUM(CASE WHEN p.product_id IS NULL THEN n ELSE 0 END) AS unknown,
  SUM(CASE WHEN p.available = :no THEN n ELSE 0 END) AS gone FROM (
  SELECT product_id, COUNT(*) AS n FROM recommendations_all WHERE run_id = :run GROUP BY product_id) AS each_product
  LEFT JOIN products AS p ON p.product_id = each_product.product_id"""
_LEDGER = """SELECT SUM(n_rows) FROM run_shards WHERE run_id = :run"""
_SELLABLE = """SELECT COUNT(*) FROM products WHERE available IS NULL OR available = :yes"""
_OVERLAP = """SELECT AVG(same) FROM (
  SELECT a.user_id, 1.0 * COUNT(b.product_id) / COUNT(*) AS same
  FROM recommendations_all AS a LEFT JOIN recommendations_all AS b
    ON b.run_id = :run AND b.placement = a.placement AND b.user_id = a.user_id AND b.product_id = a.product_id
  WHERE a.run_id = :last AND a.user_id <> :nobody
    AND a.user_id IN (SELECT user_id FROM recommendations_all WHERE run_id = :run)
  GROUP BY a.user_id) AS shares"""


def failed_guards(
    connection: Connection, run_id: str, *, settings: PublishSettings, expected_users: int, last_run: str | None
) -> list[str]:
    """Check a run of recommendations against every guard.

    Args:
        connection: an open connection.
        run_id: the finished run.
        settings: bounds.
        expected_users: users that should have a list (without `__default__`).
        last_run: the run now published, for the overlap; None when there is none.

    Returns:
        One sentence a guard that refuses; empty when all pass.
    """

    def figures(query: str, **more: Any) -> dict[str, float]:
        (row,) = connection.execute(sa.text(query), {"run": run_id, **more}).mappings()
        return {name: float(value or 0) for name, value in row.items()}

    def figure(query: str, **more: Any) -> float:
        return next(iter(figures(query, **more).values()))

    said: list[str] = []
    lists, products = figures(_LISTS, nobody=DEFAULT_USER), figures(_PRODUCTS, no=False)
    users = lists["lists"] - lists["defaults"]
    if users < settings.min_user_coverage * expected_users:
        said.append(
            f"only {users:.0f} of {expected_users} users have a list "
            f"(publish.min_user_coverage = {settings.min_user_coverage})"
        )
    if not lists["defaults"]:
        said.append(f"there is no list for users without history ('{DEFAULT_USER}')")
    for bad, words in (
        (lists["held"] - figure(_LEDGER), "rows differ from the ledger"),
        (lists["wrong"], "users have gaps or repeats in their ranks"),
        (products["unknown"], "rows name a product that is not in the catalogue"),
        (products["gone"], "rows name a product that is not available"),
        (lists["unscored"], "rows have a score that is not a number"),
    ):
        if bad:
            said.append(f"{abs(bad):.0f} {words}")
    if settings.min_catalogue_coverage > 0:
        share = products["shown"] / max(1.0, figure(_SELLABLE, yes=True))
        if share < settings.min_catalogue_coverage:
            said.append(
                f"only {share:.1%} of the sellable products appear "
                f"(publish.min_catalogue_coverage = {settings.min_catalogue_coverage})"
            )
    if settings.min_overlap > 0 and last_run is not None:
        share = figure(_OVERLAP, last=last_run, nobody=DEFAULT_USER)
        if share < settings.min_overlap:
            said.append(
                f"lists keep only {share:.1%} of the last run's products (publish.min_overlap = {settings.min_overlap})"
            )
    return said
