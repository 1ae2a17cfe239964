"""Hippocampus over a real SQLite, index and cache, with a fake encoder."""

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from mongars.errors import BackendError, ConversationNotFoundError, InputError
from mongars.memory.hippocampus import Hippocampus, Recall
from mongars.memory.index.index import MemoryIndex
from mongars.memory.index.indexing import FILL_BATCH
from mongars.memory.pages import PageQuery
from mongars.memory.sql.persistence import PersistenceRepository
from mongars.records import AdapterStamp, ChatRef, Conversation, Memory, Turn
from tests.memory.conftest import BASE, FakeEmbedder

OF_BASE = AdapterStamp(0, base=BASE).vector_space


def user_turns(*texts: str) -> list[Turn]:
    return [Turn("user", text) for text in texts]


def texts_of(recall: Recall) -> list[str]:
    return [memory.text for memory in recall.memories]


def files_with(folder: Path, needle: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and needle.encode() in path.read_bytes()]


async def test_a_memory_is_recalled_with_its_scores(hippocampus: Hippocampus) -> None:
    kept = await hippocampus.remember(
        "c1", "anna", user_turns("my cat is called Mina", "I work in Lyon"), consent=True
    )
    recall = await hippocampus.recall("anna", "what is the name of my cat", k=1)
    assert recall.memories[0].id == kept[0].id
    assert 0 < recall.memories[0].score <= 1
    assert set(recall.memories[0].retriever_scores) == {"lexical", "dense"}
    assert recall.stamp.digest is None


async def test_turns_are_indexed_together_before_a_recall_or_an_erasure(
    hippocampus, embedder, monkeypatch
) -> None:
    monkeypatch.setattr(hippocampus._commits, "_max_wait_s", 600)
    await hippocampus.remember("c1", "anna", user_turns("my cat is called Mina"), consent=True)
    await hippocampus.remember("c2", "bob", user_turns("my dog is called Rex"), consent=True)
    assert embedder.calls == []
    assert texts_of(await hippocampus.recall("bob", "dog")) == ["my dog is called Rex"]
    assert embedder.calls[0] == ["my cat is called Mina", "my dog is called Rex"]
    await hippocampus.remember("c3", "anna", user_turns("my cat is old"), consent=True)
    assert (await hippocampus.forget_user("anna"))["index"] == 2


async def test_another_user_recalls_nothing(hippocampus: Hippocampus) -> None:
    await hippocampus.remember("c1", "anna", user_turns("my cat is called Mina"), consent=True)
    assert (await hippocampus.recall("bob", "cat Mina")).memories == ()


async def test_a_recall_for_a_chat_finds_its_conversation_and_as_many_more_as_the_prompt_has_turns(
    hippocampus: Hippocampus,
) -> None:
    await hippocampus.remember("old", "anna", user_turns("the cat sleeps"), consent=False)
    await hippocampus.remember("now", "anna", user_turns("the cat eats", "the cat plays"), consent=False)
    recall = await hippocampus.recall("anna", "cat", 1, chat=ChatRef("now"))
    assert [one.text for one in recall.earlier] == ["the cat eats", "the cat plays"]
    assert sorted(texts_of(recall)) == ["the cat eats", "the cat plays", "the cat sleeps"]
    sent = tuple(user_turns("the cat eats", "the cat plays"))
    recall = await hippocampus.recall("anna", "cat", 1, chat=ChatRef(sent=sent))
    assert (recall.conversation_id, recall.earlier) == ("now", ())
    with pytest.raises(ConversationNotFoundError):
        await hippocampus.recall("bob", "cat", chat=ChatRef("now"))


