"""Chats that clients name by their turns: branches, and digests of turns. Imports, erasures and users' consent.

Conversations are listed by time: an id that is made of a client's own id does not sort by it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ID = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns and the table."""
    op.create_index("conversations_by_time", "conversations", ["user_id", "created_at", "id"])
    op.add_column("messages", sa.Column("parent", sa.Integer, nullable=True))
    op.add_column("messages", sa.Column("chain", sa.String, nullable=True))
    op.create_index("messages_by_chain", "messages", ["chain"])
    op.create_table(
        "consents",
        sa.Column("user_id", ID, primary_key=True),
        sa.Column("consent", sa.Boolean, nullable=False),
    )
    op.create_table(
        "unindexed",
        sa.Column("conversation_id", ID, sa.ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True),
    )
    op.create_table(
        "tombstones",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
