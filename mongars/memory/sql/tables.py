"""The tables, the same on SQLite and PostgreSQL. A change here needs a revision in migrations/."""

from datetime import UTC, datetime

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)


class UtcDateTime(TypeDecorator[datetime]):
    """A time with its zone, stored in UTC. SQLite has no time zones: there it is stored without."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the value to store."""
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return a stored value as a time in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Ids are compared byte by byte, which is SQLite's default. PostgreSQL's is the server's locale, so that the order
# of ids would depend on the server.
_Id = String().with_variant(String(collation="C"), "postgresql")

metadata = MetaData()

conversations = Table(
    "conversations",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("user_id", _Id, nullable=False),
    Column("source", Text, nullable=False),
    Column("consent", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index("conversations_by_user", "user_id", "id"),
    Index("conversations_by_time", "user_id", "created_at", "id"),
)

messages = Table(
    "messages",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("conversation_id", _Id, ForeignKey(conversations.c.id, ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("role", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # The position of the message that this one follows; null for the one before it. See branches.py.
    Column("parent", Integer, nullable=True),
    # The digest of the turns up to this one; null for messages from before there was one. See chains.py.
    Column("chain", String, nullable=True),
    UniqueConstraint("conversation_id", "position", name="messages_in_order"),
    Index("messages_by_chain", "chain"),
)

# Conversations that were imported, and whose messages a server may have to index. See imports.py.
unindexed = Table(
    "unindexed",
    metadata,
    Column("conversation_id", _Id, ForeignKey(conversations.c.id, ondelete="CASCADE"), primary_key=True),
)

# What was erased lately, so that an answer that was under way is not stored afterwards. See tombstones.py.
tombstones = Table(
    "tombstones",
    metadata,
    Column("key", String, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
)

# Each kind of value is a JSON list.
profiles = Table(
    "profiles",
    metadata,
    Column("user_id", _Id, primary_key=True),
    Column("names", Text, nullable=False),
    Column("emails", Text, nullable=False),
    Column("phones", Text, nullable=False),
)

# A user's own choice about training, which counts before that of the key.
consents = Table(
    "consents",
    metadata,
    Column("user_id", _Id, primary_key=True),
    Column("consent", Boolean, nullable=False),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", _Id, primary_key=True),
    # The answer, and for the feedback `retrieval` the message that was recalled for it.
    Column("message_id", _Id, ForeignKey(messages.c.id, ondelete="CASCADE"), nullable=False),
    Column("memory_id", _Id, ForeignKey(messages.c.id, ondelete="CASCADE"), nullable=True),
    Column("name", String, nullable=False),
    Column("value", Text, nullable=False),  # JSON
    Column("rationale", Text, nullable=True),
    Column("created_at", UtcDateTime, nullable=False),
    Index("feedback_by_message", "message_id"),
    Index("feedback_by_memory", "memory_id"),
)