async def test_what_another_process_imports_is_found_at_the_next_check(
    hippocampus: Hippocampus, sqlite_repository: PersistenceRepository, embedder: FakeEmbedder
) -> None:
    turns = (Turn("user", "my hound is called Rex"), Turn("assistant", "a good name"))
    sqlite_repository.save_conversation(Conversation("c", "anna", turns))
    assert (await hippocampus.recall("anna", "dog")).memories == ()
    embedder.error = BackendError("The encoder is away.")
    with pytest.raises(BackendError):
        await hippocampus.index_imports()
    assert hippocampus.needs_reindex
    embedder.error = None
    assert await hippocampus.follow_encoder() == 2
    sqlite_repository.save_conversation(Conversation("d", "anna", turns))
    assert await hippocampus.index_imports() == 2
    assert await hippocampus.index_imports() == 0
    assert len((await hippocampus.recall("anna", "dog")).memories) == 4


async def test_the_dense_retriever_finds_texts_that_share_no_word(hippocampus: Hippocampus) -> None:
    await hippocampus.remember(
        "c", "anna", user_turns("we adopted a puppy", "rain falls on Monday"), consent=False
    )
    assert texts_of(await hippocampus.recall("anna", "hound", k=1)) == ["we adopted a puppy"]


async def test_system_messages_and_blank_turns_are_stored_but_not_recalled(hippocampus, sqlite_repository) -> None:
    turns = [Turn("system", "you are a helpful cat"), Turn("user", "  "), Turn("user", "my cat")]
    assert len(await hippocampus.remember("c", "anna", turns, consent=False)) == 3
    assert texts_of(await hippocampus.recall("anna", "cat")) == ["my cat"]
    assert len(sqlite_repository.messages("anna", "c", PageQuery()).data) == 3


async def test_rows_without_a_vector_of_the_new_encoder_are_found_by_their_words(hippocampus, embedder) -> None:
    await hippocampus.remember("c", "anna", user_turns("the red bicycle"), consent=False)
    await hippocampus.wait_indexed()
    embedder.switch("a" * 64)
    recall = await hippocampus.recall("anna", "bicycle")
    assert recall.stamp.digest == "a" * 64
    assert [(m.text, set(m.retriever_scores)) for m in recall.memories] == [("the red bicycle", {"lexical"})]


async def test_reembed_fills_the_current_vector_space_once(hippocampus, embedder) -> None:
    await hippocampus.remember("c", "anna", user_turns("a puppy", "a car", "some rain"), consent=False)
    await hippocampus.wait_indexed()
    embedder.switch("b" * 64)
    assert await hippocampus.reembed(limit=2) == 2
    assert await hippocampus.reembed() == 1
    assert await hippocampus.reembed() == 0
    assert texts_of(await hippocampus.recall("anna", "hound", k=1)) == ["a puppy"]


async def test_reembed_makes_small_calls_with_pauses(hippocampus, embedder, monkeypatch) -> None:
    real_sleep, pauses = asyncio.sleep, list[float]()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await real_sleep(seconds)

    await hippocampus.remember(
        "c", "anna", user_turns(*(f"line {n}" for n in range(FILL_BATCH + 1))), consent=False
    )
    await hippocampus.wait_indexed()
    embedder.switch("b" * 64)
    embedder.calls.clear()
    monkeypatch.setattr("mongars.memory.index.indexing.asyncio.sleep", sleep)
    assert await hippocampus.reembed() == FILL_BATCH + 1
    assert [len(call) for call in embedder.calls] == [FILL_BATCH, 1]
    assert len(pauses) == 2
    assert all(pause > 0 for pause in pauses)


async def test_reembed_drops_the_vector_spaces_of_outdated_encoders(hippocampus, embedder, index) -> None:
    (kept,) = await hippocampus.remember("c", "anna", user_turns("a puppy"), consent=False)
    spaces = []
    for digest in (None, *(letter * 64 for letter in "abcd")):
        embedder.switch(digest)
        spaces.append((await embedder.stamp()).vector_space)
        await hippocampus.reembed()
    assert [each for each in spaces if not index.missing_vectors(each, [kept.id])] == spaces[-3:]


async def test_a_new_encoder_is_followed_at_the_start_and_once_it_stays(hippocampus, embedder) -> None:
    await hippocampus.remember("c", "anna", user_turns("a puppy"), consent=False)
    await hippocampus.wait_indexed()
    embedder.switch("a" * 64)
    assert await hippocampus.follow_encoder() == 1
    embedder.switch("b" * 64)
    assert await hippocampus.follow_encoder() == 0
    embedder.switch("c" * 64)
    assert await hippocampus.follow_encoder() == 0
    assert await hippocampus.follow_encoder() == 1
    assert await hippocampus.follow_encoder() == 0


