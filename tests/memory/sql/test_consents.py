"""Users' own choices about training, on a real SQLite and on a real PostgreSQL."""

import pytest

from mongars.errors import ConversationNotFoundError
from mongars.records import Conversation, Turn

SAID = (Turn("user", "hello"), Turn("assistant", "hi"))


def allowed(repository) -> list[str]:
    return [conversation.id for conversation in repository.consented()]


def test_a_choice_applies_to_what_is_stored_and_to_what_comes(repository):
    repository.append_turns("a", "anna", SAID, consent=True)
    repository.append_turns("b", "anna", SAID, consent=False)
    repository.append_turns("c", "bob", SAID, consent=True)
    assert repository.consents.of("anna") is None
    assert repository.consents.put("anna", False) == 1
    repository.append_turns("d", "anna", SAID, consent=True)
    repository.save_conversation(Conversation("e", "anna", SAID, consent=True))
    assert (repository.consents.of("anna"), allowed(repository)) == (False, ["c"])
    assert repository.consents.put("anna", True) == 4
    repository.append_turns("f", "anna", SAID, consent=False)
    assert (repository.consents.of("anna"), allowed(repository)) == (True, list("abcdef"))


def test_a_choice_about_one_conversation_changes_no_other(repository):
    for identity in "ab":
        repository.append_turns(identity, "anna", SAID, consent=True)
    repository.consents.put_conversation("anna", "a", False)
    assert allowed(repository) == ["b"]
    repository.consents.put_conversation("anna", "a", True)
    assert allowed(repository) == ["a", "b"]
    with pytest.raises(ConversationNotFoundError):
        repository.consents.put_conversation("bob", "a", False)


def test_a_choice_is_erased_with_its_user(repository):
    repository.consents.put("anna", True)
    repository.erase_user("anna")
    assert repository.consents.of("anna") is None
