"""The LanceDB index: retrievers, filters, vector spaces, erasure from the disk."""

import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mongars.errors import RefusedError
from mongars.memory.index.index import MemoryIndex
from mongars.memory.index.index_tables import COMPACT_EVERY, IndexTables
from mongars.records import Memory, new_id, now

ENCODER, BASE = "e" * 64, "base"
AWKWARD = ["o'neil", "a\\b", "a\\'b", "' OR 1=1 --", "\\' OR 1=1 --", "%", "_", "*", "a\nb", "😀", 'é`";{}', ""]


def memory(text: str, user: str = "anna", conversation: str = "c") -> Memory:
    return Memory(new_id("msg"), user, conversation, "user", text, now())


def unit(*rows: Sequence[float]) -> np.ndarray:
    vectors = np.array(rows, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def found(index: MemoryIndex, user: str, text: str, k: int = 10, **options) -> list[str]:
    return [hit.message for hit in index.search(user, text, k, **options)]


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_words_are_stemmed_and_stop_words_ignored(index: MemoryIndex) -> None:
    running, walking = memory("she was running late"), memory("he had walked and the door was open")
    index.add_texts([running, walking])
    assert found(index, "anna", "run") == [running.id]
    assert found(index, "anna", "WALKS") == [walking.id]
    assert found(index, "anna", "the was and") == []


def test_the_next_search_builds_a_word_index_that_a_crash_prevented(index_folder: Path) -> None:
    running = memory("she was running late")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IndexTables, "_build_indices", lambda *_: None)
        MemoryIndex(str(index_folder)).add_texts([running])
    assert found(MemoryIndex(str(index_folder)), "anna", "runs") == [running.id]


@pytest.mark.parametrize(
    "query", ["", " ", "!!", '"quoted', "a AND (", "text:x", "\\", "x" * 10_000, "\0", "日本"]
)
def test_no_query_is_a_syntax_error(index: MemoryIndex, query: str) -> None:
    index.add_texts([memory("hello world")])
    assert found(index, "anna", query) == []


def test_users_with_quotes_and_backslashes_find_only_their_own_rows(index: MemoryIndex) -> None:
    rows = {user: memory("the needle", user) for user in AWKWARD}
    index.add_texts(list(rows.values()))
    for user, row in rows.items():
        assert found(index, user, "needle") == [row.id]
    assert index.remove_user("' OR 1=1 --") == 1
    assert index.remove_conversation("a\\b", "c") == 1
    assert [user for user in rows if found(index, user, "needle")] == [
        user for user in AWKWARD if user not in ("' OR 1=1 --", "a\\b")
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(users=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2, unique=True))
def test_no_user_finds_messages_of_another(index: MemoryIndex, users: list[str]) -> None:
    mine, theirs = memory("the needle", users[0]), memory("the needle", users[1])
    index.add_texts([mine, theirs])
    index.add_vectors(BASE, [mine, theirs], unit([1, 0], [1, 0]))
    hits = found(index, users[0], "needle", 100, vector_space=BASE, vector=np.array([1, 0], np.float32))
    assert mine.id in hits
    assert theirs.id not in hits
    index.remove_user(users[0])
    index.remove_user(users[1])


def test_adding_again_changes_nothing(index: MemoryIndex) -> None:
    row = memory("the needle")
    for _ in range(3):
        index.add_texts([row])
        index.add_vectors(ENCODER, [row], unit([1, 0]))
    assert found(index, "anna", "needle") == [row.id]
    assert index.remove_user("anna") == 1


def test_each_encoder_has_its_own_vector_space(index: MemoryIndex) -> None:
    north, east = memory("aaa"), memory("bbb")
    index.add_texts([north, east])
    index.add_vectors(BASE, [north, east], unit([1, 0], [0, 1]))
    index.add_vectors(ENCODER, [north, east], unit([0, 1, 0], [1, 0, 0]))
    assert found(index, "anna", "?", 1, vector_space=BASE, vector=np.array([1, 0], np.float32)) == [north.id]
    assert found(index, "anna", "?", 1, vector_space=ENCODER, vector=np.array([1, 0, 0], np.float32)) == [east.id]
    assert found(index, "anna", "?", vector_space="f" * 64, vector=np.array([1, 0], np.float32)) == []


def test_a_dropped_vector_space_can_be_filled_again(index: MemoryIndex) -> None:
    row, digests = memory("aaa"), ["a" * 64, "b" * 64, "c" * 64, "d" * 64]
    index.add_texts([row])
    for digest in (BASE, *digests):
        index.add_vectors(digest, [row], unit([1, 0]))
    index.keep_vector_spaces("a" * 64, previous=2)
    missing = {digest for digest in (BASE, *digests) if index.missing_vectors(digest, [row.id])}
    assert missing == {BASE, "b" * 64}
    index.add_vectors(BASE, [row], unit([1, 0]))
    assert index.missing_vectors(BASE, [row.id]) == set()
    assert found(index, "anna", "aaa") == [row.id]


def test_hybrid_search_prefers_rows_that_both_retrievers_find(index: MemoryIndex) -> None:
    both, word, meaning, neither = rows = [
        memory("blue needle"),
        memory("a needle"),
        memory("pin"),
        memory("rain"),
    ]
    index.add_texts(rows)
    index.add_vectors(BASE, rows, unit([1, 0.1], [0, 1], [1, 0.2], [0, 1]))
    hits = index.search("anna", "blue needle", 4, vector_space=BASE, vector=np.array([1, 0], np.float32))
    assert hits[0].message == both.id
    assert {hit.message for hit in hits[:3]} == {both.id, word.id, meaning.id}
    assert hits[-1].message == neither.id
    assert hits[-1].score == 0.0


