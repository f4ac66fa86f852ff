"""SQLAlchemy Core tables of the store, including those that consumers read.

In: nothing. Out: `metadata` and one name per table. `sql/migrations` creates the tables; a test compares the two.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

from recsys.db.dialects.mysql_types import ID_LENGTH, IdText, LongText

metadata = sa.MetaData()

Id = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql").with_variant(IdText(), "mysql")
"""Ids are text compared byte by byte: leading zeros, case and Unicode forms are significant."""
LongString = sa.Text().with_variant(LongText(), "mysql")
Number = sa.Float().with_variant(mysql.DOUBLE(), "mysql")
Json = sa.JSON()
Time = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql")


def _id_column(name: str, *, key: bool = False, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, Id, primary_key=key, nullable=null and not key)


products = sa.Table(
    "products",
    metadata,
    _id_column("product_id", key=True),
    sa.Column("title", LongString),
    sa.Column("description", LongString),
    sa.Column("brand", LongString),
    sa.Column("category", LongString),
    sa.Column("price", Number),
    sa.Column("currency", LongString),
    sa.Column("image", LongString),
    sa.Column("available", sa.Boolean),
    _id_column("group_id", null=True),
    sa.Column("attributes", Json),
    sa.Column("created_at", Time),
    sa.Column("updated_at", Time),
    sa.Column("content_hash", LongString),
)

users = sa.Table("users", metadata, _id_column("user_id", key=True), sa.Column("attributes", Json))

events = sa.Table(
    "events",
    metadata,
    _id_column("user_id", key=True),
    sa.Column("occurred_at", Time, primary_key=True),
    _id_column("product_id", key=True),
    _id_column("event_type", key=True),
    sa.Column("order_id", Id, primary_key=True, server_default=""),
    # identical rows of one source are numbered 0, 1, ...: no row is lost, and reading a file twice changes nothing
    sa.Column("line_no", sa.Integer, primary_key=True, server_default="0", autoincrement=False),
    sa.Column("quantity", Number),
    sa.Column("value", Number),
    sqlite_with_rowid=False,
)

rejected_rows = sa.Table(
    "rejected_rows",
    metadata,
    sa.Column("source", LongString, nullable=False),
    sa.Column("row_no", sa.BigInteger),
    sa.Column("table_name", LongString, nullable=False),
    sa.Column("code", LongString, nullable=False),
    sa.Column("column_name", LongString),
    sa.Column("value_excerpt", LongString),
    sa.Column("row_json", LongString),
    _id_column("run_id", null=True),
)
sa.Index("rejected_rows_source", rejected_rows.c.source, mysql_length=ID_LENGTH)

# watermark of each SELECT on a source database
source_marks = sa.Table(
    "source_marks",
    metadata,
    _id_column("source", key=True),
    sa.Column("fingerprint", LongString, nullable=False),
    sa.Column("newest", Time),
    sa.Column("reached", Time),
    sa.Column("counts", Json),
    sa.Column("updated_at", Time, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    _id_column("run_id", key=True),
    sa.Column("kind", LongString, nullable=False),
    sa.Column("placement", Id, nullable=False),
    sa.Column("state", LongString, nullable=False),
    sa.Column("model_version", LongString),
    sa.Column("data_fingerprint", LongString),
    sa.Column("config_hash", LongString),
    sa.Column("extra", Json),
    sa.Column("counts", Json),
    sa.Column("metrics", Json),
    sa.Column("reason", LongString),
    sa.Column("started_at", Time),
    sa.Column("finished_at", Time),
    sa.Column("published_at", Time),
    sa.Column("pruned_at", Time),
    sa.Column("host", LongString),
    sa.Column("version", LongString),
)

# at most one unfinished run per placement, enforced by the database; on MySQL by a column that the migration adds
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
    _id_column("run_id", key=True),
    sa.Column("shard_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("n_users", sa.BigInteger, nullable=False),
    sa.Column("n_rows", sa.BigInteger, nullable=False),
    sa.Column("checksum", LongString, nullable=False),
)

publications = sa.Table(
    "publications",
    metadata,
    _id_column("placement", key=True),
    _id_column("run_id"),
    _id_column("previous_run_id", null=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
)

recommendations_all = sa.Table(
    "recommendations_all",
    metadata,
    _id_column("run_id", key=True),
    _id_column("placement", key=True),
    _id_column("user_id", key=True),
    sa.Column("rank", sa.Integer, primary_key=True, autoincrement=False),
    _id_column("product_id"),
    sa.Column("score", Number),
    sa.Column("reason", LongString),
    _id_column("reason_product_id", null=True),
    sqlite_with_rowid=False,
    postgresql_partition_by="LIST (run_id)",
)

similar_products_all = sa.Table(
    "similar_products_all",
    metadata,
    _id_column("run_id", key=True),
    _id_column("product_id", key=True),
    sa.Column("rank", sa.Integer, primary_key=True, autoincrement=False),
    _id_column("neighbour_id"),
    sa.Column("score", Number),
    sqlite_with_rowid=False,
    postgresql_partition_by="LIST (run_id)",
)

clusters_all = sa.Table(
    "clusters_all",
    metadata,
    _id_column("run_id", key=True),
    sa.Column("cluster_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("label", LongString),
    sa.Column("size", sa.Integer),
    sa.Column("terms", Json),
)

cluster_members_all = sa.Table(
    "cluster_members_all",
    metadata,
    _id_column("run_id", key=True),
    _id_column("product_id", key=True),
    sa.Column("cluster_id", sa.Integer, nullable=False),
    sa.Column("distance", Number),
    sqlite_with_rowid=False,
)

product_embeddings = sa.Table(
    "product_embeddings",
    metadata,
    _id_column("product_id", key=True),
    sa.Column("model_version", LongString, nullable=False),
    sa.Column("content_hash", LongString, nullable=False),
    sa.Column("dim", sa.Integer, nullable=False),
    sa.Column("vector", sa.LargeBinary, nullable=False),  # float32, little-endian
)

predicted_attributes = sa.Table(
    "predicted_attributes",
    metadata,
    _id_column("product_id", key=True),
    _id_column("attribute", key=True),
    sa.Column("value", LongString),
    sa.Column("confidence", Number),
    sa.Column("model_version", LongString),
)

forgotten_users = sa.Table(
    "forgotten_users",
    metadata,
    _id_column("user_hash", key=True),
    sa.Column("forgotten_at", Time, nullable=False),
)
