"""First schema: inputs, runs with ledger and publications, recommendations, clusters, vectors."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

from recsys.db.dialects.mysql_types import IdText, LongText

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Id = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql").with_variant(IdText(), "mysql")
Words = sa.Text().with_variant(LongText(), "mysql")
Number = sa.Float().with_variant(mysql.DOUBLE(), "mysql")
Json = sa.JSON()
Time = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql")


def _id(name: str, *, key: bool = False, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, Id, primary_key=key, nullable=null and not key)


def upgrade() -> None:
    """Create all tables of the first version."""
    op.create_table(
        "products",
        _id("product_id", key=True),
        sa.Column("title", Words),
        sa.Column("description", Words),
        sa.Column("brand", Words),
        sa.Column("category", Words),
        sa.Column("price", Number),
        sa.Column("currency", Words),
        sa.Column("image", Words),
        sa.Column("available", sa.Boolean),
        _id("group_id", null=True),
        sa.Column("attributes", Json),
        sa.Column("created_at", Time),
        sa.Column("updated_at", Time),
        sa.Column("content_hash", Words),
    )
    op.create_table(
        "users",
        _id("user_id", key=True),
        sa.Column("attributes", Json),
    )
    op.create_table(
        "events",
        _id("user_id", key=True),
        sa.Column("occurred_at", Time, primary_key=True),
        _id("product_id", key=True),
        _id("event_type", key=True),
        sa.Column("order_id", Id, primary_key=True, server_default=""),
        # identical rows of one source are numbered 0, 1, ...: no row is lost, and reading a file twice changes nothing
        sa.Column("line_no", sa.Integer, primary_key=True, server_default="0", autoincrement=False),
        sa.Column("quantity", Number),
        sa.Column("value", Number),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rejected_rows",
        sa.Column("source", Words, nullable=False),
        sa.Column("row_no", sa.BigInteger),
        sa.Column("table_name", Words, nullable=False),
        sa.Column("code", Words, nullable=False),
        sa.Column("column_name", Words),
        sa.Column("value_excerpt", Words),
        sa.Column("row_json", Words),
        _id("run_id", null=True),
    )
    op.create_table(
        "runs",
        _id("run_id", key=True),
        sa.Column("kind", Words, nullable=False),
        sa.Column("placement", Id, nullable=False),
        sa.Column("state", Words, nullable=False),
        sa.Column("model_version", Words),
        sa.Column("data_fingerprint", Words),
        sa.Column("config_hash", Words),
        sa.Column("extra", Json),
        sa.Column("counts", Json),
        sa.Column("metrics", Json),
        sa.Column("reason", Words),
        sa.Column("started_at", Time),
        sa.Column("finished_at", Time),
        sa.Column("published_at", Time),
        sa.Column("pruned_at", Time),
        sa.Column("host", Words),
        sa.Column("version", Words),
    )
    op.create_table(
        "run_shards",
        _id("run_id", key=True),
        sa.Column("shard_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("n_users", sa.BigInteger, nullable=False),
        sa.Column("n_rows", sa.BigInteger, nullable=False),
        sa.Column("checksum", Words, nullable=False),
    )
    op.create_table(
        "publications",
        _id("placement", key=True),
        _id("run_id"),
        _id("previous_run_id", null=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("updated_at", Time, nullable=False),
    )
    op.create_table(
        "recommendations_all",
        _id("run_id", key=True),
        _id("placement", key=True),
        _id("user_id", key=True),
        sa.Column("rank", sa.Integer, primary_key=True, autoincrement=False),
        _id("product_id"),
        sa.Column("score", Number),
        sa.Column("reason", Words),
        _id("reason_product_id", null=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "similar_products_all",
        _id("run_id", key=True),
        _id("product_id", key=True),
        sa.Column("rank", sa.Integer, primary_key=True, autoincrement=False),
        _id("neighbour_id"),
        sa.Column("score", Number),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "clusters_all",
        _id("run_id", key=True),
        sa.Column("cluster_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("label", Words),
        sa.Column("size", sa.Integer),
        sa.Column("terms", Json),
    )
    op.create_table(
        "cluster_members_all",
        _id("run_id", key=True),
        _id("product_id", key=True),
        sa.Column("cluster_id", sa.Integer, nullable=False),
        sa.Column("distance", Number),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "product_embeddings",
        _id("product_id", key=True),
        sa.Column("model_version", Words, nullable=False),
        sa.Column("content_hash", Words, nullable=False),
        sa.Column("dim", sa.Integer, nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),  # float32, little-endian
    )
    op.create_table(
        "predicted_attributes",
        _id("product_id", key=True),
        _id("attribute", key=True),
        sa.Column("value", Words),
        sa.Column("confidence", Number),
        sa.Column("model_version", Words),
    )
    op.create_table(
        "forgotten_users",
        _id("user_hash", key=True),
        sa.Column("forgotten_at", Time, nullable=False),
    )
    op.create_index("rejected_rows_source", "rejected_rows", ["source"], mysql_length=190)
    building = sa.text("state = 'building'")
    if op.get_bind().dialect.name == "mysql":  # it has no partial indexes, but NULL values are exempt from UNIQUE
        op.execute(
            'ALTER TABLE "runs" ADD COLUMN "building_placement" VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin '
            "GENERATED ALWAYS AS (CASE WHEN state = 'building' THEN placement END) VIRTUAL, "
            'ADD UNIQUE INDEX "runs_building" ("building_placement")'
        )
        return
    op.create_index(
        "runs_building", "runs", ["placement"], unique=True, sqlite_where=building, postgresql_where=building
    )
