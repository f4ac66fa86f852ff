"""What must hold of a finished run before consumers may read it.

In: a run's rows, as SQL sees them. Out: the guards that refuse, each with its figures.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from recsys.config import PublishSettings
from recsys.data.schema import DEFAULT_USER

_USERS = """SELECT COUNT(DISTINCT user_id) FROM recommendations_all WHERE run_id = :run AND user_id <> :nobody"""
_RANKS = """SELECT COUNT(*) FROM (
  SELECT user_id FROM recommendations_all WHERE run_id = :run
  GROUP BY user_id
  HAVING MIN("rank") <> 1 OR MAX("rank") <> COUNT(*) OR COUNT(DISTINCT product_id) <> COUNT(*)) AS bad"""
_UNKNOWN = """SELECT COUNT(*) FROM recommendations_all AS r LEFT JOIN products AS p ON p.product_id = r.product_id
  WHERE r.run_id = :run AND p.product_id IS NULL"""
_GONE = """SELECT COUNT(*) FROM recommendations_all AS r JOIN products AS p ON p.product_id = r.product_id
  WHERE r.run_id = :run AND p.available = :no"""
_SCORES = """SELECT COUNT(*) FROM recommendations_all WHERE run_id = :run AND (score IS NULL OR score <> score)"""
_LEDGER = """SELECT (SELECT COUNT(*) FROM recommendations_all WHERE run_id = :run)
  - (SELECT COALESCE(SUM(n_rows), 0) FROM run_shards WHERE run_id = :run)"""
_DEFAULT = """SELECT COUNT(*) FROM recommendations_all WHERE run_id = :run AND user_id = :nobody"""
_COVERED = """SELECT COUNT(DISTINCT product_id) FROM recommendations_all WHERE run_id = :run"""
_SELLABLE = """SELECT COUNT(*) FROM products WHERE available IS NULL OR available = :yes"""
_OVERLAP = """SELECT AVG(same) FROM (
  SELECT a.user_id, 1.0 * COUNT(b.product_id) / COUNT(*) AS same
  FROM recommendations_all AS a LEFT JOIN recommendations_all AS b
    ON b.run_id = :run AND b.placement = a.placement AND b.user_id = a.user_id AND b.product_id = a.product_id
  WHERE a.run_id = :last AND a.user_id <> :nobody
    AND a.user_id IN (SELECT user_id FROM recommendations_all WHERE run_id = :run)
  GROUP BY a.user_id) AS shares"""


def refusals(
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

    def figure(query: str, **more: Any) -> float:
        found = connection.execute(sa.text(query), {"run": run_id, **more}).scalar_one()
        return float(found or 0)

    said: list[str] = []
    users = figure(_USERS, nobody=DEFAULT_USER)
    if users < settings.min_user_coverage * expected_users:
        said.append(
            f"only {users:.0f} of {expected_users} users have a list "
            f"(publish.min_user_coverage = {settings.min_user_coverage})"
        )
    if not figure(_DEFAULT, nobody=DEFAULT_USER):
        said.append(f"there is no list for users without history ('{DEFAULT_USER}')")
    for query, words, more in (
        (_LEDGER, "rows differ from the ledger", {}),
        (_RANKS, "users have gaps or repeats in their ranks", {}),
        (_UNKNOWN, "rows name a product that is not in the catalogue", {}),
        (_GONE, "rows name a product that is not available", {"no": False}),
        (_SCORES, "rows have a score that is not a number", {}),
    ):
        bad = figure(query, **more)
        if bad:
            said.append(f"{abs(bad):.0f} {words}")
    if settings.min_catalogue_coverage > 0:
        share = figure(_COVERED) / max(1.0, figure(_SELLABLE, yes=True))
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