def test_a_noisy_encoder_does_not_hide_the_only_lexical_match(index: MemoryIndex) -> None:
    rows = [memory(f"line number {n}") for n in range(200)] + [memory("zanzibar")]
    index.add_texts(rows)
    noise = np.random.default_rng(7).standard_normal((len(rows) + 1, 16))
    index.add_vectors(BASE, rows, unit(*noise[1:]))
    assert found(index, "anna", "zanzibar", 1, vector=unit(noise[0])[0]) == [rows[-1].id]


def test_each_retriever_reports_the_ids_that_it_lacks(index: MemoryIndex) -> None:
    rows = [memory("a"), memory("b")]
    ids = [row.id for row in rows]
    assert index.missing_texts(ids) == index.missing_vectors(ENCODER, ids) == set(ids)
    index.add_texts(rows)
    index.add_vectors(ENCODER, rows[:1], unit([1, 0]))
    assert index.missing_texts(ids) == set()
    assert index.missing_vectors(ENCODER, ids) == {ids[1]}
    assert index.missing_vectors(BASE, []) == set()


def test_vectors_of_another_length_and_nan_are_refused(index: MemoryIndex) -> None:
    row = memory("a")
    index.add_vectors(BASE, [row], unit([1, 0]))
    with pytest.raises(RefusedError, match="remove the index"):
        index.add_vectors(BASE, [memory("b")], unit([1, 0, 0]))
    with pytest.raises(RefusedError, match="remove the index"):
        index.search("anna", "a", 1, vector_space=BASE, vector=np.array([1, 0, 0], np.float32))
    with pytest.raises(RefusedError):
        index.add_vectors(BASE, [memory("b")], np.array([[np.nan, 1]], np.float32))
    with pytest.raises(RefusedError):
        index.add_vectors(BASE, [memory("b"), memory("c")], unit([1, 0]))


@pytest.mark.parametrize("others", [0, 1, 300])
def test_one_erased_message_among_many_leaves_no_byte_of_text_or_vector(
    index: MemoryIndex, index_folder: Path, others: int
) -> None:
    """LanceDB's `optimize` does not rewrite a file of which less than a tenth is deleted."""
    secret, vector = memory("Zanzibarquuxes run"), unit(np.random.default_rng(1).standard_normal(64))
    rows = [memory(f"harmless line {n}", "bob") for n in range(others)]
    index.add_texts([secret, *rows])
    vectors = (
        np.concatenate([vector, unit(*np.random.default_rng(2).standard_normal((others, 64)))])
        if others
        else vector
    )
    index.add_vectors(ENCODER, [secret, *rows], vectors)
    assert b"Zanzibarquuxes" in bytes_of(index_folder)
    assert vector.tobytes()[:32] in bytes_of(index_folder)

    assert index.remove_messages([secret.id]) == 1

    left = bytes_of(index_folder)
    for trace in (b"anzibarquux", secret.id.encode(), vector.tobytes()[:32]):
        assert trace not in left
    assert len(found(index, "bob", "harmless", 100)) == min(others, 100)
    assert index.missing_vectors(ENCODER, [row.id for row in rows]) == set()


def test_removing_unknown_rows_writes_nothing(index: MemoryIndex, index_folder: Path) -> None:
    index.add_texts([memory("a needle")])
    before = bytes_of(index_folder)
    assert index.remove_user("bob") == index.remove_messages([]) == 0
    assert bytes_of(index_folder) == before


def test_rows_stay_findable_across_compaction(index: MemoryIndex) -> None:
    rows = [memory(f"needle number{n}") for n in range(COMPACT_EVERY + 3)]
    for row in rows:
        index.add_texts([row])
    assert sorted(found(index, "anna", "needle", 100)) == sorted(row.id for row in rows)
    assert found(index, "anna", "number3", 1) == [rows[3].id]


def test_processes_see_the_writes_of_each_other(index: MemoryIndex, index_folder: Path) -> None:
    row = memory("the needle")
    index.add_texts([row])
    code = f"""
from mongars.memory.index.index import MemoryIndex
from mongars.records import Memory, now
index = MemoryIndex({str(index_folder)!r})
assert [hit.message for hit in index.search("anna", "needle", 5)] == [{row.id!r}]
index.add_texts([Memory("msg_other", "anna", "c", "user", "haystack", now())])
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert found(index, "anna", "haystack") == ["msg_other"]


def test_searches_succeed_during_writes_and_erasures(index: MemoryIndex, index_folder: Path) -> None:
    kept = [memory(f"needle {n}") for n in range(30)]
    index.add_texts(kept)
    index.add_vectors(BASE, kept, unit(*np.random.default_rng(3).standard_normal((30, 8))))
    query, failures, searches, stop = unit([1.0] * 8)[0], [], [], threading.Event()

    def search() -> None:
        own_index = MemoryIndex(str(index_folder))
        while not stop.is_set():
            try:
                hits = own_index.search("anna", "needling", 100, vector=query)
                missing = own_index.missing_vectors(BASE, [row.id for row in kept])
                searches.append(len(hits))
            except Exception as error:  # noqa: BLE001 (asserted below)
                failures.append(error)
                return
            if {hit.message for hit in hits if hit.retriever_scores["lexical"]} != {row.id for row in kept}:
                failures.append(AssertionError(f"{len(hits)} hits"))
            if missing:
                failures.append(AssertionError(f"{len(missing)} missing"))

    readers = [threading.Thread(target=search) for _ in range(2)]
    for reader in readers:
        reader.start()
    for n in range(8):
        other = replace(memory("secret"), user=f"bob{n}")
        index.add_texts([other])
        index.add_vectors(BASE, [other], unit([1.0] * 8))
        index.remove_user(other.user)
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert searches
