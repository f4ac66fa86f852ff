"""Publish guards: conditions that a finished run must meet before consumers may read it.

In: the rows of a run, aggregated in SQL. Out: one sentence per failed guard, with its figures.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from recsys.config import PublishSettings
from recsys.data.schema import DEFAULT_USER

# Each of the first two queries scans the rows of a run once: a scan of twenty million rows is slow.
_LIST_QUERY = """SELECT COUNT(*) AS lists, SUM(n) AS held, SUM(wrong) AS wrong, SUM(n - scored) AS unscored,
  SUM(CASE WHEN user_id = :default_user THEN 1 ELSE 0 END) AS defaults FROM (
  SELECT user_id, COUNT(*) AS n, COUNT(CASE WHEN score BETWEEN -1e300 AND 1e300 THEN 1 END) AS scored,
    CASE WHEN MIN("rank") <> 1 OR MAX("rank") <> COUNT(*) OR COUNT(DISTINCT product_id) <> COUNT(*)
      THEN 1 ELSE 0 END AS wrong
  FROM recommendations_all
  WHERE run_id = :run AND placement = (SELECT placement FROM runs WHERE run_id = :run) GROUP BY user_id) AS each_list"""
_PRODUCT_QUERY = """SELECT COUNT(*) AS shown, SUM(CASE WHEN p.product_id IS NULL THEN n ELSE 0 END) AS unknown,
  SUM(CASE WHEN p.available = :no THEN n ELSE 0 END) AS gone FROM (
  SELECT product_id, COUNT(*) AS n FROM recommendations_all WHERE run_id = :run GROUP BY product_id) AS each_product
  LEFT JOIN products AS p ON p.product_id = each_product.product_id"""
_LEDGER_QUERY = """SELECT SUM(n_rows) FROM run_shards WHERE run_id = :run"""
_SELLABLE_QUERY = """SELECT COUNT(*) FROM products WHERE available IS NULL OR available = :yes"""
_CATALOGUE_QUERY = """SELECT COUNT(*) FROM products"""
_OVERLAP_QUERY = """SELECT AVG(same) FROM (
  SELECT a.user_id, 1.0 * COUNT(b.product_id) / COUNT(*) AS same
  FROM recommendations_all AS a LEFT JOIN recommendations_all AS b
    ON b.run_id = :run AND b.placement = a.placement AND b.user_id = a.user_id AND b.product_id = a.product_id
  WHERE a.run_id = :last AND a.user_id <> :default_user
    AND a.user_id IN (SELECT user_id FROM recommendations_all WHERE run_id = :run)
  GROUP BY a.user_id) AS shares"""


def failed_guards(
    connection: Connection,
    run_id: str,
    *,
    settings: PublishSettings,
    expected_users: int,
    last_run: str | None,
    available_only: bool = True,
) -> list[str]:
    """Check a run of recommendations against every guard.

    Args:
        connection: an open connection.
        run_id: the finished run.
        settings: thresholds.
        expected_users: number of users that should have a list (without `__default__`).
        last_run: the published run, for the overlap; None if there is none.
        available_only: whether the rules exclude products that are not available.

    Returns:
        One sentence per failed guard; empty if all pass.
    """

    def query_row(query: str, **parameters: Any) -> dict[str, float]:
        (row,) = connection.execute(sa.text(query), {"run": run_id, **parameters}).mappings()
        return {name: float(value or 0) for name, value in row.items()}

    def query_value(query: str, **parameters: Any) -> float:
        return next(iter(query_row(query, **parameters).values()))

    failures: list[str] = []
    lists, products = query_row(_LIST_QUERY, default_user=DEFAULT_USER), query_row(_PRODUCT_QUERY, no=False)
    users = lists["lists"] - lists["defaults"]
    if users < settings.min_user_coverage * expected_users:
        failures.append(
            f"only {users:.0f} of {expected_users} users have a list "
            f"(publish.min_user_coverage = {settings.min_user_coverage})"
        )
    if not lists["defaults"]:
        failures.append(f"there is no list for users without history ('{DEFAULT_USER}')")
    for count, problem in (
        (lists["held"] - query_value(_LEDGER_QUERY), "rows differ from the ledger"),
        (lists["wrong"], "users have gaps or repeats in their ranks"),
        (products["unknown"], "rows name a product that is not in the catalogue"),
        (products["gone"] if available_only else 0, "rows name a product that is not available"),
        (lists["unscored"], "rows have a score that is not a number"),
    ):
        if count:
            failures.append(f"{abs(count):.0f} {problem}")
    if settings.min_catalogue_coverage > 0:
        listable = query_value(_SELLABLE_QUERY, yes=True) if available_only else query_value(_CATALOGUE_QUERY)
        share = products["shown"] / max(1.0, listable)
        if share < settings.min_catalogue_coverage:
            failures.append(
                f"only {share:.1%} of the sellable products appear "
                f"(publish.min_catalogue_coverage = {settings.min_catalogue_coverage})"
            )
    if settings.min_overlap > 0 and last_run is not None:
        share = query_value(_OVERLAP_QUERY, last=last_run, default_user=DEFAULT_USER)
        if share < settings.min_overlap:
            failures.append(
                f"lists keep only {share:.1%} of the last run's products (publish.min_overlap = {settings.min_overlap})"
            )
    return failures
