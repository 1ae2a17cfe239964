"""Conversations, messages, feedback and profiles.

Databases from before there were revisions have these tables, or some of them: hence IF NOT EXISTS.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables that are missing."""
    op.create_table(
        "conversations",
        sa.Column("id", ID, primary_key=True),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("consent", sa.Boolean, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        if_not_exists=True,
    )
    op.create_index("conversations_by_user", "conversations", ["user_id", "id"], if_not_exists=True)
    op.create_table(
        "messages",
        sa.Column("id", ID, primary_key=True),
        sa.Column("conversation_id", ID, sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.UniqueConstraint("conversation_id", "position", name="messages_in_order"),
        if_not_exists=True,
    )
    op.create_table(
        "feedback",
        sa.Column("id", ID, primary_key=True),
        sa.Column("message_id", ID, sa.ForeignKey("messages.id", ondelete="CASCADE"), nullable=False),
        sa.Column("memory_id", ID, sa.ForeignKey("messages.id", ondelete="CASCADE"), nullable=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("rationale", sa.Text, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        if_not_exists=True,
    )
    op.create_index("feedback_by_message", "feedback", ["message_id"], if_not_exists=True)
    op.create_index("feedback_by_memory", "feedback", ["memory_id"], if_not_exists=True)
    op.create_table(
        "profiles",
        sa.Column("user_id", ID, primary_key=True),
        sa.Column("names", sa.Text, nullable=False),
        sa.Column("emails", sa.Text, nullable=False),
        sa.Column("phones", sa.Text, nullable=False),
        if_not_exists=True,
    )
