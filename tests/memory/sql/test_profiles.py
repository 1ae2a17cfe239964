"""Profiles on a real SQLite and on a real PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from mongars.errors import InputError
from mongars.formats.profile_rules import MAX_VALUES
from mongars.records import Conversation, Profile, Turn

ANNA = Profile(("Anna Moreau",), ("anna@home.example",), ("(514) 555-0123",))


def conversation(identity="c", profile=ANNA, user="anna"):
    return Conversation(identity, user, (Turn("user", "hello"),), consent=True, profile=profile)


def test_a_profile_belongs_to_its_user_and_can_be_replaced(repository):
    assert repository.profiles.put("anna", ANNA) == ANNA
    assert (repository.profiles.of("anna"), repository.profiles.of("bob")) == (ANNA, Profile())
    repository.profiles.put("anna", Profile(names=("Anna M.",)))
    assert repository.profiles.of("anna") == Profile(names=("Anna M.",))


def test_values_are_stripped_and_deduplicated(repository):
    kept = repository.profiles.put("anna", Profile(names=(" Anna ", "Anna", "Zoé")))
    assert kept == repository.profiles.of("anna") == Profile(names=("Anna", "Zoé"))


def test_an_empty_profile_is_deleted(repository):
    repository.profiles.put("anna", ANNA)
    repository.profiles.put("anna", Profile())
    assert repository.erase_user("anna")["profiles"] == 0


def test_erasing_a_user_deletes_only_that_profile(repository):
    repository.profiles.put("anna", ANNA)
    repository.profiles.put("bob", ANNA)
    assert repository.erase_user("anna")["profiles"] == 1
    assert (repository.profiles.of("anna"), repository.profiles.of("bob")) == (Profile(), ANNA)


def test_streamed_conversations_have_the_profile_of_their_user(repository):
    for identity, user in (("c", "anna"), ("d", "anna"), ("e", "bob")):
        repository.append_turns(identity, user, [Turn("user", "hello")], consent=True)
    repository.profiles.put("anna", ANNA)
    assert [each.profile for each in repository.consented()] == [ANNA, ANNA, Profile()]
    assert [each.profile for each in repository.export_user("anna")] == [ANNA, ANNA]


def test_the_profile_of_a_saved_conversation_is_added_to_the_users(repository):
    repository.save_conversation(conversation())
    repository.save_conversation(conversation("d", Profile(names=("Anna Moreau", "Anna Roy"))))
    repository.save_conversation(conversation("e", Profile()))
    assert repository.profiles.of("anna") == Profile(("Anna Moreau", "Anna Roy"), ANNA.emails, ANNA.phones)


def test_a_conversation_with_a_refused_profile_is_not_saved(repository):
    with pytest.raises(InputError):
        repository.save_conversation(conversation(profile=Profile(emails=("nobody",))))
    assert list(repository.consented()) == []


def test_concurrent_puts_leave_one_complete_profile(repository):
    given = [Profile((f"Anna {letter}",), (f"{letter}@home.example",)) for letter in "ABCDEFGH"]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda profile: repository.profiles.put("anna", profile), given))
    assert repository.profiles.of("anna") in given


def test_concurrently_saved_profiles_are_all_added(repository):
    names = [f"Anna {letter}" for letter in "BCDEFGHI"]
    with ThreadPoolExecutor(8) as threads:
        saved = [conversation(name, Profile(names=(name,))) for name in names]
        list(threads.map(repository.save_conversation, saved))
    assert sorted(repository.profiles.of("anna").names) == names


@pytest.mark.parametrize(
    "wrong",
    [
        Profile(names=("A",)),
        Profile(names=("  ",)),
        Profile(names=("An\0na",)),
        Profile(names=("Anna" * 100,)),
        Profile(emails=("home.example",)),
        Profile(emails=("@home.example",)),
        Profile(phones=("555-012",)),
        Profile(phones=("call 514 555 0123",)),
        Profile(names=tuple(f"Anna {number}" for number in range(MAX_VALUES + 1))),
    ],
)
def test_an_invalid_value_is_refused_and_not_repeated_in_the_error(repository, wrong):
    repository.profiles.put("anna", ANNA)
    with pytest.raises(InputError) as refusal:
        repository.profiles.put("anna", wrong)
    assert repository.profiles.of("anna") == ANNA
    values = (*wrong.names, *wrong.emails, *wrong.phones)
    assert not any(value in str(refusal.value) for value in values if len(value.strip()) > 1)
