"""A user's memories by words and by vectors: a LanceDB index that can always be rebuilt from SQL.

The lexical retriever has one table of texts. The dense one has a table of vectors for each vector space, because
vectors of two encoders do not compare; `AdapterStamp.vector_space` names it.

Ids of users, conversations and messages are stored as SHA-256 hex. So the index has no names, and nothing in a
name can escape from a filter: LanceDB reads a backslash in a literal as an escape, which quoting misses.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mongars.errors import RefusedError
from mongars.memory.index.fusion import fuse
from mongars.memory.index.index_tables import IndexTables, words_are_indexed
from mongars.records import Memory

Found = TypeVar("Found")
CANDIDATES = 100  # rows that each retriever hands to the fusion; 10 times the usual k of 4 to 10
_TEXTS, _SPACE = "texts", "space_"
_KEYS = [pa.field(name, pa.string(), nullable=False) for name in ("id", "user", "conversation")]
_TEXT_SCHEMA = pa.schema([*_KEYS, pa.field("message", pa.string()), pa.field("text", pa.string())])


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that was found: its fused score, 0 to 1, and its score by retriever."""

    message: str
    score: float
    retriever_scores: Mapping[str, float] = field(default_factory=dict)


class MemoryIndex:
    """The index at a folder or object store URL. Safe to share between threads.

    At an object store an erasure may lose a concurrent append (see IndexTables); `Hippocampus.reembed` repairs
    that.
    """

    def __init__(self, uri: str, *, language: str = "English") -> None:
        """Open or create the index. `language` chooses the stemmer and the stop words of the lexical retriever."""
        # Each call opens its own tables, at the newest version, which does not change during the call.
        self._tables = IndexTables(uri, language=language)
        self._tables.ensured(_TEXTS, _TEXT_SCHEMA)

    # Writing

    def add_texts(self, memories: Sequence[Memory]) -> None:
        """Add messages to the lexical retriever; those that it already has do not change."""
        rows = [_keys_of(memory) | {"message": memory.id, "text": memory.text} for memory in memories]
        self._tables.insert(_TEXTS, pa.Table.from_pylist(rows, schema=_TEXT_SCHEMA))

    def add_vectors(self, vector_space: str, memories: Sequence[Memory], vectors: npt.NDArray[np.float32]) -> None:
        """Add messages to a vector space. `vectors` is [len(memories), d], L2-normalised.

        Raises RefusedError when the vector space has vectors of another length.
        """
        if vectors.shape[0] != len(memories) or not np.isfinite(vectors).all():
            raise RefusedError(f"The encoder gave {vectors.shape[0]} vectors for {len(memories)} texts, or NaN.")
        schema = _vector_schema(vectors.shape[1])
        name = _table_of(vector_space)
        _check_dimensions(self._tables.ensured(name, schema), vectors.shape[1])
        columns = {key: [_keys_of(memory)[key] for memory in memories] for key in ("id", "user", "conversation")}
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
        columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        self._tables.insert(name, pa.table(columns, schema=schema))

    def missing_texts(self, ids: Sequence[str]) -> set[str]:
        """Return those of the message ids that the lexical retriever lacks."""
        return self._missing(_TEXTS, ids)

    def missing_vectors(self, vector_space: str, ids: Sequence[str]) -> set[str]:
        """Return those of the message ids that a vector space lacks."""
        return self._missing(_table_of(vector_space), ids)

    def keep_vector_spaces(self, current: str, previous: int) -> None:
        """Drop all vector spaces but the `current` one and the `previous` ones that were written last.

        Outdated ones take space on the disk and slow down each erasure. They can be filled again.
        """
        with self._tables.writing:
            kept = _table_of(current)
            spaces = [name for name in self._tables.names() if name.startswith(_SPACE) and name != kept]
            newest_first = sorted(spaces, key=self._tables.written_at, reverse=True)
            self._tables.drop(newest_first[previous:])

    # Searching

    def search(
        self,
        user: str,
        text: str,
        k: int,
        *,
        vector_space: str | None = None,
        vector: npt.NDArray[np.float32] | None = None,
    ) -> list[Hit]:
        """Return the user's `k` best messages for a query, best first.

        `vector` is the query in `vector_space`, [d]. Without both, and for messages without a vector, only the
        words count.
        """
        condition = f"user = '{_key(user)}'"
        return self._read(lambda: self._search(condition, text, k, vector_space, vector))

    def _search(
        self, condition: str, text: str, k: int, vector_space: str | None, vector: npt.NDArray[np.float32] | None
    ) -> list[Hit]:
        from lancedb.query import MatchQuery

        texts = self._tables.ensured(_TEXTS, _TEXT_SCHEMA)
        if not words_are_indexed(texts):
            texts = self._tables.with_words_indexed(_TEXTS)  # else they would not be stemmed
        found = (
            texts.search(MatchQuery(text, "text"), query_type="fts")
            .where(condition)
            .select(["id", "message", "_score"])
            .limit(CANDIDATES)
        ).to_list()
        lexical = {row["id"]: float(row["_score"]) for row in found}
        messages = {row["id"]: row["message"] for row in found}
        dense = dict[str, float]()
        if vector_space is not None and vector is not None:
            dense = self._similarities(vector_space, vector, condition, lexical)
        best = fuse(lexical, dense)[:k]
        if unnamed := [key for key, _, _ in best if key not in messages]:
            named = texts.search().where(_among(unnamed)).select(["id", "message"]).limit(len(unnamed))
            messages |= {row["id"]: row["message"] for row in named.to_list()}
        return [Hit(messages[key], score, parts) for key, score, parts in best if key in messages]

    def _similarities(
        self, vector_space: str, vector: npt.NDArray[np.float32], condition: str, lexical: Mapping[str, float]
    ) -> dict[str, float]:
        """Return the cosine of the nearest rows and of every lexical candidate that has a vector, by key."""
        if (table := self._tables.opened(_table_of(vector_space))) is None:
            return {}
        _check_dimensions(table, vector.shape[0])

        def nearest(where: str) -> dict[str, float]:
            # On normalised vectors 1 - dot is the cosine distance, without a division by a zero norm.
            query = table.search(vector, vector_column_name="vector").distance_type("dot").where(where)
            rows = query.select(["id", "_distance"]).limit(CANDIDATES).to_list()
            return {row["id"]: 1.0 - float(row["_distance"]) for row in rows}

        cosines = nearest(condition)
        others = [key for key in lexical if key not in cosines]
        if others and len(cosines) == CANDIDATES:  # fewer are all that the user has
            cosines |= nearest(f"{condition} AND {_among(others)}")
        return cosines

    # Removing

    def remove_user(self, user: str) -> int:
        """Erase everything of a user from the disk; returns how many messages the lexical retriever had."""
        return self._remove(f"user = '{_key(user)}'")

    def remove_conversation(self, user: str, conversation_id: str) -> int:
        """Erase a conversation from the disk; returns how many messages the lexical retriever had."""
        return self._remove(f"user = '{_key(user)}' AND conversation = '{_key(conversation_id)}'")

    def remove_messages(self, ids: Sequence[str]) -> int:
        """Erase messages from the disk; returns how many the lexical retriever had."""
        return self._remove(_among([_key(identity) for identity in ids])) if ids else 0

    def _remove(self, condition: str) -> int:
        return self._tables.remove(condition).get(_TEXTS, 0)

    def _read(self, read: Callable[[], Found]) -> Found:
        """Return the result of `read`, tried again without writers if one removed what it was reading."""
        try:
            return read()
        except (RuntimeError, OSError):
            with self._tables.writing:
                return read()

    def _missing(self, name: str, ids: Sequence[str]) -> set[str]:
        return self._read(lambda: self._missing_of(name, ids))

    def _missing_of(self, name: str, ids: Sequence[str]) -> set[str]:
        table = self._tables.opened(name) if ids else None
        if table is None:
            return set(ids)
        keys = {_key(identity): identity for identity in ids}
        query = table.search().where(_among(keys)).select(["id"]).limit(len(keys))
        present = {row["id"] for row in query.to_list()}
        return {identity for key, identity in keys.items() if key not in present}


def _key(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def _keys_of(memory: Memory) -> dict[str, str]:
    return {
        "id": _key(memory.id),
        "user": _key(memory.user),
        "conversation": _key(memory.conversation_id),
    }


def _among(keys: Mapping[str, Any] | Sequence[str]) -> str:
    return f"id IN ({', '.join(repr(key) for key in keys)})"


def _table_of(vector_space: str) -> str:
    return f"{_SPACE}{vector_space}"


def _check_dimensions(table: Any, given: int) -> None:
    expected = table.schema.field("vector").type.list_size
    if expected != given:
        raise RefusedError(
            f"{table.name} has vectors of {expected} numbers, the encoder gave {given}.",
            remedy="Stop the server, remove the index and start again: it is filled from the database.",
        )


def _vector_schema(dimensions: int) -> pa.Schema:
    return pa.schema([*_KEYS, pa.field("vector", pa.list_(pa.float32(), dimensions), nullable=False)])
