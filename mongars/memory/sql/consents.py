"""What users chose themselves about training on their conversations. It counts before the consent of their key."""

from sqlalchemy import Connection, delete, insert, select, update

from mongars.memory.sql.database import Database
from mongars.memory.sql.headers import check_owner, set_consent
from mongars.memory.sql.rows import check_ids
from mongars.memory.sql.tables import consents, conversations


class ConsentRepository:
    """The choices of all users; every method names its user."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, user: str) -> bool | None:
        """Return what a user chose, None for a user who chose nothing."""
        check_ids(user=user)
        with self._database.transaction(write=False) as connection:
            return chosen_consent(connection, user)

    def put(self, user: str, consent: bool) -> int:
        """Note a user's choice for all conversations, those to come too; return how many stored ones changed."""
        check_ids(user=user)
        is_other = (conversations.c.user_id == user) & conversations.c.consent.is_not(consent)
        with self._database.transaction(write=True) as connection:
            self._database.lock_user(connection, user)
            delete_consent(connection, user)
            connection.execute(insert(consents).values(user_id=user, consent=consent))
            changed: int = connection.execute(
                update(conversations).where(is_other).values(consent=consent)
            ).rowcount
            return changed

    def put_conversation(self, user: str, conversation_id: str, consent: bool) -> None:
        """Note a user's choice for one conversation. Raises ConversationNotFoundError."""
        check_ids(user=user, conversation_id=conversation_id)
        with self._database.transaction(write=True) as connection:
            check_owner(connection, user, conversation_id)
            set_consent(connection, conversation_id, consent)


def chosen_consent(connection: Connection, user: str) -> bool | None:
    """Return what a user chose, None for a user who chose nothing."""
    chosen: bool | None = connection.scalar(select(consents.c.consent).where(consents.c.user_id == user))
    return chosen


def delete_consent(connection: Connection, user: str) -> None:
    """Delete a user's choice."""
    connection.execute(delete(consents).where(consents.c.user_id == user))
