"""The database under several processes, a killed writer, and unusable URLs."""

import multiprocessing
import sqlite3
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from sqlalchemy import insert, inspect

from mongars.errors import SettingsError, UnavailableError
from mongars.memory.cache import FileTier
from mongars.memory.pages import PageQuery
from mongars.memory.sql.chains import START
from mongars.memory.sql.chats import Place
from mongars.memory.sql.database import Database
from mongars.memory.sql.persistence import PersistenceRepository
from mongars.memory.sql.rows import header_row, message_rows
from mongars.memory.sql.tables import conversations, messages
from mongars.records import Conversation, Turn, now

SPAWN = multiprocessing.get_context("spawn")
WRITERS = 3
APPENDS = 25
TIMEOUT_S = 60


def append_many(url: str, name: str, start: Event) -> None:
    repository = PersistenceRepository(url)
    repository.migrate()
    start.wait(TIMEOUT_S)
    for n in range(APPENDS):
        repository.append_turns("shared", "anna", [Turn("user", f"{name}/{n}")], consent=True)


def save_same(url: str, start: Event, answers: "multiprocessing.Queue[bool]") -> None:
    repository = PersistenceRepository(url)
    repository.migrate()
    start.wait(TIMEOUT_S)
    saved = repository.save_conversation(Conversation("same", "anna", (Turn("user", "x"),), consent=True))
    answers.put(saved.new)