async def test_missing_turns_do_not_wait_for_an_encoder_to_stay(hippocampus, embedder) -> None:
    await hippocampus.follow_encoder()
    embedder.error = BackendError("no answer")
    await hippocampus.remember("c", "anna", user_turns("a puppy"), consent=False)
    await hippocampus.wait_indexed()
    embedder.error = None
    embedder.switch("a" * 64)
    assert hippocampus.needs_reindex
    assert await hippocampus.follow_encoder() == 1
    assert not hippocampus.needs_reindex


async def test_vectors_go_into_the_space_of_the_encoder_that_made_them(hippocampus, embedder, index) -> None:
    real_embed = embedder.embed

    async def switching(texts):
        embedder.switch("c" * 64)
        return await real_embed(texts)

    embedder.embed = switching
    kept = await hippocampus.remember("c", "anna", user_turns("a puppy"), consent=False)
    await hippocampus.wait_indexed()
    ids = [memory.id for memory in kept]
    assert index.missing_vectors("c" * 64, ids) == set()
    assert index.missing_vectors(OF_BASE, ids) == set(ids)


async def test_a_query_is_embedded_once_for_each_encoder(hippocampus, embedder) -> None:
    await hippocampus.remember("c", "anna", user_turns("a puppy"), consent=False)
    await hippocampus.wait_indexed()
    embedder.calls.clear()
    first = await hippocampus.recall("anna", "hound")
    assert texts_of(await hippocampus.recall("anna", "hound")) == texts_of(first)
    assert embedder.calls == [["hound"]]
    embedder.switch("d" * 64)
    await hippocampus.recall("anna", "hound")
    assert embedder.calls == [["hound"], ["hound"]]


async def test_the_query_of_a_recall_is_not_embedded_again_as_a_turn(hippocampus, embedder, index) -> None:
    await hippocampus.recall("anna", "where is the hound?")
    exchange = [Turn("user", "where is the hound?"), Turn("assistant", "in the car")]
    embedder.calls.clear()
    memories = await hippocampus.remember("c", "anna", exchange, consent=False)
    await hippocampus.wait_indexed()
    assert embedder.calls == [["in the car"]]
    assert index.missing_vectors(OF_BASE, [memory.id for memory in memories]) == set()
    embedder.switch("d" * 64)  # the cached vector is of another encoder
    await hippocampus.remember("c", "anna", exchange, consent=False)
    await hippocampus.wait_indexed()
    assert embedder.calls[1] == ["where is the hound?", "in the car"]


async def test_users_do_not_share_cached_queries(hippocampus, embedder) -> None:
    await hippocampus.recall("anna", "hound")
    await hippocampus.recall("bob", "hound")
    assert embedder.calls == [["hound"], ["hound"]]


async def test_a_failing_embedder_loses_no_turn(hippocampus, embedder, caplog) -> None:
    embedder.error = BackendError("The encoder is down.")
    await hippocampus.remember("c", "anna", user_turns("the red bicycle"), consent=False)
    await hippocampus.wait_indexed()
    assert hippocampus.needs_reindex
    assert "BackendError" in caplog.text
    assert "bicycle" not in caplog.text
    embedder.error = None
    assert texts_of(await hippocampus.recall("anna", "bicycle")) == ["the red bicycle"]
    assert await hippocampus.reembed() == 1
    assert not hippocampus.needs_reindex


