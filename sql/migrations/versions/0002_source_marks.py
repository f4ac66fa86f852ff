"""How far each SELECT of a shop's own tables has been read."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002_source_marks"
down_revision = "0001"
branch_labels = None
depends_on = None

Id = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the table; a store without a mark reads everything once more, which changes nothing."""
    op.create_table(
        "source_marks",
        sa.Column("source", Id, primary_key=True),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("newest", Time),
        sa.Column("reached", Time),
        sa.Column("counts", sa.JSON()),
        sa.Column("updated_at", Time, nullable=False),
    )