def connection_that_writes(path: Path) -> sqlite3.Connection:
    """Return a connection in the middle of a write to a new file."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("CREATE TABLE other (x)")
    return connection


def hang_in_a_transaction(url: str, inside: Event) -> None:
    """Write a conversation and its messages, then wait to be killed before the commit."""
    with Database(url).transaction(write=True) as connection:
        connection.execute(insert(conversations), header_row("half", "anna", "test", True, now()))
        turns = [Turn("user", "x" * 10_000)] * 500
        connection.execute(
            insert(messages), message_rows("half", turns, Place(0, None, START), default_time=now())
        )
        inside.set()
        SPAWN.Event().wait(TIMEOUT_S)


def test_processes_that_write_at_once_lose_nothing(database_url: str) -> None:
    start = SPAWN.Event()
    writers = [SPAWN.Process(target=append_many, args=(database_url, f"w{n}", start)) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    start.set()
    for writer in writers:
        writer.join(TIMEOUT_S)
        assert writer.exitcode == 0
    (kept,) = PersistenceRepository(database_url).export_user("anna")
    texts = [turn.content for turn in kept.turns]
    assert len(texts) == WRITERS * APPENDS
    for n in range(WRITERS):
        assert [text for text in texts if text.startswith(f"w{n}/")] == [f"w{n}/{m}" for m in range(APPENDS)]


def test_only_one_of_two_processes_adds_the_same_conversation(database_url: str) -> None:
    start, answers = SPAWN.Event(), SPAWN.Queue()
    writers = [SPAWN.Process(target=save_same, args=(database_url, start, answers)) for _ in range(2)]
    for writer in writers:
        writer.start()
    start.set()
    assert sorted(answers.get(timeout=TIMEOUT_S) for _ in writers) == [False, True]
    for writer in writers:
        writer.join(TIMEOUT_S)
    (kept,) = PersistenceRepository(database_url).export_user("anna")
    assert len(kept.turns) == 1


@pytest.mark.parametrize(
    "open_file",
    [lambda path: PersistenceRepository(f"sqlite:///{path}").migrate(), lambda path: FileTier(path).close()],
    ids=["conversations", "cache"],
)
def test_opening_a_new_sqlite_file_waits_for_its_writer(tmp_path: Path, monkeypatch, open_file) -> None:
    path, pauses = tmp_path / "new.db", []
    other = connection_that_writes(path)

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        other.execute("COMMIT")

    monkeypatch.setattr("mongars.memory.sql.sqlite_waits.time.sleep", pause)
    open_file(path)
    other.close()
    assert len(pauses) == 1
    with Database(f"sqlite:///{path}").transaction(write=False) as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert {"other"} < set(inspect(connection).get_table_names())


def test_a_new_sqlite_file_that_stays_locked_is_reported(tmp_path: Path, monkeypatch) -> None:
    other = connection_that_writes(tmp_path / "new.db")
    monkeypatch.setattr("mongars.memory.sql.database.BUSY_TIMEOUT_S", 0.0)
    monkeypatch.setattr("mongars.memory.cache.BUSY_TIMEOUT_S", 0.0)
    with pytest.raises(UnavailableError, match=r"The database of the conversations failed \(OperationalError\)"):
        PersistenceRepository(f"sqlite:///{tmp_path}/new.db").migrate()
    with pytest.raises(UnavailableError, match="The cache file failed: database is locked"):
        FileTier(tmp_path / "new.db")
    other.close()


def test_a_killed_writer_leaves_nothing_of_its_transaction(database_url: str) -> None:
    repository = PersistenceRepository(database_url)
    repository.migrate()
    repository.append_turns("whole", "anna", [Turn("user", "x")])
    inside = SPAWN.Event()
    writer = SPAWN.Process(target=hang_in_a_transaction, args=(database_url, inside))
    writer.start()
    assert inside.wait(TIMEOUT_S)
    writer.kill()
    writer.join(TIMEOUT_S)
    assert [row.id for row in repository.conversations("anna", PageQuery()).data] == ["whole"]
    repository.append_turns("half", "anna", [Turn("user", "the lock is released")])
    assert len(repository.messages("anna", "half", PageQuery()).data) == 1


def test_deleted_text_leaves_the_sqlite_file_and_its_log(sqlite_repository, sqlite_path: Path) -> None:
    secret = "ABRACADABRA-" * 2_000  # long enough to fill pages of its own
    sqlite_repository.append_turns("c", "anna", [Turn("user", secret), Turn("user", "zanzibar")])
    files = lambda: b"".join(path.read_bytes() for path in sqlite_path.parent.glob(f"{sqlite_path.name}*"))  # noqa: E731
    assert b"ABRACADABRA" in files()
    assert b"zanzibar" in files()
    sqlite_repository.delete_conversation("anna", "c")
    assert b"ABRACADABRA" not in files()
    assert b"zanzibar" not in files()


def test_sqlite_is_opened_with_a_log_foreign_keys_and_overwriting_deletes(sqlite_repository, sqlite_path) -> None:
    with Database(f"sqlite:///{sqlite_path}").transaction(write=False) as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "secure_delete", "synchronous", "busy_timeout")
        }
    assert found == {
        "journal_mode": "wal",
        "foreign_keys": 1,
        "secure_delete": 1,
        "synchronous": 2,
        "busy_timeout": 30_000,
    }


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/x", "no url at all"])
def test_an_unusable_url_is_refused_with_a_remedy(url: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        PersistenceRepository(url)
    assert refusal.value.remedy


def test_a_missing_driver_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'mongars\[postgres\]'"):
        PersistenceRepository("postgresql://localhost/x")


@pytest.mark.parametrize("kind", ["absent server", "not a database"])
def test_an_unusable_database_is_unavailable_with_a_remedy(kind: str, tmp_path: Path) -> None:
    if kind == "absent server":
        url = f"postgresql:///x?host={tmp_path}"
    else:
        url = f"sqlite:///{tmp_path / 'text.db'}"
        (tmp_path / "text.db").write_text("this is no database " * 100)
    with pytest.raises(UnavailableError) as failure:
        PersistenceRepository(url).migrate()
    assert "MONGARS_DATABASE_URL" in str(failure.value)


def test_a_database_error_does_not_contain_the_text(sqlite_repository, sqlite_path: Path) -> None:
    broken = sqlite3.connect(sqlite_path)
    broken.execute("DROP TABLE messages")
    broken.close()
    with pytest.raises(UnavailableError) as failure:
        sqlite_repository.append_turns("c", "anna", [Turn("user", "zanzibar")])
    assert "zanzibar" not in f"{failure.value} {failure.value.__cause__}"
