"""On PostgreSQL, store the rows of each run in a separate partition; other databases are unchanged."""

import sqlalchemy as sa
from alembic import op

from recsys.errors import RecsysError

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEYS = {
    "recommendations_all": ("run_id", "placement", "user_id", "rank"),
    "similar_products_all": ("run_id", "product_id", "rank"),
}
OLDEST = 140000
"""PostgreSQL 14 is the first version that can detach a partition without blocking readers."""


def upgrade() -> None:
    """Partition the two tables, and move the rows of each run to a partition."""
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    version = int(connection.execute(sa.text("SHOW server_version_num")).scalar_one())
    if version < OLDEST:
        raise RecsysError(f"PostgreSQL 14 or newer is needed, this server is {version // 10000}; upgrade it")
    for view in ("recommendations", "similar_products"):  # recreated after the migrations
        op.execute(f'DROP VIEW IF EXISTS "{view}"')
    for table, key in KEYS.items():
        _partitioned(connection, table, ", ".join(f'"{name}"' for name in key))


def _partitioned(connection: sa.Connection, table: str, key: str) -> None:
    old = f"{table}_before"
    op.execute(f'ALTER TABLE "{table}" RENAME TO "{old}"')
    op.execute(f'ALTER INDEX "{table}_pkey" RENAME TO "{old}_pkey"')
    op.execute(f'CREATE TABLE "{table}" (LIKE "{old}" INCLUDING DEFAULTS) PARTITION BY LIST (run_id)')
    op.execute(f'ALTER TABLE "{table}" ADD PRIMARY KEY ({key})')
    query = f'SELECT DISTINCT a.run_id, r.state FROM "{old}" AS a LEFT JOIN runs AS r ON r.run_id = a.run_id ORDER BY 1'  # noqa: S608
    for run_id, state in connection.execute(sa.text(query)).all():
        part, value = f"{table}_{run_id}", connection.dialect.identifier_preparer.quote_identifier
        literal = sa.literal(run_id).compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        check = f'CONSTRAINT "of_one_run" CHECK (run_id = {literal})'
        op.execute(f'CREATE TABLE {value(part)} (LIKE "{table}" INCLUDING DEFAULTS, {check})')
        op.execute(f'INSERT INTO {value(part)} SELECT * FROM "{old}" WHERE run_id = {literal}')  # noqa: S608
        if state == "building":  # its writer may resume it
            continue
        op.execute(f"ALTER TABLE {value(part)} ADD PRIMARY KEY ({key})")
        op.execute(f'ALTER TABLE "{table}" ATTACH PARTITION {value(part)} FOR VALUES IN ({literal})')
        op.execute(f'ALTER TABLE {value(part)} DROP CONSTRAINT "of_one_run"')
    op.execute(f'DROP TABLE "{old}"')
