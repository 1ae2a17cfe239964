"""Feedback and the opinions in it, on a real SQLite and on a real PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from mongars.errors import FeedbackNotFoundError, InputError, MessageNotFoundError
from mongars.memory.pages import PageQuery
from mongars.records import Opinion, Turn

QUESTION, ANSWER = "where is the key?", "in the car"


@pytest.fixture
def talk(repository):
    """Return talk(conversation, user, consent) -> ids of a question and an answer."""

    def say(conversation="c", user="anna", consent=True, turns=(QUESTION, ANSWER)):
        said = [Turn(role, text) for role, text in zip(("user", "assistant"), turns, strict=True)]
        return [memory.id for memory in repository.append_turns(conversation, user, said, consent=consent)]

    return say


def opinions(repository, conversation="c"):
    (found,) = (each for each in repository.consented() if each.id == conversation)
    return list(found.opinions)


def test_feedback_is_listed_for_its_user_only(repository, talk):
    _, answer = talk()
    given = repository.feedback.give("anna", "thumbs", True, message_id=answer, rationale="it was there")
    assert (given.message_id, given.conversation_id, given.value) == (answer, "c", True)
    assert repository.feedback.page("anna", PageQuery()).data == (given,)
    assert repository.feedback.of_conversation("anna", "c") == (given,)
    assert repository.feedback.page("bob", PageQuery()).data == ()
    assert repository.feedback.of_conversation("bob", "c") == ()


def test_feedback_without_a_message_is_about_the_last_answer(repository, talk):
    talk()
    _, last = talk()
    assert repository.feedback.give("anna", "rating", 4.5, conversation_id="c").message_id == last


def test_repeated_feedback_replaces_the_earlier_one(repository, talk):
    memory, answer = talk()
    for value in (True, False):
        repository.feedback.give("anna", "thumbs", value, message_id=answer)
        repository.feedback.give("anna", "retrieval", value, message_id=answer, memory_id=memory)
    repository.feedback.give("anna", "retrieval", True, message_id=answer, memory_id=answer)
    page = repository.feedback.page("anna", PageQuery(order="asc"))
    assert [(each.name, each.memory_id, each.value) for each in page.data] == [
        ("thumbs", None, False),
        ("retrieval", memory, False),
        ("retrieval", answer, True),
    ]


def test_concurrent_feedback_on_one_answer_leaves_one_record(repository, talk):
    _, answer = talk()

    def give(number):
        about = {"message_id": answer} if number % 2 else {"conversation_id": "c"}
        return repository.feedback.give("anna", "rating", float(number), **about)

    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(give, range(24)))
    (kept,) = repository.feedback.page("anna", PageQuery()).data
    assert kept in given


def test_thumbs_and_corrections_become_opinions_about_the_question(repository, talk):
    _, first = talk()
    _, second = talk(turns=("and the book?", "on the shelf"))
    repository.feedback.give("anna", "thumbs", True, message_id=second)
    repository.feedback.give("anna", "correction", "in the drawer", message_id=first)
    repository.feedback.give("anna", "rating", 1, message_id=first)
    repository.feedback.give("anna", "comment", "so la la", message_id=first)
    assert opinions(repository) == [
        Opinion("and the book?", "on the shelf", True),
        Opinion(QUESTION, ANSWER, False),
        Opinion(QUESTION, "in the drawer", True),
    ]


def test_an_opinion_on_an_answer_that_was_generated_again_is_about_its_own_question(repository):
    said = [Turn(role, text) for role, text in (("user", "hi"), ("assistant", "yes?"))]
    sent = tuple(said)

    def add(question, answer):
        exchange = (Turn("user", question), Turn("assistant", answer))
        return repository.append_turns("c", "anna", exchange, sent=sent, consent=True)[-1].id

    repository.append_turns("c", "anna", said, consent=True)
    add("where is the key?", "lost")
    add("where is the car?", "outside")
    again = add("where is the key?", "in the car")
    repository.feedback.give("anna", "thumbs", True, message_id=again)
    assert opinions(repository) == [Opinion("where is the key?", "in the car", True)]


def test_a_memory_counts_only_with_consent_to_its_conversation(repository, talk):
    open_memory, _ = talk("open", turns=("the key is in the car", "good"))
    closed_memory, _ = talk("closed", consent=False, turns=("the key is lost", "oh"))
    _, answer = talk()
    repository.feedback.give("anna", "retrieval", True, message_id=answer, memory_id=open_memory)
    repository.feedback.give("anna", "retrieval", False, message_id=answer, memory_id=closed_memory)
    assert opinions(repository) == [Opinion(QUESTION, "the key is in the car", True)]


def test_an_answer_without_a_question_gives_no_opinion(repository):
    (hello,) = repository.append_turns("c", "anna", [Turn("assistant", "hello")], consent=True)
    repository.feedback.give("anna", "thumbs", True, message_id=hello.id)
    assert opinions(repository) == []


def test_messages_and_feedback_of_another_user_are_not_found(repository, talk):
    _, answer = talk()
    others, _ = talk("d", "bob")
    given = repository.feedback.give("anna", "thumbs", True, message_id=answer)
    with pytest.raises(MessageNotFoundError):
        repository.feedback.give("bob", "thumbs", False, message_id=answer)
    with pytest.raises(MessageNotFoundError):
        repository.feedback.give("bob", "thumbs", False, conversation_id="c")
    with pytest.raises(MessageNotFoundError):
        repository.feedback.give("anna", "retrieval", True, message_id=answer, memory_id=others)
    with pytest.raises(FeedbackNotFoundError):
        repository.feedback.withdraw("bob", given.id)
    repository.feedback.withdraw("anna", given.id)
    with pytest.raises(FeedbackNotFoundError):
        repository.feedback.withdraw("anna", given.id)


@pytest.mark.parametrize(
    ("name", "value", "memory"),
    [
        ("thumbs", 1, False),
        ("thumbs", "yes", False),
        ("thumbs", True, True),
        ("retrieval", True, False),
        ("retrieval", 0.5, True),
        ("rating", True, False),
        ("rating", float("nan"), False),
        ("comment", " ", False),
        ("correction", False, False),
        ("comment", "a\0b", False),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(repository, talk, name, value, memory):
    question, answer = talk()
    with pytest.raises(InputError):
        repository.feedback.give("anna", name, value, message_id=answer, memory_id=question if memory else None)
    assert repository.feedback.page("anna", PageQuery()).data == ()


@pytest.mark.parametrize("about", [{}, {"message_id": "m", "conversation_id": "c"}])
def test_feedback_must_name_exactly_one_answer(repository, about):
    with pytest.raises(InputError, match="message_id or conversation_id"):
        repository.feedback.give("anna", "thumbs", True, **about)


def test_only_answers_get_feedback(repository, talk):
    question, _ = talk()
    with pytest.raises(InputError, match="about answers"):
        repository.feedback.give("anna", "thumbs", True, message_id=question)


def test_feedback_is_deleted_with_its_conversation_memory_or_user(repository, talk):
    memory, _ = talk("old")
    _, answer = talk()
    repository.feedback.give("anna", "thumbs", True, message_id=answer)
    repository.feedback.give("anna", "retrieval", True, message_id=answer, memory_id=memory)
    repository.delete_conversation("anna", "old")
    assert [each.name for each in repository.feedback.page("anna", PageQuery()).data] == ["thumbs"]
    _, other = talk("d")
    repository.feedback.give("anna", "thumbs", True, message_id=other)
    repository.delete_conversation("anna", "d")
    assert [each.message_id for each in repository.feedback.page("anna", PageQuery()).data] == [answer]
    assert repository.erase_user("anna") == {"conversations": 1, "messages": 2, "feedback": 1, "profiles": 0}
    assert repository.feedback.page("anna", PageQuery()).data == ()
