"""The tables of the store, as SQLAlchemy Core: contracts of the shop's side.

In: nothing. Out: `metadata` and one name a table. `sql/migrations` makes them; a test holds the two together.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

metadata = sa.MetaData()

Id = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
"""Ids are text compared byte by byte: leading zeros, case and Unicode forms stay apart."""
Json = sa.JSON()
Time = sa.DateTime(timezone=True)


def _id(name: str, *, key: bool = False, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, Id, primary_key=key, nullable=null and not key)


products = sa.Table(
    "products",
    metadata,
    _id("product_id", key=True),
    sa.Column("title", sa.Text),
    sa.Column("description", sa.Text),
    sa.Column("brand", sa.Text),
    sa.Column("category", sa.Text),
    sa.Column("price", sa.Float),
    sa.Column("currency", sa.Text),
    sa.Column("image", sa.Text),
    sa.Column("available", sa.Boolean),
    _id("group_id", null=True),
    sa.Column("attributes", Json),
    sa.Column("created_at", Time),
    sa.Column("updated_at", Time),
    sa.Column("content_hash", sa.Text),
)

users = sa.Table("users", metadata, _id("user_id", key=True), sa.Column("attributes", Json))

events = sa.Table(
    "events",
    metadata,
    _id("user_id", key=True),
    sa.Column("occurred_at", Time, primary_key=True),
    _id("product_id", key=True),
    _id("event_type", key=True),
    sa.Column("order_id", Id, primary_key=True, server_default=""),
    # identical rows of one source are numbered 0, 1, ...: none is lost, and reading a file twice changes nothing
    sa.Column("line_no", sa.Integer, primary_key=True, server_default="0", autoincrement=False),
    sa.Column("quantity", sa.Float),
    sa.Column("value", sa.Float),
    sqlite_with_rowid=False,
)

rejected_rows = sa.Table(
    "rejected_rows",
    metadata,
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("row_no", sa.BigInteger),
    sa.Column("table_name", sa.Text, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("column_name", sa.Text),
    sa.Column("value_excerpt", sa.Text),
    sa.Column("row_json", sa.Text),
    _id("run_id", null=True),
)
sa.Index("rejected_rows_source", rejected_rows.c.source)

# how far each SELECT of a shop's own tables has been read
source_marks = sa.Table(
    "source_marks",
    metadata,
    _id("source", key=True),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("newest", Time),
    sa.Column("reached", Time),
    sa.Column("counts", Json),
    sa.Column("updated_at", Time, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    _id("run_id", key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("placement", Id, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("model_version", sa.Text),
    sa.Column("data_fingerprint", sa.Text),
    sa.Column("config_hash", sa.Text),
    sa.Column("extra", Json),
    sa.Column("counts", Json),
    sa.Column("metrics", Json),
    sa.Column("reason", sa.Text),
    sa.Column("started_at", Time),
    sa.Column("finished_at", Time),
    sa.Column("published_at", Time),
    sa.Column("pruned_at", Time),
    sa.Column("host", sa.Text),
    sa.Column("version", sa.Text),
)

# at most one run at work a placement, held by the database itself
sa.Index(
    "runs_building",
    runs.c.placement,
    unique=True,
    sqlite_where=runs.c.state == "building",
    postgresql_where=runs.c.state == "building",
)

run_shards = sa.Table(
    "run_shards",
    metadata,
    _id("run_id", key=True),
    sa.Column("shard_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("n_users", sa.BigInteger, nullable=False),
    sa.Column("n_rows", sa.BigInteger, nullable=False),
    sa.Column("checksum", sa.Text, nullable=False),
)

publications = sa.Table(
    "publications",
    metadata,
    _id("placement", key=True),
    _id("run_id"),
    _id("previous_run_id", null=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
)

recommendations_all = sa.Table(
    "recommendations_all",
    metadata,
    _id("run_id", key=True),
    _id("placement", key=True),
    _id("user_id", key=True),
    sa.Column("rank", sa.Integer, primary_key=True, autoincrement=False),
    _id("product_id"),
    sa.Column("score", sa.Float),
    sa.Column("reason", sa.Text),
    _id("reason_product_id", null=True),
    sqlite_with_rowid=False,
)

similar_products_all = sa.Table(
    "similar_products_all",
    metadata,
    _id("run_id", key=True),
    _id("product_id", key=True),
    sa.Column("rank", sa.Integer, primary_key=True, autoincrement=False),
    _id("neighbour_id"),
    sa.Column("score", sa.Float),
    sqlite_with_rowid=False,
)

clusters_all = sa.Table(
    "clusters_all",
    metadata,
    _id("run_id", key=True),
    sa.Column("cluster_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("label", sa.Text),
    sa.Column("size", sa.Integer),
    sa.Column("terms", Json),
)

cluster_members_all = sa.Table(
    "cluster_members_all",
    metadata,
    _id("run_id", key=True),
    _id("product_id", key=True),
    sa.Column("cluster_id", sa.Integer, nullable=False),
    sa.Column("distance", sa.Float),
    sqlite_with_rowid=False,
)

product_embeddings = sa.Table(
    "product_embeddings",
    metadata,
    _id("product_id", key=True),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("content_hash", sa.Text, nullable=False),
    sa.Column("dim", sa.Integer, nullable=False),
    sa.Column("vector", sa.LargeBinary, nullable=False),  # float32, little-endian
)

predicted_attributes = sa.Table(
    "predicted_attributes",
    metadata,
    _id("product_id", key=True),
    _id("attribute", key=True),
    sa.Column("value", sa.Text),
    sa.Column("confidence", sa.Float),
    sa.Column("model_version", sa.Text),
)

forgotten_users = sa.Table(
    "forgotten_users",
    metadata,
    _id("user_hash", key=True),
    sa.Column("forgotten_at", Time, nullable=False),
)
