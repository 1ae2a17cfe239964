"""The load's clients: a server that is not there is a finding, not an end."""

import socket

from mongars.demo.load import Load, Target


def test_requests_that_fail_are_noted_and_the_clients_go_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Load(Target(f"http://127.0.0.1:{port}", ("mg-key",)), ["hello"], clients=2) as load:
        load.flush()
        assert not load.wait_for("chat", 0, 1, timeout_s=1.0)
    assert len(load.answers) >= 2
    assert {answer.kind for answer in load.answers} == {"chat", "embedding"}
    assert all(answer.failure and "ConnectError" in answer.failure for answer in load.answers)


def test_a_key_does_not_show_in_a_target() -> None:
    assert "mg-key" not in repr(Target("http://127.0.0.1:1", ("mg-key",)))
