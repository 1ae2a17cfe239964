"""The load's clients record failed requests and continue."""

import socket

from mongars.demo.load import Load, Target


def continued(load: Load) -> bool:
    """Return whether the chat client has sent another request, and the embedding client its first."""
    kinds = [answer.kind for answer in load._answers]
    return kinds.count("chat") > 1 and "embedding" in kinds


def test_clients_record_failed_requests_and_continue() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Load(Target(f"http://127.0.0.1:{port}", ("mg-key",)), ["hello"], clients=2) as load:
        load.drop_pauses()
        with load._arrived:
            assert load._arrived.wait_for(lambda: continued(load), timeout=60)
        assert not load.wait_for("chat", 0, 1, timeout_s=0)
    assert all(answer.failure and "ConnectError" in answer.failure for answer in load.answers)


def test_a_target_does_not_show_its_keys() -> None:
    assert "mg-key" not in repr(Target("http://127.0.0.1:1", ("mg-key",)))
