"""Finds a user's memories by words and by vectors: a LanceDB index that can always be rebuilt from SQL.

Owns the lexical lane (one table of texts), the dense lane (one table of vectors for each space, which
`AdapterStamp.space` names: vectors of two encoders do not compare), their fusion, and which spaces are kept.
Must not know models or SQL.

Keys of users, conversations and messages are kept as SHA-256 hex. So a filter is made of hex digits only and
nothing in a name can escape it (LanceDB reads a backslash in a literal as an escape, which quoting misses),
and the index holds no names.
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
CANDIDATES = 100  # rows that each lane hands to the fusion; 10 times the usual k of 4 to 10
_TEXTS, _SPACE = "texts", "space_"
_KEYS = [pa.field(name, pa.string(), nullable=False) for name in ("id", "user", "conversation")]
_TEXT_SCHEMA = pa.schema([*_KEYS, pa.field("message", pa.string()), pa.field("text", pa.string())])


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that was found: its fused score, 0 to 1, and that score's parts by lane."""

    message: str
    score: float
    lanes: Mapping[str, float] = field(default_factory=dict)


class MemoryIndex:
    """The index at a folder or object store URL. Safe to share between threads.

    What an append at an object store may lose to an erasure (see IndexTables), `Hippocampus.reembed` puts back.
    """

    def __init__(self, uri: str, *, language: str = "English") -> None:
        """Open or make the index. `language` chooses the stemmer and the stop words of the lexical lane."""
        # Each call opens the tables it needs: they are then the newest version, and stay at it during the call.
        self._tables = IndexTables(uri, language=language)
        self._tables.ensured(_TEXTS, _TEXT_SCHEMA)

    # Writing

    def add_texts(self, memories: Sequence[Memory]) -> None:
        """Put messages into the lexical lane; those that are there already stay as they are."""
        rows = [_keys_of(memory) | {"message": memory.id, "text": memory.text} for memory in memories]
        self._tables.insert(_TEXTS, pa.Table.from_pylist(rows, schema=_TEXT_SCHEMA))

    def add_vectors(self, space: str, memories: Sequence[Memory], vectors: npt.NDArray[np.float32]) -> None:
        """Put messages into a space. `vectors` is [len(memories), d], L2-normalised.

        Raises RefusedError when the space holds vectors of another length.
        """
        if vectors.shape[0] != len(memories) or not np.isfinite(vectors).all():
            raise RefusedError(f"{vectors.shape[0]} vectors came for {len(memories)} texts, or not finite ones.")
        schema = _vector_schema(vectors.shape[1])
        name = _table_of(space)
        _check_dimensions(self._tables.ensured(name, schema), vectors.shape[1])
        columns = {key: [_keys_of(memory)[key] for memory in memories] for key in ("id", "user", "conversation")}
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
        columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        self._tables.insert(name, pa.table(columns, schema=schema))

    def missing_texts(self, ids: Sequence[str]) -> set[str]:
        """Return those of the message ids that the lexical lane lacks."""
        return self._missing(_TEXTS, ids)

    def missing_vectors(self, space: str, ids: Sequence[str]) -> set[str]:
        """Return those of the message ids that a space lacks."""
        return self._missing(_table_of(space), ids)

    def keep_spaces(self, current: str, earlier: int) -> None:
        """Drop all spaces but the `current` one and the `earlier` ones that were written last.

        Spaces of encoders that answer no more take disk, and time from each erasure. One that is asked for again
        is filled again.
        """
        with self._tables.writing:
            kept = _table_of(current)
            spaces = [name for name in self._tables.names() if name.startswith(_SPACE) and name != kept]
            newest_first = sorted(spaces, key=self._tables.written_at, reverse=True)
            self._tables.drop(newest_first[earlier:])

    # Searching

    def search(
        self,
        user: str,
        text: str,
        k: int,
        *,
        space: str | None = None,
        vector: npt.NDArray[np.float32] | None = None,
        exclude_conversation: str | None = None,
    ) -> list[Hit]:
        """Return the user's `k` best messages for a query, best first.

        `vector` is the query in `space`, [d]; without both only words count. Messages that the space lacks are
        scored by words alone.
        """
        mine = f"user = '{_key(user)}'"
        if exclude_conversation is not None:
            mine += f" AND conversation != '{_key(exclude_conversation)}'"
        return self._read(lambda: self._search(mine, text, k, space, vector))

    def _search(
        self, mine: str, text: str, k: int, space: str | None, vector: npt.NDArray[np.float32] | None
    ) -> list[Hit]:
        from lancedb.query import MatchQuery

        texts = self._tables.ensured(_TEXTS, _TEXT_SCHEMA)
        if not words_are_indexed(texts):
            texts = self._tables.with_words_indexed(_TEXTS)  # else they would not be stemmed
        found = (
            texts.search(MatchQuery(text, "text"), query_type="fts")
            .where(mine)
            .select(["id", "message", "_score"])
            .limit(CANDIDATES)
        ).to_list()
        lexical = {row["id"]: float(row["_score"]) for row in found}
        messages = {row["id"]: row["message"] for row in found}
        dense = {} if space is None or vector is None else self._similarities(space, vector, mine, lexical)
        best = fuse(lexical, dense)[:k]
        if unnamed := [key for key, _, _ in best if key not in messages]:
            named = texts.search().where(_among(unnamed)).select(["id", "message"]).limit(len(unnamed))
            messages |= {row["id"]: row["message"] for row in named.to_list()}
        return [Hit(messages[key], score, lanes) for key, score, lanes in best if key in messages]

    def _similarities(
        self, space: str, vector: npt.NDArray[np.float32], mine: str, lexical: Mapping[str, float]
    ) -> dict[str, float]:
        """Return the cosine of the nearest rows and of every lexical candidate that has a vector, by key."""
        if (table := self._tables.opened(_table_of(space))) is None:
            return {}
        _check_dimensions(table, vector.shape[0])

        def nearest(condition: str) -> dict[str, float]:
            # On normalised vectors 1 - dot is the cosine distance, and it has no division by a zero norm.
            query = table.search(vector, vector_column_name="vector").distance_type("dot").where(condition)
            rows = query.select(["id", "_distance"]).limit(CANDIDATES).to_list()
            return {row["id"]: 1.0 - float(row["_distance"]) for row in rows}

        cosines = nearest(mine)
        further = [key for key in lexical if key not in cosines]
        if further and len(cosines) == CANDIDATES:  # with fewer, these were all that the user has
            cosines |= nearest(f"{mine} AND {_among(further)}")
        return cosines

    # Removing

    def remove_user(self, user: str) -> int:
        """Take everything of a user off the disk; returns how many messages the lexical lane held."""
        return self._remove(f"user = '{_key(user)}'")

    def remove_conversation(self, user: str, conversation_id: str) -> int:
        """Take a user's conversation off the disk; returns how many messages the lexical lane held."""
        return self._remove(f"user = '{_key(user)}' AND conversation = '{_key(conversation_id)}'")

    def remove_messages(self, ids: Sequence[str]) -> int:
        """Take messages off the disk; returns how many the lexical lane held."""
        return self._remove(_among([_key(identity) for identity in ids])) if ids else 0

    def _remove(self, condition: str) -> int:
        return self._tables.remove(condition).get(_TEXTS, 0)

    def _read(self, look: Callable[[], Found]) -> Found:
        """Return what `look` finds, also where a version or a space that it was reading is removed meanwhile."""
        try:
            return look()
        except (RuntimeError, OSError):
            with self._tables.writing:  # nobody removes any
                return look()

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


def _table_of(space: str) -> str:
    return f"{_SPACE}{space}"


def _check_dimensions(table: Any, given: int) -> None:
    held = table.schema.field("vector").type.list_size
    if held != given:
        raise RefusedError(
            f"{table.name} holds vectors of {held} numbers, the encoder gave {given}.",
            remedy="Stop the server, remove the index and start again: it is filled from the database.",
        )


def _vector_schema(dimensions: int) -> pa.Schema:
    return pa.schema([*_KEYS, pa.field("vector", pa.list_(pa.float32(), dimensions), nullable=False)])
