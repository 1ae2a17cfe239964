"""The revisions of the schema, and the upgrade of a database to the newest one.

To change the schema, change tables.py and add versions/rev_NNNN_subject.py; a test compares the two. Revisions run
in one transaction. SQLite does not enforce foreign keys in it, because `op.batch_alter_table` rebuilds tables to
which others refer. There are no downgrades: restore a backup instead.
"""

import threading
from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table

from mongars.errors import RefusedError

FOLDER = Path(__file__).parent
VERSION_TABLE = "mongars_schema_version"  # not Alembic's default, which MLflow uses: both may share a database
_ALEMBIC = threading.Lock()  # its `op` and `context` are module globals


def is_current(connection: Connection) -> bool:
    """Return whether the database has the newest revision; cheaper than loading Alembic to find out."""
    newest = max(path.name.split("_")[1] for path in (FOLDER / "versions").glob("rev_*.py"))
    return _revision(connection) == newest


def upgrade(connection: Connection) -> None:
    """Run the revisions that the database lacks, in the caller's transaction, under the caller's lock.

    A database without a revision is new, or older than the revisions: the first one creates only missing tables.
    Raises RefusedError for a database of a newer version.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if (revision := _revision(connection)) not in {None, *known}:
        raise RefusedError(
            f"A newer version of monGARS made the database of the conversations (its schema is {revision!r}).",
            remedy="Install that version, or restore a backup from before it.",
        )
    with _ALEMBIC:
        command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))
    return revision
