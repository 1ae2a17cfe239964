"""Upgrades of the schema, on a real SQLite and on a real PostgreSQL."""

import multiprocessing
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from mongars.errors import RefusedError
from mongars.memory.sql import migrations
from mongars.memory.sql.database import Database
from mongars.memory.sql.persistence import PersistenceRepository
from mongars.memory.sql.tables import metadata
from mongars.records import Opinion, Profile, Turn

SPAWN = multiprocessing.get_context("spawn")
TIMEOUT_S = 60
UNVERSIONED = Path(__file__).parent / "unversioned"
TABLES = ("conversations", "messages", "feedback", "profiles")

NEXT_REVISION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0003", "0002"


def upgrade():
    with op.batch_alter_table("conversations", recreate="auto") as table:
        table.add_column(sa.Column("title", sa.Text))
        table.alter_column("source", new_column_name="origin")
"""


@pytest.fixture
def database(database_url: str):
    database = Database(database_url)
    if database.is_sqlite:
        Path(database_url.removeprefix("sqlite:///")).parent.mkdir()
    yield database
    database.close()


@pytest.fixture
def unversioned(database: Database, database_url: str) -> str:
    """Return the URL of a database with rows in every table, made before the schema had revisions."""
    script = UNVERSIONED / ("sqlite.sql" if database.is_sqlite else "postgresql.sql")
    with database.transaction(write=True) as connection:
        for statement in script.read_text(encoding="utf-8").split(";\n"):
            connection.exec_driver_sql(statement)
    return database_url


@pytest.fixture
def next_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Add a revision that rebuilds a table to which others refer; `undo` of the result takes it out again."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrations.FOLDER, folder)
    (folder / "versions" / "rev_0003_title.py").write_text(NEXT_REVISION)
    monkeypatch.setattr(migrations, "FOLDER", folder)
    return monkeypatch


def contents(database: Database) -> dict[str, list[tuple[object, ...]]]:
    with database.transaction(write=False) as connection:
        return {
            name: sorted(map(tuple, connection.execute(text(f"SELECT * FROM {name}"))), key=str) for name in TABLES
        }


def widened(messages: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Return rows of messages with the columns that revision 0002 adds: parent and chain."""
    return [(*row, None, None) for row in messages]


def revision(database: Database) -> str:
    with database.transaction(write=False) as connection:
        return connection.scalar(text(f"SELECT version_num FROM {migrations.VERSION_TABLE}"))


def differences(database: Database) -> list[object]:
    with database.transaction(write=False) as connection:
        return compare_metadata(
            MigrationContext.configure(connection, opts={"version_table": migrations.VERSION_TABLE}), metadata
        )


def migrate_at_once(url: str, barrier) -> None:
    repository = PersistenceRepository(url)
    barrier.wait(TIMEOUT_S)
    repository.migrate()


def test_revisions_and_tables_agree(database):
    assert len(differences(database)) >= len(TABLES)
    database.migrate()
    assert differences(database) == []
    assert revision(database) == "0002"


def test_an_unversioned_database_is_upgraded_without_losing_a_row(unversioned, database):
    before = contents(database)
    assert [len(before[name]) for name in TABLES] == [2, 3, 2, 1]
    repository = PersistenceRepository(unversioned)
    repository.migrate()
    assert contents(database) == before | {"messages": widened(before["messages"])}
    assert differences(database) == []
    assert revision(database) == "0002"
    (kept,) = repository.export_user("anna")
    assert kept.turns[1] == Turn("assistant", "in the car", datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC))
    assert kept.opinions[0] == Opinion("where is the key?", "in the car", True)
    assert kept.profile == Profile(("Anna Moreau",), ("anna@home.example",))
    assert repository.erase_user("anna") == {"conversations": 1, "messages": 2, "feedback": 2, "profiles": 1}
    repository.close()


def test_an_unversioned_database_gets_the_tables_that_it_lacks(unversioned, database):
    before = contents(database)
    with database.transaction(write=True) as connection:
        connection.execute(text("DROP TABLE feedback"))
        connection.execute(text("DROP TABLE profiles"))
    database.migrate()
    assert differences(database) == []
    expected = {"messages": widened(before["messages"]), "feedback": [], "profiles": []}
    assert contents(database) == before | expected


def test_a_rebuilt_table_keeps_the_rows_that_refer_to_it(unversioned, database, next_revision):
    before = contents(database)
    database.migrate()
    after = contents(database)
    assert revision(database) == "0003"
    before["messages"] = widened(before["messages"])
    assert after.pop("conversations") == [(*row, None) for row in before.pop("conversations")]
    assert after == before
    with database.transaction(write=True) as connection:  # foreign keys are enforced again
        connection.execute(text("DELETE FROM conversations"))
    assert contents(database)["messages"] == []


def test_a_current_database_is_not_upgraded_again(database, monkeypatch):
    database.migrate()
    monkeypatch.setattr(migrations, "upgrade", None)
    database.migrate()


def test_a_database_that_mlflow_shares_keeps_the_revision_of_mlflow(database):
    with database.transaction(write=True) as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('of-mlflow')"))
    database.migrate()
    with database.transaction(write=False) as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "of-mlflow"
    assert revision(database) == "0002"


def test_a_failed_revision_leaves_the_database_as_it_was(unversioned, database, next_revision):
    broken = migrations.FOLDER / "versions" / "rev_0003_title.py"
    broken.write_text(NEXT_REVISION + "    raise RuntimeError\n")
    before = contents(database)
    with pytest.raises(RuntimeError):
        database.migrate()
    assert contents(database) == before
    with database.transaction(write=False) as connection:
        assert not connection.dialect.has_table(connection, migrations.VERSION_TABLE)


def test_a_database_of_a_newer_version_is_refused_and_stays_as_it_is(unversioned, database, next_revision):
    database.migrate()
    before = contents(database)
    next_revision.undo()
    with pytest.raises(RefusedError, match=r"newer version of monGARS.*'0003'.*Install that version"):
        database.migrate()
    assert contents(database) == before


@pytest.mark.parametrize("start", ["new", "unversioned"])
def test_processes_that_upgrade_at_once_do_not_disturb_each_other(request, database, database_url, start):
    if start == "unversioned":
        request.getfixturevalue("unversioned")
    barrier = SPAWN.Barrier(3)
    processes = [SPAWN.Process(target=migrate_at_once, args=(database_url, barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT_S)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert differences(database) == []


def test_an_upgrade_prints_nothing_and_leaves_logging_alone(database, capfd):
    import logging

    before = {name: logging.getLogger(name).level for name in ("", "alembic", "sqlalchemy")}
    handlers = list(logging.getLogger().handlers)
    database.migrate()
    assert capfd.readouterr() == ("", "")
    assert {name: logging.getLogger(name).level for name in before} == before
    assert logging.getLogger().handlers == handlers
