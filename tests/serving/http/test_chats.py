import pytest

from mongars.serving.http.chats import conversation_id, is_remembered
from mongars.serving.http.schemas import ChatRequest


def request(**fields):
    return ChatRequest(model="mongars", messages=[{"role": "user", "content": "hello"}], **fields)


def test_our_own_id_is_taken_as_it_is_and_before_others():
    assert conversation_id(request(conversation="conv_1"), {"x-chat-id": "7"}, "ada") == "conv_1"
    assert conversation_id(request(), {}, "ada") is None
    assert conversation_id(request(metadata={"topic": "cats"}), {"x-chat-id": " "}, "ada") is None


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({}, {"x-openwebui-chat-id": "7"}),
        ({}, {"x-chat-id": "7"}),
        ({"metadata": {"chat_id": "7"}}, {}),
        ({"metadata": {"conversation": "7"}}, {}),
    ],
)
def test_an_id_of_another_program_is_one_conversation_of_its_user(fields, headers):
    found = conversation_id(request(**fields), headers, "ada")
    assert found == conversation_id(request(), {"x-chat-id": "7"}, "ada")
    assert found.startswith("conv_")
    assert found != conversation_id(request(**fields), headers, "bob")
    assert is_remembered(request(**fields), headers)


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"store": False}, {}),
        ({}, {"x-openwebui-task": "title_generation"}),
        ({}, {"x-openwebui-chat-id": "local:7"}),
        ({"metadata": {"chat_id": "local:7"}}, {}),
    ],
)
def test_a_client_can_keep_an_exchange_out_of_the_memory(fields, headers):
    assert not is_remembered(request(**fields), headers)


def test_an_exchange_is_remembered_unless_the_client_says_otherwise():
    for fields, headers in (({}, {}), ({"store": True}, {}), ({}, {"x-openwebui-task": ""})):
        assert is_remembered(request(**fields), headers)
