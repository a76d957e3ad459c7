"""People, directions with what is said of them, lists, texts, runs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEPT = sa.text("deleted IS NULL")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("password", sa.String(), nullable=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("name", name="uq_users_name"),
    )
    op.create_table(
        "directions",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("artefact", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("origin", sa.String(), nullable=True),
        sa.Column("changed", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_directions_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_directions"),
    )
    op.create_index("ix_directions_model", "directions", ["model"], unique=False)
    op.create_index("ix_directions_site", "directions", ["site"], unique=False)
    op.create_index("ix_directions_user_id", "directions", ["user_id"], unique=False)
    op.create_index(
        "uq_directions_name",
        "directions",
        ["user_id", "model", "name"],
        unique=True,
        sqlite_where=KEPT,
        postgresql_where=KEPT,
    )
    op.create_table(
        "lists",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_lists_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_lists"),
    )
    op.create_index("ix_lists_model", "lists", ["model"], unique=False)
    op.create_index("ix_lists_user_id", "lists", ["user_id"], unique=False)
    op.create_index(
        "uq_lists_name", "lists", ["user_id", "model", "name"], unique=True, sqlite_where=KEPT, postgresql_where=KEPT
    )
    op.create_table(
        "runs",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("artefact", sa.String(), nullable=True),
        sa.Column("changed", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_runs_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_model", "runs", ["model"], unique=False)
    op.create_index("ix_runs_user_id", "runs", ["user_id"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("by_password", sa.Boolean(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sessions_user_id"),
        sa.PrimaryKeyConstraint("token_hash", name="pk_sessions"),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"], unique=False)
    op.create_table(
        "texts",
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_texts_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_texts"),
    )
    op.create_index("ix_texts_user_id", "texts", ["user_id"], unique=False)
    op.create_index(
        "uq_texts_name", "texts", ["user_id", "name"], unique=True, sqlite_where=KEPT, postgresql_where=KEPT
    )
    op.create_table(
        "comments",
        sa.Column("direction_id", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=True),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["direction_id"], ["directions.id"], name="fk_comments_direction_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_comments_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_comments"),
    )
    op.create_index("ix_comments_direction_id", "comments", ["direction_id"], unique=False)
    op.create_index("ix_comments_user_id", "comments", ["user_id"], unique=False)
    op.create_table(
        "descriptions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("direction_id", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=True),
        sa.Column("changed", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["direction_id"], ["directions.id"], name="fk_descriptions_direction_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_descriptions_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_descriptions"),
    )
    op.create_index("ix_descriptions_direction_id", "descriptions", ["direction_id"], unique=False)
    op.create_index("ix_descriptions_user_id", "descriptions", ["user_id"], unique=False)
    op.create_table(
        "list_items",
        sa.Column("list_id", sa.Integer(), nullable=False),
        sa.Column("direction_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["direction_id"], ["directions.id"], name="fk_list_items_direction_id"),
        sa.ForeignKeyConstraint(["list_id"], ["lists.id"], name="fk_list_items_list_id"),
        sa.PrimaryKeyConstraint("list_id", "direction_id", name="pk_list_items"),
    )
    op.create_index("ix_list_items_direction_id", "list_items", ["direction_id"], unique=False)
    op.create_table(
        "revisions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("direction_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("artefact", sa.String(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["direction_id"], ["directions.id"], name="fk_revisions_direction_id"),
        sa.PrimaryKeyConstraint("id", name="pk_revisions"),
        sa.UniqueConstraint("direction_id", "number", name="uq_revisions_direction_id_number"),
    )
    op.create_index("ix_revisions_direction_id", "revisions", ["direction_id"], unique=False)
    op.create_table(
        "tags",
        sa.Column("direction_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["direction_id"], ["directions.id"], name="fk_tags_direction_id"),
        sa.PrimaryKeyConstraint("direction_id", "name", name="pk_tags"),
    )
    op.create_index("ix_tags_name", "tags", ["name"], unique=False)
    op.create_table(
        "votes",
        sa.Column("description_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.CheckConstraint("value IN (-1, 0, 1)", name="ck_votes_value"),
        sa.ForeignKeyConstraint(["description_id"], ["descriptions.id"], name="fk_votes_description_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_votes_user_id"),
        sa.PrimaryKeyConstraint("description_id", "user_id", name="pk_votes"),
    )
