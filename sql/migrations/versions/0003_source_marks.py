"""Watermarks: how far each SELECT on a source database has been read."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

from recsys.db.dialects.mysql_types import IdText, LongText

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Id = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql").with_variant(IdText(), "mysql")
Words = sa.Text().with_variant(LongText(), "mysql")
Time = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql")


def upgrade() -> None:
    """Create the table; a store without a watermark reads all rows once more, which changes nothing."""
    op.create_table(
        "source_marks",
        sa.Column("source", Id, primary_key=True),
        sa.Column("fingerprint", Words, nullable=False),
        sa.Column("newest", Time),
        sa.Column("reached", Time),
        sa.Column("counts", sa.JSON()),
        sa.Column("updated_at", Time, nullable=False),
        if_not_exists=True,  # MySQL keeps a table although a later statement failed
    )