async def test_turns_are_stored_before_they_are_indexed_and_recall_waits(
    hippocampus, embedder, sqlite_repository
) -> None:
    embedding, go = asyncio.Event(), asyncio.Event()
    real_embed = embedder.embed

    async def slow(texts: Iterable[str]):
        if "a puppy" in (texts := list(texts)):  # the turn, not the query
            embedding.set()
            await go.wait()
        return await real_embed(texts)

    embedder.embed = slow
    kept = await hippocampus.remember("c", "anna", user_turns("a puppy"), consent=False)
    assert sqlite_repository.existing([memory.id for memory in kept]) == {memory.id for memory in kept}
    await embedding.wait()
    recalling = asyncio.create_task(hippocampus.recall("anna", "hound"))
    assert texts_of(await hippocampus.recall("bob", "hound")) == []  # other users do not wait
    assert not recalling.done()
    go.set()
    assert texts_of(await recalling) == ["a puppy"]


async def test_remember_waits_when_too_many_calls_are_pending(hippocampus, embedder, monkeypatch) -> None:
    monkeypatch.setattr("mongars.memory.hippocampus.MAX_PENDING", 1)
    go = asyncio.Event()
    real_embed = embedder.embed

    async def slow(texts: Iterable[str]):
        await go.wait()
        return await real_embed(texts)

    embedder.embed = slow
    await hippocampus.remember("c1", "anna", user_turns("a puppy"), consent=False)
    second = asyncio.create_task(hippocampus.remember("c2", "anna", user_turns("a car"), consent=False))
    done, _ = await asyncio.wait([second], timeout=0.2)
    assert not done
    go.set()
    await second


async def test_reembed_adds_turns_that_a_crash_kept_out_of_the_index(hippocampus, sqlite_repository) -> None:
    sqlite_repository.append_turns("c", "anna", user_turns("the red bicycle"))
    assert (await hippocampus.recall("anna", "bicycle")).memories == ()
    await hippocampus.reembed()
    assert texts_of(await hippocampus.recall("anna", "bicycle")) == ["the red bicycle"]


async def test_a_removed_index_is_filled_from_sql_at_the_next_start(
    hippocampus, sqlite_repository, embedder, cache, index_folder: Path
) -> None:
    await hippocampus.remember("c", "anna", user_turns("a puppy", "the red bicycle", "rain"), consent=False)
    before = await hippocampus.recall("anna", "bicycle hound")
    shutil.rmtree(index_folder)
    started = Hippocampus(sqlite_repository, MemoryIndex(str(index_folder)), embedder, cache)
    assert await started.follow_encoder() == 3
    after = await started.recall("anna", "bicycle hound")
    assert [(m.id, pytest.approx(m.score)) for m in after.memories] == [(m.id, m.score) for m in before.memories]


async def test_vectors_of_another_base_are_never_compared(hippocampus, embedder) -> None:
    await hippocampus.remember("c", "anna", user_turns("a puppy"), consent=False)
    assert texts_of(await hippocampus.recall("anna", "hound")) == ["a puppy"]
    embedder.base = "c" * 64
    assert texts_of(await hippocampus.recall("anna", "hound")) == []
    assert await hippocampus.follow_encoder() == 1
    assert texts_of(await hippocampus.recall("anna", "hound")) == ["a puppy"]


async def test_turns_deleted_from_sql_are_not_recalled(hippocampus, sqlite_repository) -> None:
    await hippocampus.remember("c", "anna", user_turns("the red bicycle"), consent=False)
    sqlite_repository.delete_conversation("anna", "c")
    assert (await hippocampus.recall("anna", "bicycle")).memories == ()


async def test_a_forgotten_conversation_leaves_no_byte_on_the_disk(
    hippocampus, sqlite_path: Path, tmp_path: Path
) -> None:
    await hippocampus.remember(
        "keep", "anna", user_turns(*(f"harmless line {n}" for n in range(50))), consent=True
    )
    await hippocampus.remember(
        "drop", "anna", user_turns("Zanzibarquux", "my code is 7731-ABRACADABRA"), consent=True
    )
    await hippocampus.recall("anna", "Zanzibarquux")
    for needle in ("Zanzibarquux", "7731-ABRACADABRA"):
        places = {path.relative_to(tmp_path / "var").parts[0] for path in files_with(tmp_path / "var", needle)}
        assert "index" in places
        assert any(place.startswith(sqlite_path.name) for place in places)

    await hippocampus.forget_conversation("anna", "drop")

    for needle in ("Zanzibarquux", "zanzibarquux", "7731-ABRACADABRA", "drop"):
        assert files_with(tmp_path / "var", needle) == []
    assert len((await hippocampus.recall("anna", "harmless line", k=100)).memories) == 50


