"""PersistenceRepository on a real SQLite and on a real PostgreSQL."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mongars.errors import ConversationNotFoundError, InputError, RefusedError
from mongars.memory.pages import PageQuery
from mongars.memory.sql.imports import Saved
from mongars.memory.sql.persistence import PersistenceRepository
from mongars.records import ROLES, Conversation, Turn, new_id

NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)
# Without NUL and lone surrogates, which not every database can store.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
TURNS = st.lists(
    st.builds(
        Turn,
        st.sampled_from(ROLES),
        TEXT,
        st.datetimes(
            datetime(1970, 1, 1),
            datetime(2200, 1, 1),
            timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7, minutes=-30))]),
        ),
    ),
    max_size=5,
)


def conversation(identity: str = "c", user: str = "anna", **fields) -> Conversation:
    turns = fields.pop("turns", (Turn("user", "hello", NOON), Turn("assistant", "hi", NOON)))
    return Conversation(identity, user, turns, **({"created_at": NOON, "consent": True} | fields))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=TURNS, source=TEXT.filter(lambda text: 1 <= len(text) <= 255), consent=st.booleans())
def test_any_conversation_is_read_back_as_it_was_saved(repository, turns, source, consent) -> None:
    user = new_id("user")
    saved = conversation(new_id("conv"), user, turns=tuple(turns), source=source, consent=consent)
    assert repository.save_conversation(saved).new
    assert list(repository.export_user(user)) == [saved]


def test_saving_twice_adds_nothing(repository) -> None:
    assert repository.save_conversation(conversation()) == Saved(new=True, appended=2)
    assert repository.save_conversation(conversation()) == Saved()
    assert list(repository.export_user("anna")) == [conversation()]


def test_an_id_of_another_user_is_refused_and_changes_nothing(repository) -> None:
    repository.save_conversation(conversation())
    with pytest.raises(RefusedError, match="taken by another user"):
        repository.save_conversation(conversation(user="bob"))
    with pytest.raises(ConversationNotFoundError):
        repository.append_turns("c", "bob", [Turn("user", "mine now")])
    assert list(repository.export_user("anna")) == [conversation()]


def test_a_turn_without_a_time_gets_that_of_the_conversation(repository) -> None:
    repository.save_conversation(conversation(turns=(Turn("user", "hello"),)))
    (kept,) = repository.export_user("anna")
    assert kept.turns == (Turn("user", "hello", NOON),)


def test_appended_turns_keep_their_order_and_are_returned(repository) -> None:
    first = repository.append_turns("c", "anna", [Turn("user", "one"), Turn("assistant", "two")], consent=True)
    second = repository.append_turns("c", "anna", [Turn("user", "three")], consent=True)
    listed = repository.messages("anna", "c", PageQuery(order="asc"))
    assert listed.data == first + second
    assert [memory.text for memory in listed.data] == ["one", "two", "three"]
    assert repository.append_turns("c", "anna", [], consent=True) == ()


@pytest.mark.parametrize(
    ("consents", "kept"), [((True, True), True), ((True, False), False), ((False, True), False)]
)
def test_consent_lasts_only_while_every_append_gives_it(repository, consents, kept) -> None:
    for consent in consents:
        repository.append_turns("c", "anna", [Turn("user", "x")], consent=consent)
    assert bool(list(repository.consented())) is kept


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_of_conversations_are_complete_and_in_order(repository, order) -> None:
    ids = [f"c{n:02d}" for n in range(7)]
    for identity in reversed(ids):
        repository.save_conversation(conversation(identity))
    repository.save_conversation(conversation("c03b", "bob"))
    seen, after = [], None
    while True:
        page = repository.conversations("anna", PageQuery(limit=3, order=order, after=after))
        seen += [row.id for row in page.data]
        assert all(row.turns == 2 and row.consent and row.user == "anna" for row in page.data)
        if not page.has_more:
            break
        after = seen[-1]
    assert seen == (ids if order == "asc" else ids[::-1])


def test_conversations_are_listed_by_time_whatever_their_ids(repository) -> None:
    for hours, identity in enumerate("bca"):
        repository.save_conversation(conversation(identity, created_at=NOON + timedelta(hours=hours)))
    first = repository.conversations("anna", PageQuery(limit=2))
    rest = repository.conversations("anna", PageQuery(limit=2, after=first.data[-1].id))
    assert [row.id for row in first.data + rest.data] == ["a", "c", "b"]
    with pytest.raises(InputError) as refusal:
        repository.conversations("bob", PageQuery(after="a"))
    assert refusal.value.param == "after"


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_of_messages_are_in_order(repository, order) -> None:
    repository.append_turns("c", "anna", [Turn("user", str(n)) for n in range(5)])
    first = repository.messages("anna", "c", PageQuery(limit=3, order=order))
    rest = repository.messages("anna", "c", PageQuery(limit=3, order=order, after=first.data[-1].id))
    assert (first.has_more, rest.has_more) == (True, False)
    said = [memory.text for memory in first.data + rest.data]
    assert said == (list("01234") if order == "asc" else list("43210"))


def test_an_unknown_message_cannot_start_a_page(repository) -> None:
    repository.append_turns("c", "anna", [Turn("user", "x")])
    with pytest.raises(InputError) as refusal:
        repository.messages("anna", "c", PageQuery(after="msg_unknown"))
    assert refusal.value.param == "after"


@pytest.mark.parametrize("fields", [{"limit": 0}, {"limit": 101}, {"order": "up"}])
def test_an_impossible_page_is_refused(fields) -> None:
    with pytest.raises(InputError):
        PageQuery(**fields)


def test_a_conversation_of_another_user_does_not_exist(repository) -> None:
    repository.save_conversation(conversation())
    for refused in (
        lambda: repository.messages("bob", "c", PageQuery()),
        lambda: repository.delete_conversation("bob", "c"),
        lambda: repository.messages("anna", "none", PageQuery()),
        lambda: repository.delete_conversation("anna", "none"),
    ):
        with pytest.raises(ConversationNotFoundError):
            refused()
    assert list(repository.export_user("anna")) == [conversation()]


def test_ids_are_ordered_byte_by_byte_on_every_database(repository) -> None:
    ids = ["Zebra", "apple", "_x", "été", "a-b", "a b", "A", "日本", "10", "9"]
    for identity in ids:
        repository.save_conversation(conversation(identity))
    assert [each.id for each in repository.consented(chunk=3)] == sorted(ids, key=str.encode)


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_only_conversations_with_consent_are_streamed(repository, chunk) -> None:
    for n in range(6):
        repository.save_conversation(conversation(f"c{n}", consent=n % 3 != 0))
    assert [each.id for each in repository.consented(chunk=chunk)] == ["c1", "c2", "c4", "c5"]
    assert repository.count_consented() == 4
    assert [each.id for each in repository.consented("c2", chunk=chunk)] == ["c4", "c5"]


def test_conversations_older_than_the_retention_limit_are_left_out(repository) -> None:
    repository.save_conversation(conversation("old", created_at=NOON - timedelta(days=1)))
    repository.save_conversation(conversation("new", created_at=NOON))
    assert [each.id for each in repository.consented(newer_than=NOON)] == ["new"]


def test_a_stream_can_be_read_during_writes(repository) -> None:
    for n in range(4):
        repository.save_conversation(conversation(f"c{n}"))
    stream = repository.consented(chunk=2)
    first = next(stream)
    repository.save_conversation(conversation("c9"))
    assert [first.id, *(each.id for each in stream)] == ["c0", "c1", "c2", "c3", "c9"]


def test_every_message_is_streamed_once(repository) -> None:
    kept = repository.append_turns("c", "anna", [Turn("user", str(n)) for n in range(5)])
    kept += repository.append_turns("d", "bob", [Turn("user", "x")])
    chunks = list(repository.memory_chunks(size=4))
    assert [len(chunk) for chunk in chunks] == [4, 2]
    assert chunks[0] + chunks[1] == sorted(kept, key=lambda memory: memory.id)


def test_memories_are_returned_to_their_own_user_only(repository) -> None:
    (kept,) = repository.append_turns("c", "anna", [Turn("user", "x")])
    assert repository.memories("anna", [kept.id, "msg_none"]) == {kept.id: kept}
    assert repository.memories("bob", [kept.id]) == {}
    assert repository.existing([kept.id, "msg_none"]) == {kept.id}


def test_erasing_a_user_leaves_the_others(repository) -> None:
    for n in range(3):
        repository.save_conversation(conversation(f"a{n}"))
    repository.save_conversation(conversation("b", "bob"))
    assert repository.erase_user("anna") == {"conversations": 3, "messages": 6, "feedback": 0, "profiles": 0}
    assert repository.erase_user("anna") == {"conversations": 0, "messages": 0, "feedback": 0, "profiles": 0}
    assert list(repository.export_user("anna")) == []
    assert [each.id for each in repository.consented()] == ["b"]


def test_deleting_a_conversation_deletes_its_messages(repository) -> None:
    (kept,) = repository.append_turns("c", "anna", [Turn("user", "x")])
    repository.delete_conversation("anna", "c")
    assert repository.existing([kept.id]) == set()


@pytest.mark.parametrize("bad", ["a\0b", "half \ud83d pair"])
def test_text_that_not_every_database_can_store_is_refused(repository, bad) -> None:
    for refused in (
        lambda: repository.save_conversation(conversation(turns=(Turn("user", bad),))),
        lambda: repository.save_conversation(conversation(bad)),
        lambda: repository.save_conversation(conversation(user=bad)),
        lambda: repository.save_conversation(conversation(source=bad)),
        lambda: repository.append_turns("c", bad, [Turn("user", "x")]),
        lambda: repository.append_turns("c", "anna", [Turn("user", "x"), Turn("user", bad)]),
        lambda: repository.conversations(bad, PageQuery()),
        lambda: repository.messages("anna", bad, PageQuery()),
        lambda: repository.messages("anna", "c", PageQuery(after=bad)),
        lambda: repository.delete_conversation("anna", bad),
        lambda: repository.erase_user(bad),
        lambda: repository.export_user(bad),
    ):
        with pytest.raises(InputError) as refusal:
            refused()
        assert bad not in str(refusal.value)
    assert list(repository.consented()) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"turns": (Turn("robot", "x", NOON),)},
        {"turns": (Turn("user", "x", datetime(2026, 1, 1)),)},
        {"created_at": datetime(2026, 1, 1)},
        {"identity": ""},
        {"identity": "x" * 256},
        {"user": ""},
    ],
)
def test_an_invalid_conversation_is_refused_as_a_whole(repository, broken) -> None:
    with pytest.raises(InputError):
        repository.save_conversation(conversation(**broken))
    assert list(repository.consented()) == []


def test_the_longest_ids_in_the_widest_characters_are_stored(repository) -> None:
    saved = conversation("😀" * 255, "𝄞" * 255)
    repository.save_conversation(saved)
    assert list(repository.export_user("𝄞" * 255)) == [saved]


def test_migrating_again_keeps_the_rows(repository: PersistenceRepository) -> None:
    repository.save_conversation(conversation())
    repository.migrate()
    assert list(repository.export_user("anna")) == [conversation()]
