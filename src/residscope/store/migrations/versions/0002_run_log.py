"""What a run went through, with the times."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Give runs a log."""
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("log", sa.JSON(), nullable=False, server_default="[]"))