async def test_a_forgotten_user_leaves_no_byte_on_the_disk(hippocampus, tmp_path: Path) -> None:
    await hippocampus.remember("c1", "anna@example", user_turns("Zanzibarquux rises"), consent=True)
    await hippocampus.remember("c2", "bob", user_turns(*(f"harmless line {n}" for n in range(50))), consent=True)
    await hippocampus.recall("anna@example", "Zanzibarquux")
    removed = await hippocampus.forget_user("anna@example")
    assert removed == {"conversations": 1, "messages": 1, "feedback": 0, "profiles": 0, "index": 1, "cache": 2}
    for needle in ("Zanzibarquux", "zanzibarquux", "anna@example"):
        assert files_with(tmp_path / "var", needle) == []
    assert (await hippocampus.forget_user("anna@example"))["messages"] == 0


async def test_forgetting_can_be_repeated_after_a_failure(hippocampus, sqlite_repository, index) -> None:
    kept = await hippocampus.remember("c", "anna", user_turns("the red bicycle"), consent=False)
    sqlite_repository.delete_conversation("anna", "c")  # and then the process died
    with pytest.raises(ConversationNotFoundError):
        await hippocampus.forget_conversation("anna", "c")
    assert index.missing_texts([kept[0].id]) == {kept[0].id}


async def test_a_user_cannot_forget_the_conversation_of_another(hippocampus) -> None:
    await hippocampus.remember("c", "anna", user_turns("the red bicycle"), consent=False)
    with pytest.raises(ConversationNotFoundError):
        await hippocampus.forget_conversation("bob", "c")
    assert texts_of(await hippocampus.recall("anna", "bicycle")) == ["the red bicycle"]


async def test_forgetting_waits_for_turns_that_are_being_indexed(hippocampus, tmp_path) -> None:
    kept = await hippocampus.remember("c", "anna", user_turns("Zanzibarquux rises"), consent=True)
    removed = await hippocampus.forget_user("anna")
    assert removed["index"] == len(kept)
    assert files_with(tmp_path, "Zanzibarquux") == []


async def test_turns_indexed_after_they_were_forgotten_are_removed(
    hippocampus, embedder, index, monkeypatch
) -> None:
    monkeypatch.setattr("mongars.memory.hippocampus.FORGET_WAIT_S", 0.01)  # the encoder hangs for longer
    inside, forgotten = asyncio.Event(), asyncio.Event()
    real_embed = embedder.embed

    async def slow(texts: Iterable[str]):
        inside.set()
        await forgotten.wait()
        return await real_embed(list(texts))

    embedder.embed = slow
    kept: tuple[Memory, ...] = await hippocampus.remember(
        "c", "anna", user_turns("the red bicycle"), consent=False
    )
    await inside.wait()
    await hippocampus.forget_user("anna")
    forgotten.set()
    await hippocampus.wait_indexed()
    ids = [memory.id for memory in kept]
    assert index.missing_texts(ids) == index.missing_vectors(OF_BASE, ids) == set(ids)


@pytest.mark.parametrize("k", [0, 101])
async def test_an_impossible_number_of_memories_is_refused(hippocampus, k: int) -> None:
    with pytest.raises(InputError):
        await hippocampus.recall("anna", "cat", k)


async def test_concurrent_recalls_return_their_own_users_memories(
    hippocampus: Hippocampus, sqlite_repository: PersistenceRepository, index: MemoryIndex
) -> None:
    users = [f"user{n}" for n in range(12)]
    await asyncio.gather(
        *(
            hippocampus.remember(f"c-{user}", user, user_turns(f"{user} owns a car"), consent=False)
            for user in users
        )
    )
    recalls = await asyncio.gather(*(hippocampus.recall(user, "car") for user in users))
    assert [texts_of(recall) for recall in recalls] == [[f"{user} owns a car"] for user in users]
